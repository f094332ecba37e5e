//! The fast engine: it returns the same ids as `tokenizers`, by exact segmentation and a cache of
//! words.

mod added;
mod batch;
mod cache;
mod classes;
mod cuts;
mod groups;
mod lexicon;
mod masks;
mod merges;
mod normal;
mod pieces;
mod plan;
mod utf8;
mod vocabulary;
mod words;

use std::sync::{Arc, Mutex, PoisonError};

use super::encode::{Encode, Ids, Sink, Span, Spans};
use super::reference::Reference;
use crate::stage::Reason;
use added::{Added, Part};
use batch::Ends;
use lexicon::{Lexicon, Scratch};
use normal::is_nfc;
use pieces::Pieces;
pub(super) use plan::build;
use words::{Progress, Words};

/// A tokenizer whose parts are all supported.
pub(super) struct Fast {
    /// Its added tokens.
    added: Added,
    /// Its words or pieces.
    cutter: Cutter,
    /// Its vocabulary.
    lexicon: Lexicon,
    /// Whether it normalizes texts to Unicode form C. Texts in another form are passed to the
    /// reference engine.
    nfc: bool,
    /// The oracle.
    reference: Arc<Reference>,
    /// One for each thread that has encoded concurrently with others.
    scratches: Mutex<Vec<Scratch>>,
}

/// How text is segmented.
enum Cutter {
    /// Into words.
    Words(Words),
    /// At positions where no merge crosses.
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
                let mut progress = Progress::at(range.start);
                let fill = |ends: &mut Ends| words.fill(bytes, &mut progress, range.end, ends);
                self.lexicon.encode(bytes, range.clone(), fill, &mut scratch, sink);
            }
        });
        scratch.trim();
        self.scratches.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }

    /// Whether only the reference engine accepts the text: it exceeds 4 GiB or the normalizer
    /// changes it.
    fn is_foreign(&self, text: &str) -> bool {
        u32::try_from(text.len()).is_err() || (self.nfc && !is_nfc(text))
    }
}

impl Encode for Fast {
    fn ids(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), Reason> {
        if self.is_foreign(text) {
            return self.reference.ids(text, ids);
        }
        self.encode(text, &mut Ids(ids));
        Ok(())
    }

    fn spans(&self, text: &str, ids: &mut Vec<u32>, spans: &mut Vec<Span>) -> Result<(), Reason> {
        if self.is_foreign(text) {
            return self.reference.spans(text, ids, spans);
        }
        self.encode(text, &mut Spans { ids, spans });
        Ok(())
    }
}

impl std::fmt::Debug for Fast {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Fast")
            .field("added", &self.added)
            .field("nfc", &self.nfc)
            .finish_non_exhaustive()
    }
}
