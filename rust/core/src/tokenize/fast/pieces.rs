//! Segmentation of SentencePiece-style tokenizers: no words, only cuts at boundaries that no merge
//! crosses, and a `▁` prefix.

use std::ops::Range;

use super::batch::{BATCH, Ends};
use super::cuts::{Cuts, SPACE};
use super::lexicon::{Lexicon, Scratch};
use super::utf8::decode;
use crate::tokenize::encode::{Sink, Span};

/// When a `▁` is added before a part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Never.
    Never,
    /// Before each part that is normalized as a unit (the `Prepend` normalizer).
    Fresh,
    /// Before every part that does not start with one (`Metaspace`).
    Unspaced,
    /// The same at the start of the text only.
    UnspacedFirst,
}

/// How parts of a text become tokens.
pub(super) struct Pieces {
    /// Where to split.
    pub cuts: Cuts,
    /// When to prefix.
    pub prefix: Prefix,
    /// The token `▁`.
    pub space: u32,
}

impl Pieces {
    /// Passes on the tokens of a part of the text.
    pub(super) fn encode<S: Sink>(
        &self,
        (text, range, fresh): (&[u8], Range<usize>, bool),
        lexicon: &Lexicon,
        scratch: &mut Scratch,
        sink: &mut S,
    ) {
        let mut at = range.start;
        if self.is_prefixed(text, at, fresh) {
            at = self.encode_first(text, range.clone(), lexicon, scratch, sink);
        }
        let mut scanned = at;
        lexicon.encode(
            text,
            at..range.end,
            |ends| self.cuts.fill(text, &mut scanned, range.end, ends),
            scratch,
            sink,
        );
    }

    fn is_prefixed(&self, text: &[u8], start: usize, fresh: bool) -> bool {
        let unspaced =
            || text[start] != b' ' && !text[start..].starts_with(SPACE.to_string().as_bytes());
        match self.prefix {
            Prefix::Never => false,
            Prefix::Fresh => fresh,
            Prefix::Unspaced => unspaced(),
            Prefix::UnspacedFirst => start == 0 && unspaced(),
        }
    }

    /// Encodes the first segment with the prefix. Returns where it ends.
    fn encode_first<S: Sink>(
        &self,
        text: &[u8],
        range: Range<usize>,
        lexicon: &Lexicon,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> usize {
        let start = range.start;
        let (first, len) = decode(text, start);
        if range.is_empty() || !self.cuts.joins(u32::from(SPACE), first) {
            sink.push(self.space, start, start + len);
            return start;
        }
        let end = self.first_end(text, range);
        let mut word = std::mem::take(&mut scratch.word);
        word.clear();
        word.push(b' ');
        word.extend_from_slice(&text[start..end]);
        let whole = |ends: &mut Ends| {
            ends[0] = word.len() as u32;
            1
        };
        lexicon.encode(
            &word,
            0..word.len(),
            whole,
            scratch,
            &mut Moved { sink, start, first: start + len },
        );
        scratch.word = word;
        end
    }

    fn first_end(&self, text: &[u8], range: Range<usize>) -> usize {
        let mut ends = [0; BATCH + 1];
        let mut scanned = range.start;
        while self.cuts.fill(text, &mut scanned, range.end, &mut ends) == 0 {}
        ends[0] as usize
    }
}

/// Spans of a word with a prefix as spans of the text. The prefix counts as the first character, as
/// in `tokenizers`.
struct Moved<'a, S> {
    sink: &'a mut S,
    start: usize,
    /// The end of the first character.
    first: usize,
}

impl<S: Sink> Sink for Moved<'_, S> {
    const SPANS: bool = S::SPANS;

    fn push(&mut self, id: u32, start: usize, end: usize) {
        let end = if end == 1 { self.first } else { self.start + end - 1 };
        self.sink.push(id, self.start + start.saturating_sub(1), end);
    }

    fn take(&mut self, ids: &[u32], spans: &[Span]) {
        if !S::SPANS {
            return self.sink.take(ids, spans);
        }
        for (id, Span { start, end }) in ids.iter().zip(spans) {
            self.push(*id, *start as usize, *end as usize);
        }
    }
}
