//! The reference engine: Hugging Face `tokenizers`. Other engines must produce equal results, and
//! it handles every tokenizer that they do not support.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tokenizers::models::ModelWrapper;
use tokenizers::{DecoderWrapper, Encoding, Model, PostProcessorWrapper, TokenizerImpl};

use super::bounded::{Normalizers, PreTokenizers};
use super::encode::{Encode, Span};
use super::file::with_fast_scores;
use super::models::Models;
use crate::error::{Error, Result};
use crate::stage::{Code, Reason};

/// The crate's tokenizer. Parts whose work can exceed the length of a text are replaced by ones
/// with limits.
pub(super) type Inner =
    TokenizerImpl<Models, Normalizers, PreTokenizers, PostProcessorWrapper, DecoderWrapper>;

/// Maximum number of entries in a vocabulary. The largest published one has 1.2 million.
const VOCABULARY_MAX: usize = 4 << 20;
/// Maximum number of characters in a word for WordPiece, whose work grows with its square.
/// Published tokenizers use 100.
const WORD_CHARS_MAX: usize = 256;

/// A tokenizer as the `tokenizers` crate loads it, without padding and truncation.
#[derive(Debug)]
pub(super) struct Reference {
    inner: Inner,
}

impl Reference {
    /// Loads the bytes of a `tokenizer.json`. Errors name it `file`.
    pub(super) fn new(json: &[u8], file: &Path) -> Result<Reference> {
        let scores = with_fast_scores(json);
        let load = || serde_json::from_slice::<Inner>(scores.as_deref().unwrap_or(json));
        // The crate panics at some malformed parts.
        let loaded = catch_unwind(AssertUnwindSafe(load))
            .map_err(|_| Error::input(file, "not a valid tokenizer.json"))?;
        let mut inner = loaded.map_err(|error| Error::input(file, error))?;
        check_model(inner.get_model().inner()).map_err(|why| Error::input(file, why))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::input(file, error))?;
        Ok(Reference { inner })
    }

    /// The crate's own tokenizer.
    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(super) fn inner_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }

    /// Returns the ids that the post-processor adds before a text.
    pub(super) fn lead(&self) -> std::result::Result<Vec<u32>, Reason> {
        let with = encoded(|| self.inner.encode_fast("a", true))?;
        let without = encoded(|| self.inner.encode_fast("a", false))?;
        let (with, without) = (with.get_ids(), without.get_ids());
        let index =
            with.windows(without.len().max(1)).position(|window| window == without).unwrap_or(0);
        Ok(with[..index].to_vec())
    }
}

impl Encode for Reference {
    fn ids(&self, text: &str, ids: &mut Vec<u32>) -> std::result::Result<(), Reason> {
        ids.extend_from_slice(encoded(|| self.inner.encode_fast(text, false))?.get_ids());
        Ok(())
    }

    fn spans(
        &self,
        text: &str,
        ids: &mut Vec<u32>,
        spans: &mut Vec<Span>,
    ) -> std::result::Result<(), Reason> {
        let encoding = encoded(|| self.inner.encode(text, false))?;
        ids.extend_from_slice(encoding.get_ids());
        spans.extend(
            encoding
                .get_offsets()
                .iter()
                .map(|(start, end)| Span { start: *start as u32, end: *end as u32 }),
        );
        Ok(())
    }
}

/// Tokenizes with the crate. If it fails or panics, returns the reason to quarantine the row.
fn encoded(
    encode: impl FnOnce() -> tokenizers::Result<Encoding>,
) -> std::result::Result<Encoding, Reason> {
    let failed =
        |what: String| Reason::found(Code::Tokenizer, format!("tokenization failed: {what}"));
    match catch_unwind(AssertUnwindSafe(encode)) {
        Ok(encoded) => encoded.map_err(|error| failed(error.to_string())),
        Err(panic) => Err(failed(
            panic
                .downcast_ref::<String>()
                .map_or_else(|| "the tokenizers library panicked".to_owned(), Clone::clone),
        )),
    }
}

fn check_model(model: &ModelWrapper) -> std::result::Result<(), String> {
    let entries = model.get_vocab_size();
    if entries > VOCABULARY_MAX {
        return Err(format!("its vocabulary has {entries} entries (limit: {VOCABULARY_MAX})"));
    }
    match model {
        ModelWrapper::WordPiece(model) if model.max_input_chars_per_word > WORD_CHARS_MAX => {
            Err(format!(
                "its `max_input_chars_per_word` is {} (limit: {WORD_CHARS_MAX})",
                model.max_input_chars_per_word
            ))
        }
        ModelWrapper::BPE(model) if model.dropout.is_some_and(|dropout| dropout > 0.0) => {
            Err("its model uses BPE dropout, which makes token ids random; set `dropout` to null"
                .to_owned())
        }
        _ => Ok(()),
    }
}
