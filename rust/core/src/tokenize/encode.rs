//! The trait that both tokenizer engines implement: it converts a text into ids and their spans.

use std::fmt::Debug;

use crate::stage::Reason;

/// The bytes of a text that a token covers. A token that covers a part of a character may list
/// these bytes or the full character.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: u32,
    /// The byte after its last.
    pub end: u32,
}

/// A tokenizer engine, either Hugging Face `tokenizers` or the fast engine. Its errors are reasons
/// to quarantine the text's row.
pub trait Encode: Debug + Send + Sync {
    /// Appends the ids of a text, without the tokens that the tokenizer adds around it.
    fn ids(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Reason>;

    /// Appends the ids of a text and the span of each. Both starts and ends are ascending.
    fn spans(&self, text: &str, ids: &mut Vec<u32>, spans: &mut Vec<Span>) -> Result<(), Reason>;
}

/// Receives tokens while they are found.
pub(super) trait Sink {
    /// Whether spans are collected.
    const SPANS: bool;

    /// Appends the next token, which covers the bytes from `start` to `end`.
    fn push(&mut self, id: u32, start: usize, end: usize);

    /// Appends the next tokens, with their spans if requested.
    fn take(&mut self, ids: &[u32], spans: &[Span]);
}

/// Collects only ids.
pub(super) struct Ids<'a>(pub &'a mut Vec<u32>);

impl Sink for Ids<'_> {
    const SPANS: bool = false;

    fn push(&mut self, id: u32, _start: usize, _end: usize) {
        self.0.push(id);
    }

    fn take(&mut self, ids: &[u32], _: &[Span]) {
        self.0.extend_from_slice(ids);
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
    const SPANS: bool = true;

    fn push(&mut self, id: u32, start: usize, end: usize) {
        self.ids.push(id);
        self.spans.push(Span { start: start as u32, end: end as u32 });
    }

    fn take(&mut self, ids: &[u32], spans: &[Span]) {
        self.ids.extend_from_slice(ids);
        self.spans.extend_from_slice(spans);
    }
}
