//! The error of a run that keeps no row: an empty dataset is useless, and its cause must be visible.

use super::names;
use crate::dataset::manifest::Rows;
use crate::error::{Error, Result};
use crate::read::Input;

/// Reasons that the error names.
const REASONS_NAMED: usize = 3;
/// Inputs that the error of an empty input names.
const INPUTS_NAMED: usize = 3;

/// Fails if no row was kept. The error names the most frequent reasons and their remedies.
pub(super) fn check(rows: &Rows, inputs: &[Input]) -> Result<()> {
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
        format!("{count} `{word}`: {cause} {remedy}")
    });
    let reasons = reasons.collect::<Vec<_>>().join(" ");
    Err(Error::NoRowsWritten(format!(
        "0 of {} rows were written, so there is no dataset; reasons: {}",
        rows.read,
        reasons.trim_end_matches('.')
    )))
}
