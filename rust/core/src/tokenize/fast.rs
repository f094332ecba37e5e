//! Our engine: the same ids as `tokenizers`, by cutting exactly and remembering words.

use std::sync::{Arc, Mutex, PoisonError};

use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

use super::added::{Added, Part};
use super::cuts::BATCH;
use super::encode::{Encode, Ids, Sink, Span, Spans};
use super::lexicon::{Lexicon, Scratch};
use super::pieces::Pieces;
use super::reference::Reference;
use super::words::Words;
use crate::error::Result;

/// A tokenizer that our code knows in all its parts.
pub(super) struct Fast {
    /// Its added tokens.
    pub added: Added,
    /// Its words or pieces.
    pub cutter: Cutter,
    /// Its vocabulary.
    pub lexicon: Lexicon,
    /// Does it bring texts to Unicode's normal form C? Those that are not in it go to the reference.
    pub nfc: bool,
    /// The oracle.
    pub reference: Arc<Reference>,
    /// One for each thread that has ever encoded at the same time as others.
    pub scratches: Mutex<Vec<Scratch>>,
}

/// How text is cut.
pub(super) enum Cutter {
    /// Into words.
    Words(Words),
    /// Where nothing merges.
    Pieces(Pieces),
}

impl Fast {
    fn encode<S: Sink>(&self, text: &str, sink: &mut S) {
        let bytes = text.as_bytes();
        let taken = self.scratches.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = taken.unwrap_or_else(Scratch::new);
        self.added.each(text, |part| match (part, &self.cutter) {
            (Part::Token(id, range), _) => sink.push(id, range.start, range.end),
            (Part::Text { range, fresh }, Cutter::Pieces(pieces)) => {
                pieces.encode((bytes, range, fresh), &self.lexicon, &mut scratch, sink);
            }
            (Part::Text { range, .. }, Cutter::Words(words)) => {
                let mut ends = [0; BATCH];
                let mut count = 0;
                let mut at = range.start;
                words.each(bytes, range.start, range.end, |end| {
                    ends[count % BATCH] = end as u32;
                    count += 1;
                    if count == BATCH {
                        at = self.lexicon.encode(bytes, at, &ends, &mut scratch, sink);
                        count = 0;
                    }
                });
                self.lexicon.encode(bytes, at, &ends[..count], &mut scratch, sink);
            }
        });
        scratch.trim();
        self.scratches.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }

    /// Texts that only the reference takes: beyond 4 GiB, or changed by the normaliser.
    fn is_foreign(&self, text: &str) -> bool {
        // Characters below U+0300 are in normal form whatever stands beside them; they are those of up to two bytes below 0xCC.
        let changed = || text.bytes().any(|byte| byte >= 0xCC) && !matches!(is_nfc_quick(text.chars()), IsNormalized::Yes);
        u32::try_from(text.len()).is_err() || (self.nfc && changed())
    }
}

impl Encode for Fast {
    fn ids(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if self.is_foreign(text) {
            return self.reference.ids(text, ids);
        }
        self.encode(text, &mut Ids(ids));
        Ok(())
    }

    fn spans(&self, text: &str, ids: &mut Vec<u32>, spans: &mut Vec<Span>) -> Result<()> {
        if self.is_foreign(text) {
            return self.reference.spans(text, ids, spans);
        }
        self.encode(text, &mut Spans { ids, spans });
        Ok(())
    }
}

impl std::fmt::Debug for Fast {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Fast").field("added", &self.added).field("nfc", &self.nfc).finish_non_exhaustive()
    }
}
