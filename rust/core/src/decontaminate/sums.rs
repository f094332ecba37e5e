//! Counts what was found of each evaluation set over a whole run: the manifest's report.

use super::{Index, Match, SHARE_MAX};
use crate::manifest::{Decontamination, EvaluationCard};
use crate::recipe::Decontaminate;

/// What was found so far.
#[derive(Debug, Default)]
pub struct Sums {
    /// By instance: whether any row matched it.
    matched: Vec<bool>,
    /// By set: rows that match, and rows that match exactly.
    rows: Vec<(u64, u64)>,
    rows_matched: u64,
}

impl Sums {
    /// Adds what was found in one row.
    pub fn add(&mut self, index: &Index, matches: &[Match]) {
        self.matched.resize(index.instances.len(), false);
        self.rows.resize(index.sets.len(), (0, 0));
        self.rows_matched += u64::from(!matches.is_empty());
        // Matches come in the order of the index, so those of one set stand together.
        for of_set in matches.chunk_by(|a, b| index.set_of(a) == index.set_of(b)) {
            let (rows, rows_exact) = &mut self.rows[index.set_of(&of_set[0])];
            *rows += 1;
            *rows_exact += u64::from(of_set.iter().any(|found| found.exact));
            for found in of_set {
                self.matched[found.instance as usize] = true;
            }
        }
    }

    /// The report on all sets.
    #[must_use]
    pub fn report(&self, index: &Index, recipe: &Decontaminate) -> Decontamination {
        let mut first = 0;
        let mut sets = Vec::with_capacity(index.sets.len());
        for (place, set) in index.sets.iter().enumerate() {
            let matched = self.matched.iter().skip(first).take(set.instances).filter(|matched| **matched).count();
            first += set.instances;
            let share = matched as f64 / set.instances as f64;
            let (rows_matched, rows_exact) = self.rows.get(place).copied().unwrap_or_default();
            sets.push(EvaluationCard {
                name: set.name.clone(),
                field: set.field.clone(),
                blake3: set.blake3.clone(),
                instances: set.instances as u64,
                rows_without_text: set.rows_without_text as u64,
                instances_matched: matched as u64,
                share,
                contaminated: share > SHARE_MAX,
                rows_matched,
                rows_exact,
            });
        }
        Decontamination {
            status: "checked".to_owned(),
            action: Some(recipe.action),
            threshold: Some(recipe.threshold),
            rows_matched: self.rows_matched,
            sets,
        }
    }
}
