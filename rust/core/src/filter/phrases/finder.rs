//! Finds phrases in a text whatever its quotes, case and spacing, without a copy of the text.
//!
//! Each phrase is searched by its rarest word, and the rest is compared only at occurrences of that
//! word. Three letters of each such word are compared with 32 positions of the text at a time, so
//! most text is skipped at a few cycles per byte.

use std::cmp::Reverse;

use super::{Quotes, plain};

/// Number of positions compared at a time.
const BLOCK: usize = 32;
/// A block and the two bytes after it.
const WINDOW: usize = BLOCK + 2;
/// Letters from the most to the least frequent in English.
const FREQUENCY: &[u8] = b"etaoinshrdlcumwfgypbvkjxqz";
/// Words so common that another word of the phrase is a better search key.
const COMMON: [&str; 24] = [
    "a", "an", "and", "any", "are", "as", "at", "be", "but", "can", "cannot", "do", "for", "from",
    "have", "i", "in", "is", "just", "my", "not", "only", "that", "the",
];

/// Phrases, grouped by their search key.
pub(super) struct Finder {
    needles: Vec<Needle>,
    quotes: Quotes,
}

/// A search key for vector comparison, and the phrases that may contain it.
struct Needle {
    triple: Triple,
    phrases: Vec<Phrase>,
}

/// Three consecutive bytes with lowercase letters: part of a word, or a word of two bytes after a
/// byte that is not a letter.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Triple {
    /// `None` is any byte except an ASCII letter.
    first: Option<u8>,
    second: u8,
    third: u8,
}

/// One phrase in plain form, split into its rarest word and the text around it.
struct Phrase {
    number: usize,
    /// The text before the word, reversed.
    before: Vec<char>,
    word: String,
    after: Vec<char>,
    /// The offset of the word relative to the triple's first byte, usually negative.
    word_from_triple: isize,
    /// Bytes of the plain form.
    length: usize,
}

impl Finder {
    /// Builds a finder. Returns `None` if a phrase has no word of two bytes to search for.
    pub(super) fn new(phrases: &[String], quotes: Quotes) -> Option<Finder> {
        let mut needles: Vec<Needle> = Vec::new();
        for (number, phrase) in phrases.iter().enumerate() {
            let (triple, phrase) = Phrase::new(number, &plain(phrase, quotes))?;
            match needles.iter_mut().find(|needle| needle.triple == triple) {
                Some(needle) => needle.phrases.push(phrase),
                None => needles.push(Needle { triple, phrases: vec![phrase] }),
            }
        }
        Some(Finder { needles, quotes })
    }

    /// Adds the phrases that occur in the text with no letter or digit directly before or after
    /// them, if `keep` accepts the text before them. They are ordered by their starts, and the
    /// longest comes first among those that start together.
    pub(super) fn find(&self, text: &str, keep: impl Fn(&str) -> bool, hits: &mut Vec<usize>) {
        let mut found: Vec<(usize, Reverse<usize>, usize)> = Vec::new();
        each_window(text.as_bytes(), |before, window| {
            for needle in self.needles.iter().filter(|needle| needle.triple.is_in(window)) {
                for position in
                    (0..BLOCK).filter(|position| needle.triple.starts(window, *position))
                {
                    let starts = needle.phrases.iter().filter_map(|phrase| {
                        let word = (before + position)
                            .checked_add_signed(phrase.word_from_triple)?
                            .checked_sub(1)?;
                        phrase
                            .start(text, word, self.quotes)
                            .filter(|start| keep(&text[..*start]))
                            .map(|start| (start, Reverse(phrase.length), phrase.number))
                    });
                    found.extend(starts);
                }
            }
        });
        found.sort_unstable();
        hits.extend(found.into_iter().map(|(_, _, number)| number));
    }
}

/// Calls `look` with lowercase windows that together cover a space before the text, the text, and
/// spaces after it. It also passes the offset of each window's first byte, counted from the leading
/// space.
fn each_window(bytes: &[u8], mut look: impl FnMut(usize, &[u8; WINDOW])) {
    for start in (0..=bytes.len()).step_by(BLOCK) {
        let whole = start.checked_sub(1).and_then(|before| bytes[before..].first_chunk().copied());
        let mut window = whole.unwrap_or_else(|| padded(bytes, start));
        window.iter_mut().for_each(|byte| *byte |= 0x20);
        look(start, &window);
    }
}

/// Returns the window at `start`, counted from the space before the text, if it extends beyond the
/// text.
fn padded(bytes: &[u8], start: usize) -> [u8; WINDOW] {
    let mut window = [b' '; WINDOW];
    let (from, skipped) = (start.saturating_sub(1), usize::from(start == 0));
    let taken = (WINDOW - skipped).min(bytes.len() - from);
    window[skipped..skipped + taken].copy_from_slice(&bytes[from..from + taken]);
    window
}

impl Triple {
    /// Returns the rarest triple of a word and the word's offset relative to it, or `None` for a
    /// word of one byte.
    fn rarest(word: &str) -> Option<(Triple, isize)> {
        let lower: Vec<u8> = word.bytes().map(|byte| byte | 0x20).collect();
        if let [second, third] = lower[..] {
            return Some((Triple { first: None, second, third }, 1));
        }
        let rank = |byte: &u8| {
            FREQUENCY.iter().position(|letter| letter == byte).unwrap_or(FREQUENCY.len())
        };
        let triples = lower.windows(3).enumerate();
        let (position, letters) =
            triples.max_by_key(|(_, letters)| letters.iter().map(rank).sum::<usize>())?;
        let [first, second, third] = *letters.first_chunk()?;
        Some((Triple { first: Some(first), second, third }, -position.cast_signed()))
    }

    /// Whether it starts anywhere in the window's block.
    fn is_in(self, window: &[u8; WINDOW]) -> bool {
        match self.first {
            Some(first) => {
                any(window, |[a, b, c]| (a == first) & (b == self.second) & (c == self.third))
            }
            None => {
                any(window, |[a, b, c]| is_no_letter(a) & (b == self.second) & (c == self.third))
            }
        }
    }

    fn starts(self, window: &[u8; WINDOW], position: usize) -> bool {
        let first = window[position];
        self.first.map_or_else(|| is_no_letter(first), |letter| letter == first)
            && window[position + 1] == self.second
            && window[position + 2] == self.third
    }
}

/// Whether `holds` is true at any position of a block, computed without a branch.
#[inline(always)]
fn any(window: &[u8; WINDOW], holds: impl Fn([u8; 3]) -> bool) -> bool {
    let mut found = false;
    for position in 0..BLOCK {
        found |= holds([window[position], window[position + 1], window[position + 2]]);
    }
    found
}

fn is_no_letter(lower: u8) -> bool {
    lower.wrapping_sub(b'a') >= 26
}

impl Phrase {
    /// Splits a phrase in plain form at its longest word that is not common, or the last of these.
    fn new(number: usize, plain: &str) -> Option<(Triple, Phrase)> {
        let is_end = |letter: char| matches!(letter, ' ' | '\'' | '"');
        let words = plain.split(is_end).filter(|word| word.len() > 1);
        let is_rare = |word: &str| !COMMON.contains(&word.to_ascii_lowercase().as_str());
        let word = words.max_by_key(|word| (is_rare(word), word.len()))?;
        let (triple, word_from_triple) = Triple::rarest(word)?;
        let start = word.as_ptr().addr() - plain.as_ptr().addr();
        let phrase = Phrase {
            number,
            before: plain[..start].chars().rev().collect(),
            word: word.to_owned(),
            after: plain[start + word.len()..].chars().collect(),
            word_from_triple,
            length: plain.len(),
        };
        Some((triple, phrase))
    }

    /// The byte offset at which the phrase starts, if it surrounds the word at offset `word`.
    fn start(&self, text: &str, word: usize, quotes: Quotes) -> Option<usize> {
        let end = word + self.word.len();
        if !text.as_bytes().get(word..end)?.eq_ignore_ascii_case(self.word.as_bytes()) {
            return None;
        }
        let start = last_matched(text[..word].char_indices().rev(), &self.before, quotes)?;
        last_matched(text[end..].char_indices(), &self.after, quotes)?;
        Some(start.unwrap_or(word))
    }
}

/// Returns the offset of the letter that matches the last expected one. The letters in plain form
/// must start with the expected ones, not followed by a letter or digit. The result is `Some(None)`
/// if no letter is expected.
fn last_matched(
    letters: impl Iterator<Item = (usize, char)>,
    expected: &[char],
    quotes: Quotes,
) -> Option<Option<usize>> {
    let mut in_space = false;
    let mut letters = letters.filter_map(|(offset, letter)| {
        let was_in_space = std::mem::replace(&mut in_space, letter.is_whitespace());
        match letter {
            _ if in_space => (!was_in_space).then_some((offset, ' ')),
            _ => Some((offset, quotes.plain(letter))),
        }
    });
    let mut last = None;
    for expected in expected {
        let (offset, letter) = letters.next()?;
        if !letter.eq_ignore_ascii_case(expected) {
            return None;
        }
        last = Some(offset);
    }
    letters.next().is_none_or(|(_, letter)| !letter.is_alphanumeric()).then_some(last)
}
