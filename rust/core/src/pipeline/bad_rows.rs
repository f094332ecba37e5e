//! Counts the unreadable rows of a run, and ends it if there are too many.

use super::RunOptions;
use crate::error::{Error, Result};
use crate::read::{Input, RawRow};
use crate::stage::Reason;

/// Default maximum of unreadable rows while the total number of rows is unknown.
const BAD_ROWS_MAX: u64 = 1_000;

/// The number of unreadable rows, the first of them, and how many are allowed.
pub(super) struct BadRows<'run> {
    inputs: &'run [Input],
    max: Option<u64>,
    is_strict: bool,
    count: u64,
    first: Option<String>,
}

impl<'run> BadRows<'run> {
    /// No unreadable row yet.
    pub(super) fn new(inputs: &'run [Input], options: &RunOptions) -> BadRows<'run> {
        let max = if options.strict { Some(0) } else { options.max_bad_rows };
        BadRows { inputs, max, is_strict: options.strict, count: 0, first: None }
    }

    /// Counts an unreadable row, and fails if there are too many.
    pub(super) fn add(&mut self, reason: &Reason, input: i32, raw: &RawRow) -> Result<()> {
        self.count += 1;
        let inputs = self.inputs;
        self.first.get_or_insert_with(|| located(&inputs[input as usize], reason, raw));
        let max = self.max.unwrap_or(BAD_ROWS_MAX);
        if self.count > max { self.fail(max, None) } else { Ok(()) }
    }

    /// Checks the limit once the total number of rows is known.
    pub(super) fn check_total(&self, rows: u64) -> Result<()> {
        let max = self.max.unwrap_or_else(|| 20.max(rows / 1_000));
        if self.count > max { self.fail(max, Some(rows)) } else { Ok(()) }
    }

    fn fail(&self, max: u64, total: Option<u64>) -> Result<()> {
        let (count, first) = (self.count, self.first.as_deref().unwrap_or_default());
        let are = if count == 1 { "is" } else { "are" };
        let rows = match total {
            Some(total) => format!("{count} of {total} rows {are} unreadable"),
            None if count == 1 => "1 row is unreadable".to_owned(),
            None => format!("{count} rows so far are unreadable"),
        };
        Err(Error::TooManyBadRows(if self.is_strict {
            format!("{rows}, and `--strict` allows none: {first}; fix the row, or drop `--strict`")
        } else {
            format!(
                "{rows}, more than the {max} allowed; first: {first}; to quarantine such rows and \
                 continue, raise `--max-bad-rows`"
            )
        }))
    }
}

/// Describes a row that was not written: its file, line, reason and offset.
pub(super) fn located(input: &Input, reason: &Reason, raw: &RawRow) -> String {
    let reason_words = reason.code.word().replace('_', " ").replace("utf8", "UTF-8");
    let reason_words = reason_words.replace("json", "JSON");
    // A row is one line, so the parser's line number would only contradict that of the file.
    let detail = reason.detail.as_deref().map_or_else(String::new, |detail| {
        format!(": {}", detail.replace(" at line 1 column ", " at column "))
    });
    format!("{}:{}: {reason_words}{detail} (byte {})", input.name, raw.line, raw.offset)
}
