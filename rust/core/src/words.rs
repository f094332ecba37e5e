//! Words as dedup and decontamination count them: runs of letters and digits, lower-cased; and hashes of runs of words.

use xxhash_rust::xxh3::xxh3_64;

/// The words of a text, in order.
#[must_use]
pub fn words(text: &str) -> Words<'_> {
    Words { text, at: 0 }
}

/// See [`words`].
#[derive(Debug)]
pub struct Words<'text> {
    text: &'text str,
    at: usize,
}

/// One word, and where it starts in its text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'text> {
    /// Its letters as the text has them.
    pub letters: &'text str,
    /// Its first byte.
    pub start: usize,
}

impl Words<'_> {
    /// Goes on to the first place from which letters and digits begin (`wanted`) or end.
    fn skip_until(&mut self, wanted: bool) {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            // Nearly all text is ASCII; only the rest needs the Unicode tables.
            let (is_word, length) = if byte.is_ascii() {
                (byte.is_ascii_alphanumeric(), 1)
            } else {
                self.text[self.at..].chars().next().map_or((false, 1), |letter| (letter.is_alphanumeric(), letter.len_utf8()))
            };
            if is_word == wanted {
                return;
            }
            self.at += length;
        }
    }
}

impl<'text> Iterator for Words<'text> {
    type Item = Word<'text>;

    fn next(&mut self) -> Option<Word<'text>> {
        self.skip_until(true);
        let start = self.at;
        self.skip_until(false);
        (start < self.at).then(|| Word { letters: &self.text[start..self.at], start })
    }
}

/// The hash of a word, lower-cased.
#[must_use]
pub fn hash_word(word: &str) -> u64 {
    let mut lower = [0; 32];
    match lower.get_mut(..word.len()) {
        Some(lower) if word.is_ascii() => {
            lower.copy_from_slice(word.as_bytes());
            lower.make_ascii_lowercase();
            xxh3_64(lower)
        }
        _ => xxh3_64(word.to_lowercase().as_bytes()),
    }
}

/// One hash of the hashes of several words in order.
#[must_use]
pub fn hash_run(words: &[u64]) -> u64 {
    words.iter().fold(1, |hash, word| (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits_and_know_their_place() {
        let text = "  Don't—stop: ÄRGER 3x, 日本語!";
        let found: Vec<_> = words(text).collect();
        assert_eq!(found.iter().map(|word| word.letters).collect::<Vec<_>>(), ["Don", "t", "stop", "ÄRGER", "3x", "日本語"]);
        assert!(found.iter().all(|word| text[word.start..].starts_with(word.letters)));
        assert_eq!(words(" …?! ").next(), None);
    }

    #[test]
    fn case_changes_no_hash_and_order_does() {
        assert_eq!(hash_word("ÄRGER"), hash_word("ärger"));
        assert_eq!(hash_word(&"LONG".repeat(20)), hash_word(&"long".repeat(20)));
        assert_ne!(hash_run(&[1, 2, 3]), hash_run(&[1, 3, 2]));
    }
}
