//! Counts the matches of each evaluation set over a whole run for the manifest.

use super::{Index, SHARE_MAX, SPANS_MAX};
use crate::dataset::manifest::{Decontamination, EvaluationEntry};
use crate::recipe::Decontaminate;
use crate::stage::Found;

/// The counts so far.
#[derive(Debug, Default)]
pub struct Sums {
    /// For each instance, whether any row matched it.
    matched: Vec<bool>,
    /// For each class of the index, how many of its first members any row matched.
    members: Vec<u32>,
    /// For each set, the rows that match and the rows that match exactly.
    rows: Vec<(u64, u64)>,
    rows_matched: u64,
}

impl Sums {
    /// Adds the matches of one row.
    pub fn add(&mut self, index: &Index, found: &Found) {
        self.matched.resize(index.instances.len(), false);
        self.members.resize(index.grams.classes.len(), 0);
        self.rows.resize(index.sets.len(), (0, 0));
        self.rows_matched += u64::from(!found.is_empty());
        for (set, exact) in &found.sets {
            let (rows, rows_exact) = &mut self.rows[*set as usize];
            *rows += 1;
            *rows_exact += u64::from(*exact);
        }
        for instance in found.matches.iter().map(|found| &found.instance).chain(&found.unlisted) {
            self.matched[*instance as usize] = true;
        }
        for (class, members) in &found.classes {
            let most = &mut self.members[*class as usize];
            *most = (*most).max(*members);
        }
        for saying in &found.sayings {
            let same = &index.sayings[*saying as usize];
            // Beyond the few that a row lists, all of them are marked together, so the last one is
            // representative.
            if same.last().is_some_and(|last| !self.matched[*last as usize])
                || same.len() <= SPANS_MAX
            {
                same.iter().for_each(|instance| self.matched[*instance as usize] = true);
            }
        }
    }

    /// For each instance, whether any row matched it.
    fn all_matched(&self, index: &Index) -> Vec<bool> {
        let mut matched = self.matched.clone();
        for (class, members) in index.grams.classes.iter().zip(&self.members) {
            class.members[..*members as usize]
                .iter()
                .for_each(|instance| matched[*instance as usize] = true);
        }
        matched
    }

    /// The report on all sets.
    #[must_use]
    pub fn report(&self, index: &Index, recipe: &Decontaminate) -> Decontamination {
        let all_matched = self.all_matched(index);
        let mut first = 0;
        let mut sets = Vec::with_capacity(index.sets.len());
        for (number, set) in index.sets.iter().enumerate() {
            let matched = all_matched
                .iter()
                .skip(first)
                .take(set.instances)
                .filter(|matched| **matched)
                .count();
            first += set.instances;
            let share = matched as f64 / set.instances as f64;
            let (rows_matched, rows_exact) = self.rows.get(number).copied().unwrap_or_default();
            sets.push(EvaluationEntry {
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
