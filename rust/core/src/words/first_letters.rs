//! Tells most words that are not in a list by their length and first letter.

/// More letters than a listed word has.
const LETTERS_MAX: usize = 24;

/// By the number of letters of a word, a bit for each letter with which a listed one begins.
/// `_` and `-` are not counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstLetters([u32; LETTERS_MAX]);

impl FirstLetters {
    /// Those of a list.
    #[must_use]
    pub const fn of(words: &[&str]) -> FirstLetters {
        FirstLetters([0; LETTERS_MAX]).and(words)
    }

    /// These and those of a list.
    #[must_use]
    pub const fn and(mut self, words: &[&str]) -> FirstLetters {
        let mut index = 0;
        while index < words.len() {
            let (bytes, mut offset, mut letters) = (words[index].as_bytes(), 0, 0);
            while offset < bytes.len() {
                letters += !is_separator(bytes[offset]) as usize;
                offset += 1;
            }
            self.0[letters] |= bit(bytes[0]);
            index += 1;
        }
        self
    }

    /// Whether a word with this first letter, of any case, and number of letters may be listed.
    #[must_use]
    pub fn have(&self, first: u8, letters: usize) -> bool {
        self.0.get(letters).is_some_and(|firsts| firsts & bit(first) != 0)
    }
}

/// Whether a byte separates the words of a name.
#[must_use]
pub const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'_' | b'-')
}

/// Capitals have the bits of their small letters.
const fn bit(letter: u8) -> u32 {
    1 << (letter & 31)
}
