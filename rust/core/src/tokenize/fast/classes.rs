//! Classes of characters as the `onig` library sees them, which the `tokenizers` crate searches
//! with.

use regex_syntax::hir::{Class as HirClass, HirKind};

use super::utf8::decode;

/// Character classes that the patterns distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// Neither of the others.
    Other,
    /// `\p{L}`.
    Letter,
    /// `\p{N}`.
    Number,
    /// `\s` except for newlines.
    Space,
    /// `\r` and `\n`.
    Newline,
}

const PAGE: usize = 256;
const PAGES: usize = 0x110000 / PAGE;

/// A class for each character: pages of 256, equal pages once.
pub(super) struct Classes {
    ascii: [Class; 128],
    pages: Box<[u16; PAGES]>,
    classes: Vec<Class>,
}

impl Classes {
    /// Builds the table from Unicode's.
    pub(super) fn new() -> Classes {
        let mut flat = vec![Class::Other; PAGES * PAGE];
        for (pattern, class) in [
            (r"\p{L}", Class::Letter),
            (r"\p{N}", Class::Number),
            (r"\s", Class::Space),
            (r"[\r\n]", Class::Newline),
        ] {
            for (first, last) in ranges(pattern) {
                flat[first as usize..=last as usize].fill(class);
            }
        }
        let mut classes = Classes {
            ascii: [Class::Other; 128],
            pages: Box::new([0; PAGES]),
            classes: Vec::new(),
        };
        classes.ascii.copy_from_slice(&flat[..128]);
        for (index, page) in flat.chunks_exact(PAGE).enumerate() {
            let known = classes.classes.chunks_exact(PAGE).position(|known| known == page);
            classes.pages[index] = known.unwrap_or(classes.classes.len() / PAGE) as u16;
            if known.is_none() {
                classes.classes.extend_from_slice(page);
            }
        }
        classes
    }

    /// The class of an ASCII character.
    #[inline]
    pub(super) fn ascii(&self, byte: u8) -> Class {
        self.ascii[usize::from(byte & 127)]
    }

    /// The class of the character at `at`, and its length in bytes.
    #[inline]
    pub(super) fn at(&self, text: &[u8], at: usize) -> (Class, usize) {
        if text[at] < 128 {
            return (self.ascii(text[at]), 1);
        }
        let (character, len) = decode(text, at);
        (self.of(character), len)
    }

    #[inline]
    fn of(&self, character: u32) -> Class {
        let page = usize::from(self.pages[character as usize / PAGE % PAGES]);
        self.classes[page * PAGE + character as usize % PAGE]
    }
}

/// The characters of a class, first and last of each range.
fn ranges(pattern: &str) -> Vec<(char, char)> {
    let hir = regex_syntax::parse(pattern).expect("the constant patterns are valid");
    match hir.into_kind() {
        HirKind::Class(HirClass::Unicode(class)) => {
            class.ranges().iter().map(|range| (range.start(), range.end())).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_the_class_that_onig_gives_it() {
        let classes = Classes::new();
        let all: String = ('\0'..=char::MAX).collect();
        for (pattern, class) in
            [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)]
        {
            let regex = tokenizers::utils::SysRegex::new(pattern).expect("a pattern");
            let found: std::collections::BTreeSet<usize> =
                regex.find_iter(&all).map(|(start, _)| start).collect();
            let wrong: Vec<_> = all
                .char_indices()
                .filter(|(at, character)| {
                    let ours = classes.of(u32::from(*character));
                    let ours = if ours == Class::Newline { Class::Space } else { ours };
                    (ours == class) != found.contains(at)
                })
                .map(|(_, character)| format!("{:X}", u32::from(character)))
                .collect();
            assert!(wrong.is_empty(), "{pattern}: {} {wrong:?}", wrong.len());
        }
    }
}
