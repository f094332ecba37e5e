//! Counts what the stages changed in rows, for the manifest.

use std::collections::BTreeMap;

use crate::dataset::manifest::{StructureStats, TruecaseStats};
use crate::stage::Notes;

/// The changes so far.
#[derive(Default)]
pub(super) struct Changes {
    pub phrases: BTreeMap<String, u64>,
    pub truecase: TruecaseStats,
    pub structure: StructureStats,
}

impl Changes {
    /// Adds those of a row, whatever its outcome.
    pub(super) fn add(&mut self, notes: &Notes) {
        for phrase in &notes.phrases {
            *self.phrases.entry(phrase.clone()).or_default() += 1;
        }
        self.truecase.rows += u64::from(notes.letters_changed > 0);
        self.truecase.letters_changed += u64::from(notes.letters_changed);
        let structure = &mut self.structure;
        structure.rows_cut += u64::from(notes.messages_cut > 0);
        structure.messages_cut += u64::from(notes.messages_cut);
        structure.rows_starting_with_assistant += u64::from(notes.starts_with_assistant);
        structure.rows_with_repeated_role += u64::from(notes.has_repeated_role);
    }
}
