//! Word segmentation for deduplication and decontamination: runs of lowercase letters and digits,
//! and hashes of runs of words.

mod first_letters;

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use crate::simd::bits::{WINDOW, bits};

pub use first_letters::{FirstLetters, is_separator};

/// What a byte reveals about the character that it starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Between,
    OfWord,
    /// Depends on the Unicode tables.
    Unicode,
}

/// Nearly all text is ASCII, which takes one lookup in a table of 256 per byte.
const CLASSES: [Class; 256] = {
    let mut classes = [Class::Unicode; 256];
    let mut byte = 0;
    while byte < 128 {
        classes[byte] =
            if (byte as u8).is_ascii_alphanumeric() { Class::OfWord } else { Class::Between };
        byte += 1;
    }
    classes
};

/// Calls `visit` with the hash of every word of a text, in order, and with its byte range.
pub fn each_word(text: &str, mut visit: impl FnMut(u64, Range<usize>)) {
    // ASCII letters are converted to lower case in one pass, which keeps all offsets. The tail
    // allows reading a short word as sixteen bytes.
    let mut padded = String::with_capacity(text.len() + SHORT);
    padded.push_str(text);
    padded.make_ascii_lowercase();
    padded.push_str(TAIL);
    let lower = &padded[..text.len()];
    let mut word = |start: usize, end: usize, is_ascii: bool| {
        let hash = match (is_ascii, end - start) {
            (true, length @ ..=SHORT) => {
                hash_short(&padded.as_bytes()[start..start + SHORT], length)
            }
            (true, _) => xxh3_64(&lower.as_bytes()[start..end]),
            (false, _) => xxh3_64(lower[start..end].to_lowercase().as_bytes()),
        };
        visit(hash, start..end);
    };
    let mut at = 0;
    loop {
        at = whole_words(lower.as_bytes(), at, |start, end| word(start, end, true));
        let Some(start) = skip(lower, at, Class::Between).0 else { return };
        let (end, is_ascii) = skip(lower, start, Class::OfWord);
        at = end.unwrap_or(lower.len());
        word(start, at, is_ascii);
    }
}

/// Visits ASCII words that are completely inside windows of the text, starting at `at`, which is
/// not inside a word. Returns the offset from which characters must be checked one by one.
fn whole_words(lower: &[u8], mut at: usize, mut word: impl FnMut(usize, usize)) -> usize {
    while let Some(window) = lower[at..].first_chunk::<WINDOW>() {
        let known = letters(window);
        let mut from = 0;
        while let Some(start) = next(known.letters, from) {
            let Some(end) = next(!known.letters, start).filter(|end| *end < known.len) else {
                break;
            };
            word(at + start, at + end);
            from = end;
        }
        // The rest of the window is between words, up to a word that continues after the window.
        let step = next(known.letters, from).unwrap_or(WINDOW).min(known.len);
        if step == 0 {
            break;
        }
        at += step;
    }
    at
}

/// A window's letters and digits, and the number of leading ASCII bytes.
struct Letters {
    letters: u64,
    len: usize,
}

#[inline]
fn letters(window: &[u8; WINDOW]) -> Letters {
    let mut kinds = [0; WINDOW];
    for (kind, byte) in kinds.iter_mut().zip(window) {
        let letter =
            u8::from(byte.wrapping_sub(b'a') < 26) | u8::from(byte.wrapping_sub(b'0') < 10);
        *kind = letter | byte >> 7 << 1;
    }
    Letters { letters: bits::<0>(&kinds), len: bits::<1>(&kinds).trailing_zeros() as usize }
}

/// The first set bit from a position on.
#[inline]
fn next(mask: u64, from: usize) -> Option<usize> {
    let rest = mask & u64::MAX.checked_shl(from as u32).unwrap_or(0);
    (rest != 0).then(|| rest.trailing_zeros() as usize)
}

/// The maximum length of words whose hash always takes the same few steps. The processor cannot
/// predict the length of the next word, and each misprediction costs more than these steps.
const SHORT: usize = 16;
const TAIL: &str = "                ";

/// Masks for the first 0 to 8 bytes of a number read in little-endian order.
const MASKS: [u64; 9] = [
    0,
    0xFF,
    0xFFFF,
    0xFF_FFFF,
    0xFFFF_FFFF,
    0xFF_FFFF_FFFF,
    0xFFFF_FFFF_FFFF,
    0xFF_FFFF_FFFF_FFFF,
    u64::MAX,
];

/// The hash of the first `length` of sixteen bytes: both halves multiplied, and the product's
/// halves folded (as in wyhash).
fn hash_short(bytes: &[u8], length: usize) -> u64 {
    let half =
        |from: usize| bytes[from..].first_chunk().map_or(0, |half| u64::from_le_bytes(*half));
    let head = half(0) & MASKS[length.min(8)];
    let tail = half(8) & MASKS[length.saturating_sub(8)];
    let product = u128::from(head ^ 0xA076_1D64_78BD_642F)
        * u128::from(tail ^ 0xE703_7ED1_A0B4_28DB ^ ((length as u64) << 56));
    (product >> 64) as u64 ^ product as u64
}

/// Returns the first offset with a character of another class, or `None`, and whether the text
/// before it is ASCII.
fn skip(text: &str, mut at: usize, class: Class) -> (Option<usize>, bool) {
    let bytes = text.as_bytes();
    let mut is_ascii = true;
    loop {
        while at < bytes.len() && CLASSES[usize::from(bytes[at])] == class {
            at += 1;
        }
        match bytes.get(at).map(|byte| CLASSES[usize::from(*byte)]) {
            None => return (None, is_ascii),
            Some(Class::Between | Class::OfWord) => return (Some(at), is_ascii),
            Some(Class::Unicode) => {
                let Some(letter) = text[at..].chars().next() else { return (None, is_ascii) };
                if letter.is_alphanumeric() != (class == Class::OfWord) {
                    return (Some(at), is_ascii);
                }
                is_ascii = false;
                at += letter.len_utf8();
            }
        }
    }
}

/// The hashes of all runs of `WORDS` words, in order.
pub fn runs<const WORDS: usize>(words: &[u64]) -> impl Iterator<Item = u64> {
    words.windows(WORDS).map(|run| {
        hash_run(
            run.first_chunk::<WORDS>().expect("`windows` returns slices of the requested length"),
        )
    })
}

/// One hash of several words' hashes in order.
#[must_use]
pub fn hash_run(words: &[u64]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let hash = words
        .iter()
        .fold(1_u64, |hash, word| (hash.rotate_left(23) ^ word).wrapping_mul(ODD).rotate_left(29));
    // MinHash ranks shingles by this hash, so its upper bits must be as good as chance.
    let hash = (hash ^ (hash >> 32)).wrapping_mul(ODD);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        each_word(text, |_, range| ranges.push(range));
        ranges
    }

    fn hashes(text: &str) -> Vec<u64> {
        let mut hashes = Vec::new();
        each_word(text, |hash, _| hashes.push(hash));
        hashes
    }

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        let text = "  Don't—stop: ÄRGER 3x, 日本語 naïve_é!ß";
        let words: Vec<&str> = ranges(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(words, ["Don", "t", "stop", "ÄRGER", "3x", "日本語", "naïve", "é", "ß"]);
        assert!(ranges(" …?! ").is_empty());
        assert!(ranges("").is_empty());
    }

    #[test]
    fn windows_find_the_words_that_characters_say() {
        let mut state = 7_u64;
        let mut chance = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % below) as usize
        };
        let parts = [
            "a",
            "Word",
            "x9",
            " ",
            " ",
            ", ",
            "\n",
            "é",
            "日本",
            "—",
            "ß",
            "\u{301}",
            "sixty4letters".repeat(5).as_str(),
            "-",
            "İ",
        ]
        .map(str::to_owned);
        for rare in 0..2_000 {
            let among = if rare % 2 == 0 { 7 } else { parts.len() as u64 };
            let text: String = (0..chance(120)).map(|_| parts[chance(among)].as_str()).collect();
            let mut expected: Vec<Range<usize>> = Vec::new();
            for (offset, character) in
                text.char_indices().filter(|(_, character)| character.is_alphanumeric())
            {
                match expected.last_mut() {
                    Some(word) if word.end == offset => word.end = offset + character.len_utf8(),
                    _ => expected.push(offset..offset + character.len_utf8()),
                }
            }
            assert_eq!(ranges(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn case_changes_no_hash_and_order_does() {
        assert_eq!(hashes("ÄRGER Über x"), hashes("ärger, über: X"));
        assert_eq!(
            hashes("sixteen1letters2 seventeenletters1"),
            hashes("SIXTEEN1LETTERS2-SeventeenLetters1")
        );
        let all: Vec<String> = (1..=20)
            .map(|length| "a".repeat(length))
            .chain(["b".to_owned(), "aab".to_owned()])
            .collect();
        let different: std::collections::HashSet<u64> =
            hashes(&all.join(" ")).into_iter().collect();
        assert_eq!(different.len(), all.len());
        assert_ne!(hash_run(&[1, 2, 3]), hash_run(&[1, 3, 2]));
        assert_eq!(
            runs::<2>(&[1, 2, 3]).collect::<Vec<_>>(),
            [hash_run(&[1, 2]), hash_run(&[2, 3])]
        );
        assert_eq!(runs::<2>(&[1]).count(), 0);
    }
}
