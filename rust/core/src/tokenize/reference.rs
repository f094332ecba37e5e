//! Hugging Face's `tokenizers`: the oracle that every other engine must equal, and the engine of what no other one knows.

use std::path::Path;

use tokenizers::Tokenizer as HfTokenizer;

use super::encode::{Encode, Span};
use crate::error::{Error, Result};

/// A tokenizer as the `tokenizers` crate loads it, without padding and truncation.
#[derive(Debug)]
pub(super) struct Reference {
    inner: HfTokenizer,
}

impl Reference {
    /// Loads the bytes of a `tokenizer.json`; `file` is its name in errors.
    pub(super) fn new(json: &[u8], file: &Path) -> Result<Reference> {
        let mut inner = HfTokenizer::from_bytes(json).map_err(|error| Error::input(file, error))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::input(file, error))?;
        Ok(Reference { inner })
    }

    /// The crate's own tokenizer.
    pub(super) fn inner(&self) -> &HfTokenizer {
        &self.inner
    }

    /// What the post-processor puts in front of a text.
    pub(super) fn lead(&self) -> Result<Vec<u32>> {
        let with = self.inner.encode_fast("a", true).map_err(failed)?;
        let without = self.inner.encode_fast("a", false).map_err(failed)?;
        let (with, without) = (with.get_ids(), without.get_ids());
        let place = with.windows(without.len().max(1)).position(|window| window == without).unwrap_or(0);
        Ok(with[..place].to_vec())
    }
}

impl Encode for Reference {
    fn ids(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        ids.extend_from_slice(self.inner.encode_fast(text, false).map_err(failed)?.get_ids());
        Ok(())
    }

    fn spans(&self, text: &str, ids: &mut Vec<u32>, spans: &mut Vec<Span>) -> Result<()> {
        let encoding = self.inner.encode(text, false).map_err(failed)?;
        ids.extend_from_slice(encoding.get_ids());
        spans.extend(encoding.get_offsets().iter().map(|(start, end)| Span { start: *start as u32, end: *end as u32 }));
        Ok(())
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Internal(format!("the tokenizer failed on a text: {error}"))
}
