//! Finds the few positions of a text that truecasing has to check. It examines 32 bytes at a time
//! and skips most of them.

/// Number of bytes examined at a time: two vectors of 16, compared without a branch.
const BLOCK: usize = 32;
/// A block, the byte before it and the two bytes after it.
const WINDOW: usize = BLOCK + 3;

/// Calls `judge` with offsets in ascending order. They include every offset for which `live` is
/// true, and some others at both ends of the text.
#[inline(always)]
pub(super) fn each(
    bytes: &[u8],
    live: impl Fn(u8, u8, u8, u8) -> bool + Copy,
    mut judge: impl FnMut(usize),
) {
    if bytes.is_empty() {
        return;
    }
    judge(0);
    let mut offset = 1;
    while let Some(window) = bytes[offset - 1..].first_chunk::<WINDOW>() {
        let marks = marks(window, live);
        if marks != [0; BLOCK] {
            marks
                .iter()
                .enumerate()
                .filter(|(_, mark)| **mark != 0)
                .for_each(|(ahead, _)| judge(offset + ahead));
        }
        offset += BLOCK;
    }
    (offset..bytes.len()).for_each(judge);
}

/// Marks the bytes of a block that may matter.
// If it were inlined, the compiler would process its loop byte by byte, twenty times slower.
#[inline(never)]
fn marks(window: &[u8; WINDOW], live: impl Fn(u8, u8, u8, u8) -> bool) -> [u8; BLOCK] {
    let mut marks = [0; BLOCK];
    for offset in 0..BLOCK {
        marks[offset] = u8::from(live(
            window[offset],
            window[offset + 1],
            window[offset + 2],
            window[offset + 3],
        ));
    }
    marks
}

/// A space between a dot and a possible small letter, or before a separate `i`.
#[inline(always)]
pub(super) fn is_space_before_small(before: u8, byte: u8, next: u8, second: u8) -> bool {
    let may_be_small = (next.wrapping_sub(b'a') < 26) | (next >= 0x80);
    let is_pronoun = (next == b'i') & ((second == b' ') | (second == b'\''));
    (byte == b' ') & (((before == b'.') & may_be_small) | is_pronoun)
}

/// A dot that may end a sentence before a small letter.
#[inline(always)]
pub(super) fn is_dot_before_small(_: u8, byte: u8, next: u8, second: u8) -> bool {
    let before_capital = (next == b' ') & is_capital(second);
    (byte == b'.') & !is_word(next) & (next != b'\n') & !before_capital
}

/// An ASCII letter or digit.
#[inline(always)]
fn is_word(byte: u8) -> bool {
    ((byte | 0x20).wrapping_sub(b'a') < 26) | (byte.wrapping_sub(b'0') < 10)
}

/// An ASCII capital or digit. It follows most sentences and needs no change.
#[inline(always)]
fn is_capital(byte: u8) -> bool {
    (byte.wrapping_sub(b'A') < 26) | (byte.wrapping_sub(b'0') < 10)
}
