//! What needs the rows in their order: duplicates, contradicting preferences and the count of
//! unreadable rows.

use super::Row;
use super::bad_rows::BadRows;
use super::row::{Cleaned, Outcome, RowPipeline};
use crate::binarize::doubts::{Preferences, Verdict};
use crate::dedup::Seen;
use crate::disk::Folder;
use crate::error::Result;
use crate::stage::{Code, Reason};

/// The rows admitted so far.
pub(super) struct Admission<'run> {
    seen: Seen,
    preferences: Preferences,
    bad_rows: BadRows<'run>,
    drops_doubtful: bool,
}

impl<'run> Admission<'run> {
    /// No rows yet. `work` is a directory for the state of dedup.
    pub(super) fn new(
        walk: &RowPipeline,
        work: &Folder,
        bad_rows: BadRows<'run>,
    ) -> Result<Admission<'run>> {
        Ok(Admission {
            seen: Seen::new(work, &walk.recipe.dedup)?,
            preferences: Preferences::default(),
            bad_rows,
            drops_doubtful: walk.drops_doubtful(),
        })
    }

    /// Marks duplicates and contradictions, and counts unreadable rows, in row order.
    pub(super) fn admit(&mut self, mut rows: Vec<Row>) -> Result<Vec<Row>> {
        for row in &mut rows {
            match &mut row.visited.outcome {
                Outcome::GoingOn(cleaned) => {
                    let ended = self.ended(row.row_id, cleaned)?;
                    if let Some(ended) = ended {
                        row.visited.outcome = ended;
                    }
                }
                Outcome::Unreadable(reason) => self.bad_rows.add(reason, row.input, &row.raw)?,
                Outcome::Dropped(_)
                | Outcome::Duplicate(_)
                | Outcome::Quarantined(_)
                | Outcome::Written(..) => {}
            }
        }
        Ok(rows)
    }

    /// The outcome of a row that ends here.
    fn ended(&mut self, row: i64, cleaned: &mut Cleaned) -> Result<Option<Outcome>> {
        if let Some(signature) = &cleaned.signature
            && let Some(repeat) = self.seen.admit(row, signature)?
        {
            return Ok(Some(Outcome::Duplicate(repeat)));
        }
        let verdicts = std::mem::take(&mut cleaned.verdicts);
        let doubt = |verdict: &Option<Verdict>| {
            let earlier = self.preferences.contradicted_by((*verdict)?)?;
            let detail = format!("row {earlier} prefers the other completion");
            Some(Reason::found(Code::ContradictsRow, detail))
        };
        let doubts: Vec<Option<Reason>> = verdicts.iter().map(doubt).collect();
        let settled = cleaned.settle(&doubts, self.drops_doubtful);
        for (verdict, doubt) in verdicts.into_iter().zip(&doubts) {
            if let (Some(verdict), None) = (verdict, doubt) {
                self.preferences.add(row, verdict);
            }
        }
        Ok(settled.err().map(Outcome::from))
    }

    /// Returns an error if too many of all rows are unreadable.
    pub(super) fn check_total(&self, rows_read: u64) -> Result<()> {
        self.bad_rows.check_total(rows_read)
    }

    /// The number of rows whose search for near duplicates was truncated.
    pub(super) fn near_search_truncated(&self) -> u64 {
        self.seen.near_search_truncated()
    }
}
