//! The rule of ultrachat_200k, reconstructed: every published row that we know is a fixed
//! point of it. Four replacements in every message, without exceptions for code, links or
//! abbreviations:
//!
//! 1. the first character of a message, if it is a small letter
//! 2. a small letter after `. `
//! 3. ` i ` with a space on both sides
//! 4. ` i'`
//!
//! Letters after `!`, `?`, `."` or a line break are not changed.

use super::scan;

/// Ascending offsets that include those of all letters to change. The others are not small letters.
pub(super) fn offsets(text: &str) -> Vec<usize> {
    let mut offsets = Vec::new();
    let bytes = text.as_bytes();
    let is_small = |byte: u8| byte.is_ascii_lowercase() || !byte.is_ascii();
    if bytes.first().is_some_and(|byte| is_small(*byte)) {
        offsets.push(0);
    }
    scan::each(bytes, scan::is_space_before_small, |space| {
        let after = space + 1;
        let (b' ', Some(letter)) = (bytes[space], bytes.get(after)) else { return };
        let follows_dot = space > 0 && bytes[space - 1] == b'.';
        let is_pronoun = *letter == b'i' && matches!(bytes.get(after + 1), Some(b' ' | b'\''));
        if is_pronoun || (follows_dot && is_small(*letter)) {
            offsets.push(after);
        }
    });
    offsets
}
