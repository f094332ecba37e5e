//! Finds the few places of a text that truecasing has to judge: it looks at 32 bytes at once and
//! passes most of them by.

/// Bytes judged together; two vectors of 16, which `live` compares without a branch.
const BLOCK: usize = 32;
/// A block, the byte before it and the two behind it.
const WINDOW: usize = BLOCK + 3;

/// Calls `judge` with places in ascending order: all that may end a sentence before a small letter
/// or be the pronoun `i`, and others beside them.
pub(super) fn each_place(text: &str, mut judge: impl FnMut(usize)) {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return;
    }
    judge(0);
    let mut place = 1;
    while let Some(window) = bytes[place - 1..].first_chunk::<WINDOW>() {
        let live = live(window);
        if live != [0; BLOCK] {
            live.iter()
                .enumerate()
                .filter(|(_, live)| **live != 0)
                .for_each(|(ahead, _)| judge(place + ahead));
        }
        place += BLOCK;
    }
    (place..bytes.len()).for_each(judge);
}

/// Which bytes of the block are terminators that a small letter may follow, or an `i` that stands
/// alone.
// Inlined, its loop is compiled byte by byte, at a twentieth of the speed.
#[inline(never)]
fn live(window: &[u8; WINDOW]) -> [u8; BLOCK] {
    let mut live = [0; BLOCK];
    for place in 0..BLOCK {
        let (before, byte, next, second) =
            (window[place], window[place + 1], window[place + 2], window[place + 3]);
        let stands_alone = !is_word(before) & !is_word(next);
        let ends = ((byte == b'.') | (byte == b'!') | (byte == b'?')) & !is_word(next);
        let breaks = (byte == b'\n') & (next <= b' ');
        let before_capital = (next <= b' ') & is_capital(second);
        live[place] =
            u8::from(((byte == b'i') & stands_alone) | ((ends | breaks) & !before_capital));
    }
    live
}

/// An ASCII letter or digit.
pub(super) fn is_word(byte: u8) -> bool {
    ((byte | 0x20).wrapping_sub(b'a') < 26) | (byte.wrapping_sub(b'0') < 10)
}

/// An ASCII capital or digit: what follows most sentences, and nothing to mend.
pub(super) fn is_capital(byte: u8) -> bool {
    (byte.wrapping_sub(b'A') < 26) | (byte.wrapping_sub(b'0') < 10)
}
