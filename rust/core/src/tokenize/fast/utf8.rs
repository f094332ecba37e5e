//! Decodes one character of valid UTF-8.

/// Decodes the character that starts at `at`. Returns its code and length. Invalid UTF-8 yields an
/// arbitrary number, but never an access out of bounds.
#[inline]
pub(super) fn decode(text: &[u8], at: usize) -> (u32, usize) {
    let follow = |place: usize| text.get(at + place).map_or(0, |byte| u32::from(byte & 0x3F));
    let lead = u32::from(text[at]);
    match lead {
        0..=0x7F => (lead, 1),
        0x80..=0xDF => ((lead & 0x1F) << 6 | follow(1), 2),
        0xE0..=0xEF => ((lead & 0x0F) << 12 | follow(1) << 6 | follow(2), 3),
        _ => ((lead & 0x07) << 18 | follow(1) << 12 | follow(2) << 6 | follow(3), 4),
    }
}
