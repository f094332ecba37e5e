//! What a stage is: it visits one dialogue, may edit it, leaves typed notes and says keep or drop.
//!
//! Stages have no memory, so any thread may run them and row order cannot matter.

use crate::decontaminate::Found;
use crate::dialogue::Dialogue;

/// Why a row did not get through: a code that is counted, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The word that the manifest counts by.
    pub code: &'static str,
    /// What exactly was found, for the ledger.
    pub detail: Option<String>,
}

impl Reason {
    /// A reason that its code says in full.
    #[must_use]
    pub fn code(code: &'static str) -> Reason {
        Reason { code, detail: None }
    }

    /// A reason with what was found.
    pub fn found(code: &'static str, detail: impl Into<String>) -> Reason {
        Reason { code, detail: Some(detail.into()) }
    }
}

/// What a stage says of a dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Keep,
    /// It stops here, counted under its reason.
    Drop(Reason),
}

/// What the stages did to one dialogue, for the ledger and the manifest's sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Letters the truecaser changed.
    pub fixes: u32,
    /// Phrases that matched, each once.
    pub phrases: Vec<String>,
    /// Instances of evaluation sets that were found.
    pub contamination: Found,
    /// Control tokens in content that were neutralized.
    pub control_tokens: u32,
}

/// One step of cleaning.
pub trait Stage: Send + Sync {
    /// Looks at a dialogue, edits it where that is the stage's work, and judges it.
    fn visit(&self, dialogue: &mut Dialogue, notes: &mut Notes) -> Verdict;
}
