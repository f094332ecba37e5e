//! Finds the few positions of a text that truecasing has to check. It examines 32 bytes at a time
//! and skips most of them.

/// Number of bytes examined at a time: two vectors of 16, which `live` compares without a branch.
const BLOCK: usize = 32;
/// A block, the byte before it and the two bytes after it.
const WINDOW: usize = BLOCK + 3;

/// Calls `judge` with offsets in ascending order. They include every offset that may end a sentence
/// before a lowercase letter or be the pronoun `i`, and some others.
pub(super) fn each_place(text: &str, mut judge: impl FnMut(usize)) {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return;
    }
    judge(0);
    let mut offset = 1;
    while let Some(window) = bytes[offset - 1..].first_chunk::<WINDOW>() {
        let live = live(window);
        if live != [0; BLOCK] {
            live.iter()
                .enumerate()
                .filter(|(_, live)| **live != 0)
                .for_each(|(ahead, _)| judge(offset + ahead));
        }
        offset += BLOCK;
    }
    (offset..bytes.len()).for_each(judge);
}

/// Marks the bytes of a block that are terminators before a possible lowercase letter, or a
/// separate `i`.
// If it were inlined, the compiler would process its loop byte by byte, twenty times slower.
#[inline(never)]
fn live(window: &[u8; WINDOW]) -> [u8; BLOCK] {
    let mut live = [0; BLOCK];
    for offset in 0..BLOCK {
        let (before, byte, next, second) =
            (window[offset], window[offset + 1], window[offset + 2], window[offset + 3]);
        let stands_alone = !is_word(before) & !is_word(next);
        let ends = ((byte == b'.') | (byte == b'!') | (byte == b'?')) & !is_word(next);
        let breaks = (byte == b'\n') & (next <= b' ');
        let before_capital = (next <= b' ') & is_capital(second);
        live[offset] =
            u8::from(((byte == b'i') & stands_alone) | ((ends | breaks) & !before_capital));
    }
    live
}

/// An ASCII letter or digit.
pub(super) fn is_word(byte: u8) -> bool {
    ((byte | 0x20).wrapping_sub(b'a') < 26) | (byte.wrapping_sub(b'0') < 10)
}

/// An ASCII capital or digit. It follows most sentences and needs no change.
pub(super) fn is_capital(byte: u8) -> bool {
    (byte.wrapping_sub(b'A') < 26) | (byte.wrapping_sub(b'0') < 10)
}
