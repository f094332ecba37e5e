//! What an engine does: a text in, its ids out, and where each token stands in the text.

use std::fmt::Debug;

use crate::error::Result;

/// The bytes of a text that a token holds. A token that holds some bytes of a character may name these or the whole character.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: u32,
    /// The byte after its last.
    pub end: u32,
}

/// An engine: Hugging Face's `tokenizers`, or ours.
pub trait Encode: Debug + Send + Sync {
    /// Appends the ids of a text, without what the tokenizer puts around it.
    fn ids(&self, text: &str, ids: &mut Vec<u32>) -> Result<()>;

    /// Appends the ids of a text and the span of each. Starts ascend, and so do ends.
    fn spans(&self, text: &str, ids: &mut Vec<u32>, spans: &mut Vec<Span>) -> Result<()>;
}

/// Where tokens go as they are found.
pub(super) trait Sink {
    /// Takes the next token, which holds the bytes from `start` to `end`.
    fn push(&mut self, id: u32, start: usize, end: usize);

    /// Takes the next token, or with `both` the next two, given where the first begins and ends and the second ends. One word in ten has
    /// two, and a branch that is wrong so often costs more than a token written in vain.
    fn push_one_or_two(&mut self, ids: [u32; 2], both: bool, places: (usize, usize, usize));
}

/// Keeps ids alone.
pub(super) struct Ids<'a>(pub &'a mut Vec<u32>);

impl Sink for Ids<'_> {
    #[inline]
    fn push(&mut self, id: u32, _start: usize, _end: usize) {
        self.0.push(id);
    }

    #[inline]
    fn push_one_or_two(&mut self, ids: [u32; 2], both: bool, _: (usize, usize, usize)) {
        self.0.extend_from_slice(&ids);
        self.0.truncate(self.0.len() - usize::from(!both));
    }
}

/// Keeps ids and spans.
pub(super) struct Spans<'a> {
    /// The ids.
    pub ids: &'a mut Vec<u32>,
    /// The span of each.
    pub spans: &'a mut Vec<Span>,
}

impl Sink for Spans<'_> {
    #[inline]
    fn push(&mut self, id: u32, start: usize, end: usize) {
        self.ids.push(id);
        self.spans.push(Span { start: start as u32, end: end as u32 });
    }

    #[inline]
    fn push_one_or_two(&mut self, ids: [u32; 2], both: bool, (start, middle, end): (usize, usize, usize)) {
        let (start, middle, end) = (start as u32, middle as u32, end as u32);
        self.ids.extend_from_slice(&ids);
        self.spans.extend_from_slice(&[Span { start, end: middle }, Span { start: middle, end }]);
        self.ids.truncate(self.ids.len() - usize::from(!both));
        self.spans.truncate(self.spans.len() - usize::from(!both));
    }
}
