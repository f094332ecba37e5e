//! Pre-tokenization of byte-level tokenizers: each supported splitting pattern has a handwritten
//! scanner.
//!
//! A pattern is an ordered choice, so each scanner checks alternatives in the pattern's order.
//! Together, the alternatives match every character.

use super::batch::{BATCH, Ends};
use super::classes::{Class, Classes};
use super::masks::{self, Masks};
use crate::simd::bits::{WINDOW, list};
#[cfg(target_arch = "x86_64")]
use crate::simd::vectors;

/// GPT-2's pattern, which is built into ByteLevel in `tokenizers`.
pub(super) const GPT2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// Llama 3's pattern, which is the same as OpenAI's cl100k.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen's pattern: the same with single digits.
pub(super) const QWEN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A supported pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// [`GPT2`].
    Gpt2,
    /// Each numeric character separately, then [`GPT2`] between them: SmolLM2.
    DigitsGpt2,
    /// [`LLAMA3`] and [`QWEN`], which differ in the maximum number of digits in a word.
    Llama3 {
        /// Three or one.
        digits_max: usize,
    },
}

/// The position of the search for words.
pub(super) struct Progress {
    at: usize,
    /// The end of the text between digits.
    piece: usize,
}

impl Progress {
    /// At the start of a part of a text.
    pub(super) fn at(start: usize) -> Progress {
        Progress { at: start, piece: start }
    }
}

/// Finds the ends of words.
pub(super) struct Words {
    /// Which words.
    pub pattern: Pattern,
    /// The classes of characters.
    pub classes: Classes,
}

impl Words {
    /// Writes the ends of words after `progress` and up to `end`, until little room is left.
    /// Returns how many it wrote, and advances `progress`.
    pub(super) fn fill(
        &self,
        text: &[u8],
        progress: &mut Progress,
        end: usize,
        ends: &mut Ends,
    ) -> usize {
        #[cfg(target_arch = "x86_64")]
        if vectors::are_here() {
            #[expect(unsafe_code, reason = "see `vectors`")]
            // SAFETY: the processor's features were checked.
            return unsafe { self.fill_by_vectors(text, progress, end, ends) };
        }
        self.fill_by(text, (progress, end), ends, Masks::new, list)
    }

    /// The same for processors of wide vectors.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
    fn fill_by_vectors(
        &self,
        text: &[u8],
        progress: &mut Progress,
        end: usize,
        ends: &mut Ends,
    ) -> usize {
        let masks = |window: &[u8; WINDOW]| Masks::by_vectors(window);
        self.fill_by(text, (progress, end), ends, masks, |mask, base, positions| {
            vectors::list(mask, base, positions)
        })
    }

    /// Implements `fill` with one function to classify a window and one to list its bits. It is
    /// inlined, so each variant is compiled for its processor.
    #[inline(always)]
    fn fill_by(
        &self,
        text: &[u8],
        (progress, end): (&mut Progress, usize),
        ends: &mut Ends,
        masks: impl Fn(&[u8; WINDOW]) -> Masks,
        list: impl Fn(u64, u32, &mut [u32; WINDOW]) -> usize,
    ) -> usize {
        // Text after the end must be hidden, because `\s+(?!\S)` looks ahead.
        let text = &text[..end];
        let Progress { mut at, mut piece } = *progress;
        let mut count = 0;
        while at < end && count <= BATCH - WINDOW {
            let begins = match text[at..].first_chunk::<WINDOW>() {
                Some(window) if window[..8].is_ascii() => {
                    masks::begins(&masks(window), window, self.pattern)
                }
                _ => 0,
            };
            if begins == 0 {
                at = self.scan(text, at, &mut piece);
                ends[count] = at as u32;
                count += 1;
            } else {
                let positions = ends[count..].first_chunk_mut().expect("a full window remains");
                count += list(begins, at as u32, positions);
                at = ends[count - 1] as usize;
            }
        }
        *progress = Progress { at, piece };
        count
    }

    /// The end of the word at `at`, character by character.
    fn scan(&self, text: &[u8], at: usize, piece: &mut usize) -> usize {
        match self.pattern {
            Pattern::Gpt2 => self.gpt2(text, at),
            Pattern::Llama3 { digits_max } => self.llama3(text, at, digits_max),
            Pattern::DigitsGpt2 => {
                if at >= *piece {
                    match numeric(text, at) {
                        Some((digit, len)) if digit == at => return at + len,
                        found => *piece = found.map_or(text.len(), |(digit, _)| digit),
                    }
                }
                self.gpt2(&text[..*piece], at)
            }
        }
    }

    #[inline]
    fn gpt2(&self, text: &[u8], at: usize) -> usize {
        let (mut class, len) = self.classes.at(text, at);
        let mut next = at + len;
        if text[at] == b'\'' {
            if let Some(end) = contraction(text, at) {
                return end;
            }
        } else if text[at] == b' ' && next < text.len() {
            let (after, len) = self.classes.at(text, next);
            if !matches!(after, Class::Space | Class::Newline) {
                (class, next) = (after, next + len);
            }
        }
        match class {
            Class::Space | Class::Newline => self.spaces(text, at),
            Class::Other | Class::Letter | Class::Number => self.run(text, next, class),
        }
    }

    #[inline]
    fn llama3(&self, text: &[u8], at: usize, digits_max: usize) -> usize {
        let (class, len) = self.classes.at(text, at);
        let next = at + len;
        match class {
            Class::Letter => return self.run(text, next, Class::Letter),
            Class::Number => return self.numbers(text, next, digits_max - 1),
            Class::Newline => return self.lines(text, at),
            Class::Space | Class::Other => {}
        }
        if text[at] == b'\''
            && let Some(end) = contraction_of_any_case(text, at)
        {
            return end;
        }
        let (after, len) =
            if next < text.len() { self.classes.at(text, next) } else { (Class::Newline, 0) };
        if after == Class::Letter {
            return self.run(text, next + len, Class::Letter);
        }
        if class == Class::Other || (text[at] == b' ' && after == Class::Other) {
            let end = self.run(text, next, Class::Other);
            let newlines =
                text[end..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            return end + newlines;
        }
        self.lines(text, at)
    }

    /// Returns the end of a run of one class.
    #[inline]
    fn run(&self, text: &[u8], start: usize, class: Class) -> usize {
        let mut at = start;
        while let Some(byte) = text.get(at) {
            if *byte < 128 {
                if self.classes.ascii(*byte) != class {
                    break;
                }
                at += 1;
            } else {
                let (found, len) = self.classes.at(text, at);
                if found != class {
                    break;
                }
                at += len;
            }
        }
        at
    }

    /// The end of up to `more` numbers.
    fn numbers(&self, text: &[u8], start: usize, more: usize) -> usize {
        let mut at = start;
        for _ in 0..more {
            match text.get(at).map(|_| self.classes.at(text, at)) {
                Some((Class::Number, len)) => at += len,
                _ => break,
            }
        }
        at
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`: up to the last line end of the white space, if any.
    fn lines(&self, text: &[u8], at: usize) -> usize {
        let space = self.space(text, at);
        space.line_end.unwrap_or_else(|| space.end(text))
    }

    /// `\s+(?!\S)|\s+`.
    fn spaces(&self, text: &[u8], at: usize) -> usize {
        self.space(text, at).end(text)
    }

    fn space(&self, text: &[u8], start: usize) -> Space {
        let mut space = Space { start, last: start, stop: start, line_end: None };
        while space.stop < text.len() {
            let (class, len) = self.classes.at(text, space.stop);
            match class {
                Class::Newline => space.line_end = Some(space.stop + len),
                Class::Space => {}
                Class::Other | Class::Letter | Class::Number => break,
            }
            (space.last, space.stop) = (space.stop, space.stop + len);
        }
        space
    }
}

/// A run of white space.
struct Space {
    start: usize,
    /// The start of its last character.
    last: usize,
    stop: usize,
    /// The end of its last line end.
    line_end: Option<usize>,
}

impl Space {
    /// The last character of a run belongs to the next word, unless it is the only one or no word
    /// follows.
    fn end(&self, text: &[u8]) -> usize {
        if self.stop == text.len() || self.last == self.start { self.stop } else { self.last }
    }
}

/// The next numeric character and its length. `Digits` uses Rust's tables, not those of `onig`.
fn numeric(text: &[u8], start: usize) -> Option<(usize, usize)> {
    let mut at = start;
    while at < text.len() {
        if text[at] < 128 {
            if text[at].is_ascii_digit() {
                return Some((at, 1));
            }
            at += 1;
        } else {
            let (character, len) = super::utf8::decode(text, at);
            if char::from_u32(character).is_some_and(char::is_numeric) {
                return Some((at, len));
            }
            at += len;
        }
    }
    None
}

/// `'s|'t|'re|'ve|'m|'ll|'d` at an apostrophe.
fn contraction(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at + 1..)? {
        [b's' | b't' | b'm' | b'd', ..] => Some(at + 2),
        [b'r' | b'v', b'e', ..] | [b'l', b'l', ..] => Some(at + 3),
        _ => None,
    }
}

/// The same in any case. In `onig`, a long s is a case variant of s.
fn contraction_of_any_case(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at + 1..)? {
        [b's' | b't' | b'm' | b'd' | b'S' | b'T' | b'M' | b'D', ..] => Some(at + 2),
        [b'r' | b'v' | b'R' | b'V', b'e' | b'E', ..] | [b'l' | b'L', b'l' | b'L', ..] => {
            Some(at + 3)
        }
        [0xC5, 0xBF, ..] => Some(at + 3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::fast::batch::hostile;

    #[test]
    fn words_end_at_the_same_places_with_vectors_or_without_and_by_the_scanner_alone() {
        let patterns = [
            Pattern::Gpt2,
            Pattern::DigitsGpt2,
            Pattern::Llama3 { digits_max: 3 },
            Pattern::Llama3 { digits_max: 1 },
        ];
        for (text, pattern) in
            hostile().flat_map(|text| patterns.map(|pattern| (text.clone(), pattern)))
        {
            let words = Words { pattern, classes: Classes::new() };
            let (bytes, end) = (text.as_bytes(), text.len());
            let all = |fill: &dyn Fn(&mut Progress, &mut Ends) -> usize| {
                let (mut all, mut progress, mut ends) =
                    (Vec::new(), Progress::at(0), [0; BATCH + 1]);
                while progress.at < end {
                    let count = fill(&mut progress, &mut ends);
                    all.extend_from_slice(&ends[..count]);
                }
                all
            };
            let (mut wanted, mut at, mut piece) = (Vec::new(), 0, 0);
            while at < end {
                at = words.scan(bytes, at, &mut piece);
                wanted.push(at as u32);
            }
            assert_eq!(
                all(&|progress, ends| words.fill(bytes, progress, end, ends)),
                wanted,
                "{text:?} {pattern:?}"
            );
            let plainly = |progress: &mut Progress, ends: &mut Ends| {
                words.fill_by(bytes, (progress, end), ends, Masks::new, list)
            };
            assert_eq!(all(&plainly), wanted, "{text:?} {pattern:?}");
        }
    }
}
