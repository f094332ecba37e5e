//! Finds the starts of words in 64 bytes of ASCII at once, as one bit per byte, without a branch
//! for each character.
//!
//! The window starts with a word. A boundary depends on the two bytes before it and the one after
//! it, except in contractions, so all boundaries up to two bytes before the first unknown byte are
//! valid. Non-ASCII bytes count as unknown.

use super::words::Pattern;
use crate::simd::bits::{WINDOW, bits};
#[cfg(target_arch = "x86_64")]
use crate::simd::vectors;

/// The classes of the bytes, with bit `j` for byte `j`.
pub(super) struct Masks {
    letters: u64,
    numbers: u64,
    spaces: u64,
    blanks: u64,
    newlines: u64,
    apostrophes: u64,
    others: u64,
    beyond: u64,
}

impl Masks {
    /// Looks at each byte.
    #[inline]
    pub(super) fn new(window: &[u8; WINDOW]) -> Masks {
        // Plain comparisons that the compiler vectorizes. Afterwards, one bit of each byte is
        // extracted.
        let mut kinds = [0_u8; WINDOW];
        for (kind, byte) in kinds.iter_mut().zip(window) {
            let letter = u8::from((byte | 0x20).wrapping_sub(b'a') < 26);
            let number = u8::from(byte.wrapping_sub(b'0') < 10);
            let blank = u8::from(*byte == b' ');
            let space = blank | u8::from(byte.wrapping_sub(b'\t') < 5);
            let newline = u8::from(*byte == b'\n') | u8::from(*byte == b'\r');
            let apostrophe = u8::from(*byte == b'\'');
            *kind = letter
                | number << 1
                | space << 2
                | blank << 3
                | newline << 4
                | apostrophe << 5
                | byte >> 7 << 6;
        }
        let (letters, numbers, spaces, beyond) =
            (bits::<0>(&kinds), bits::<1>(&kinds), bits::<2>(&kinds), bits::<6>(&kinds));
        Masks {
            letters,
            numbers,
            spaces,
            blanks: bits::<3>(&kinds),
            newlines: bits::<4>(&kinds),
            apostrophes: bits::<5>(&kinds),
            others: !(letters | numbers | spaces | beyond),
            beyond,
        }
    }

    /// The same with a comparison for all bytes at once.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn by_vectors(window: &[u8; WINDOW]) -> Masks {
        let is = |byte: u8| vectors::among(window, 0, byte, 1);
        let (letters, numbers) =
            (vectors::among(window, 0x20, b'a', 26), vectors::among(window, 0, b'0', 10));
        let (blanks, beyond) = (is(b' '), vectors::among(window, 0, 0x80, 0x80));
        let spaces = blanks | vectors::among(window, 0, b'\t', 5);
        let others = !(letters | numbers | spaces | beyond);
        Masks {
            letters,
            numbers,
            spaces,
            blanks,
            newlines: is(b'\n') | is(b'\r'),
            apostrophes: is(b'\''),
            others,
            beyond,
        }
    }

    /// Bytes whose class differs from that of the byte before.
    fn changes(&self) -> u64 {
        let same = |mask: u64| mask & mask << 1;
        !(same(self.letters) | same(self.numbers) | same(self.spaces) | same(self.others))
    }
}

/// The words that begin inside the window, after its first byte.
#[inline]
pub(super) fn begins(masks: &Masks, window: &[u8; WINDOW], pattern: Pattern) -> u64 {
    let known = (masks.beyond.trailing_zeros() as usize).saturating_sub(1);
    let (begins, known) = match pattern {
        Pattern::Gpt2 => (gpt2(masks), known),
        Pattern::DigitsGpt2 => (digits_gpt2(masks), known),
        Pattern::Llama3 { digits_max } => {
            // A newline and then other white space in one run: left to the scanner.
            let mixed = masks.newlines & (masks.spaces & !masks.newlines) >> 1;
            (llama3(masks, digits_max), known.min(mixed.trailing_zeros() as usize + 1))
        }
    };
    let any_case = matches!(pattern, Pattern::Llama3 { .. });
    let begins = contractions(begins | 1, masks.apostrophes, window, any_case);
    begins & !1 & (1_u64.checked_shl(known as u32).unwrap_or(0)).wrapping_sub(1)
}

/// White space before a word: its last character is a separate token, and a blank joins the word.
fn gpt2(masks: &Masks) -> u64 {
    let last = masks.spaces & !(masks.spaces >> 1);
    let joined = masks.blanks << 1 & !masks.spaces;
    masks.changes() & !joined | last
}

/// The same with each number separate, as if the text ended before it.
fn digits_gpt2(masks: &Masks) -> u64 {
    let last = masks.spaces & !(masks.spaces >> 1) & !(masks.numbers >> 1);
    let joined = masks.blanks << 1 & !masks.spaces & !masks.numbers;
    masks.changes() & !joined | last | masks.numbers
}

fn llama3(masks: &Masks, digits_max: usize) -> u64 {
    let Masks { letters, numbers, spaces, blanks, newlines, others, .. } = *masks;
    let last = spaces & !newlines & !(spaces >> 1);
    // One character other than a newline joins letters: white space, or a single other character
    // that no blank has joined.
    let lone = others & !(others << 1) & !(blanks << 1);
    let joined_letters = letters & (spaces & !newlines | lone) << 1;
    let joined_others = others & blanks << 1;
    // Newlines belong to the others before them.
    let joined_newlines = newlines & others << 1;
    let after_newlines = joined_newlines.wrapping_add(newlines) & !newlines & newlines << 1;
    let mut begins = masks.changes() & !(joined_letters | joined_others | joined_newlines)
        | last
        | after_newlines;
    if digits_max == 1 {
        return begins | numbers;
    }
    let three = numbers & numbers << 1 & numbers << 2;
    let mut starts = numbers & !(numbers << 1);
    while starts != 0 {
        starts = starts << 3 & three;
        begins |= starts;
    }
    begins
}

/// `'s`, `'re` and so on are separate words if they start one.
fn contractions(mut begins: u64, apostrophes: u64, window: &[u8; WINDOW], any_case: bool) -> u64 {
    let mut candidates = begins & apostrophes & ((1 << (WINDOW - 2)) - 1);
    while candidates != 0 {
        let position = candidates.trailing_zeros() as usize;
        candidates &= candidates - 1;
        let case = if any_case { 0x20 } else { 0 };
        let len = match [window[position + 1] | case, window[position + 2] | case] {
            [b's' | b't' | b'm' | b'd', _] => 2,
            [b'r' | b'v', b'e'] | [b'l', b'l'] => 3,
            _ => continue,
        };
        begins =
            begins & !(2 << position) | 1_u64.checked_shl((position + len) as u32).unwrap_or(0);
    }
    begins
}
