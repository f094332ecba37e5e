//! Quickly detects nearly all texts in Unicode normalization form C.

use std::sync::LazyLock;

use unicode_normalization_alignments::char::canonical_combining_class;
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

use super::utf8::decode;
use crate::simd::bits::WINDOW;

/// The first byte of characters from U+0300 on. Characters below are in normal form next to any
/// character.
const FIRST_LEAD: u8 = 0xCC;
/// Characters in the table: the first plane.
const KNOWN: usize = 0x10000;

/// One bit per character: it is in normal form, and neither combines with its neighbors nor is
/// reordered.
static PLAIN: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let mut plain = vec![0; KNOWN / 64];
    for character in (0..KNOWN as u32).filter_map(char::from_u32) {
        let is_plain = canonical_combining_class(character) == 0
            && is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes;
        plain[character as usize / 64] |= u64::from(is_plain) << (character as u32 % 64);
    }
    plain
});

/// Whether a text is certainly in normalization form C. Texts with combining characters need the
/// normalizer.
pub(super) fn is_nfc(text: &str) -> bool {
    is_plain(text.as_bytes()) || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

fn is_plain(text: &[u8]) -> bool {
    let plain = PLAIN.as_slice();
    let mut at = 0;
    while at < text.len() {
        if text[at..].first_chunk::<WINDOW>().is_some_and(|window| window.is_ascii()) {
            at += WINDOW;
            continue;
        }
        let end = text.len().min(at + WINDOW);
        while at < end {
            let (character, len) = decode(text, at);
            let is_known = plain
                .get(character as usize / 64)
                .is_some_and(|word| word >> (character % 64) & 1 == 1);
            if text[at] >= FIRST_LEAD && !is_known {
                return false;
            }
            at += len;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_judged_as_the_quick_check_judges_it_between_others() {
        for character in '\0'..=char::MAX {
            for text in [
                format!("a{character}"),
                format!("\u{301}{character}b"),
                format!("{character}\u{327}"),
            ] {
                assert_eq!(
                    is_nfc(&text),
                    is_nfc_quick(text.chars()) == IsNormalized::Yes,
                    "{text:?}"
                );
            }
        }
        for text in
            ["", &"Straße – “déjà vu” 日本 😀 ".repeat(9), &format!("{}e\u{301}", "x".repeat(130))]
        {
            assert_eq!(is_nfc(text), is_nfc_quick(text.chars()) == IsNormalized::Yes, "{text:?}");
        }
    }
}
