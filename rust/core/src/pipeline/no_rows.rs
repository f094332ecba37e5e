//! The error of a run that writes nothing: an empty dataset is useless, and its cause must be
//! visible.

use std::collections::BTreeMap;

use super::bad_rows::located;
use super::names;
use crate::dataset::manifest::{Rows, Split};
use crate::error::{Error, Result};
use crate::read::{Input, RawRow};
use crate::stage::Reason;

/// Reasons that the error names.
const REASONS_NAMED: usize = 3;
/// Inputs that the error of an empty input names.
const INPUTS_NAMED: usize = 3;

/// The first row of each reason. The error shows it, because a run that fails leaves no ledger.
#[derive(Default)]
pub(super) struct FirstRows(BTreeMap<&'static str, String>);

impl FirstRows {
    /// Remembers a row that is the first of its reason.
    pub(super) fn add(&mut self, reason: &Reason, input: &Input, raw: &RawRow) {
        let first = self.0.entry(reason.code.word());
        first.or_insert_with(|| located(input, reason, raw));
    }
}

/// Fails if no sequence was packed although rows were kept.
pub(super) fn check_examples(splits: &BTreeMap<String, Split>) -> Result<()> {
    if splits.values().any(|split| split.examples > 0) {
        return Ok(());
    }
    Err(Error::NoRowsWritten(
        "the rows have fewer tokens than one sequence, so nothing was written; lower `--seq-len`, \
         or add rows"
            .to_owned(),
    ))
}

/// Fails if no row was kept. The error names the most frequent reasons, the first row of each, and
/// their remedies.
pub(super) fn check(rows: &Rows, inputs: &[Input], first: &FirstRows) -> Result<()> {
    if rows.written > 0 {
        return Ok(());
    }
    if rows.read == 0 {
        let names = inputs.iter().map(|input| format!("`{}`", input.name));
        let names = names.take(INPUTS_NAMED).collect::<Vec<_>>().join(", ");
        return Err(Error::NoRowsWritten(format!(
            "no rows to write: the input is empty ({names}); check `--input`"
        )));
    }
    let mut counts: Vec<(&String, &u64)> =
        [&rows.dropped, &rows.duplicates, &rows.quarantined].into_iter().flatten().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let reasons = counts.into_iter().take(REASONS_NAMED).map(|(word, count)| {
        let text = names::reasons().into_iter().find(|(code, ..)| code == word);
        let (cause, remedy) = text.map_or(("", ""), |(_, _, cause, remedy)| (cause, remedy));
        let first = first.0.get(word.as_str());
        let first = first.map_or_else(String::new, |row| format!(" (first: {row})"));
        format!("{count} `{word}`{first}: {cause} {remedy}")
    });
    let reasons = reasons.collect::<Vec<_>>().join(" ");
    Err(Error::NoRowsWritten(format!(
        "0 of {} rows were written, so there is no dataset; reasons: {}",
        rows.read,
        reasons.trim_end_matches('.')
    )))
}
