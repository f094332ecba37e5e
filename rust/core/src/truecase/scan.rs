//! Finds the few places of a text that truecasing has to judge: it looks at 32 bytes at once and passes most of them by.

/// Bytes judged together; two vectors of 16, in which `is_live` compiles to comparisons without branches.
const BLOCK: usize = 32;
/// A block, the byte before it and the two behind it.
const WINDOW: usize = BLOCK + 3;

/// Calls `judge` with places in ascending order: all that may end a sentence before a small letter or be the pronoun `i`, and
/// others beside them.
pub(super) fn each_place(text: &str, mut judge: impl FnMut(usize)) {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return;
    }
    judge(0);
    let mut place = 1;
    while let Some(window) = bytes[place - 1..].first_chunk::<WINDOW>() {
        if is_live(window) {
            (place..place + BLOCK).for_each(&mut judge);
        }
        place += BLOCK;
    }
    (place..bytes.len()).for_each(judge);
}

/// Whether any byte of the block is a terminator that a small letter may follow, or an `i` that stands alone.
fn is_live(window: &[u8; WINDOW]) -> bool {
    let mut live = false;
    for place in 1..=BLOCK {
        let (before, byte, next, second) = (window[place - 1], window[place], window[place + 1], window[place + 2]);
        let stands_alone = !is_word(before) & !is_word(next);
        let ends = ((byte == b'.') | (byte == b'!') | (byte == b'?')) & !is_word(next);
        let breaks = (byte == b'\n') & (next <= b' ');
        let before_capital = (next <= b' ') & is_capital(second);
        live |= ((byte == b'i') & stands_alone) | ((ends | breaks) & !before_capital);
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
