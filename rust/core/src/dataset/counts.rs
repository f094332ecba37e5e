//! The counts of a manifest: outcomes of rows, changes by the steps, and matches with evaluation sets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recipe::Action;

/// Outcomes of all rows. `read = written + dropped + duplicates + quarantined`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rows {
    /// Rows read.
    pub read: u64,
    /// Rows that are in the shards.
    pub written: u64,
    /// Rows dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Rows that repeat an earlier one: `exact` and `near`.
    pub duplicates: BTreeMap<String, u64>,
    /// Rows quarantined, by reason.
    pub quarantined: BTreeMap<String, u64>,
}

impl Rows {
    /// Whether the counts add up: every row read has exactly one outcome.
    #[must_use]
    pub fn conserved(&self) -> bool {
        let gone = [&self.dropped, &self.duplicates, &self.quarantined];
        u128::from(self.read)
            == u128::from(self.written) + sum(gone.into_iter().flat_map(BTreeMap::values).copied())
    }
}

/// A sum that cannot overflow, even with the counts of a forged manifest.
pub(super) fn sum(counts: impl Iterator<Item = u64>) -> u128 {
    counts.map(u128::from).sum()
}

/// Changes by truecasing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TruecaseStats {
    /// Rows with at least one change.
    pub rows: u64,
    /// Letters changed.
    pub letters_changed: u64,
}

/// What the filter `structure` cut or let pass with `order = "any"`. Rows that a later step removes
/// are included.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StructureStats {
    /// Rows of which messages after the last answer were removed.
    pub rows_cut: u64,
    /// Messages removed.
    pub messages_cut: u64,
    /// Rows in which the assistant speaks first.
    pub rows_starting_with_assistant: u64,
    /// Rows in which two neighbouring messages have the same role.
    pub rows_with_repeated_role: u64,
}

/// Limits of deduplication.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DedupStats {
    /// Rows that share a band with more rows than they were compared with: a near-duplicate among
    /// these may have been missed.
    pub near_search_truncated: u64,
}

/// Results of the search for evaluation sets, over all rows that pass the filters, duplicates
/// included.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Decontamination {
    /// `checked` or `not checked`.
    pub status: String,
    /// The action on matching rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Share of an instance's words above which a row matches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Rows in which an instance of any set was found.
    pub rows_matched: u64,
    /// The sets, in the recipe's order.
    pub sets: Vec<EvaluationEntry>,
}

impl Decontamination {
    /// The report of a run without evaluation sets.
    #[must_use]
    pub fn not_checked() -> Decontamination {
        Decontamination {
            status: "not checked".to_owned(),
            action: None,
            threshold: None,
            rows_matched: 0,
            sets: Vec::new(),
        }
    }
}

/// One evaluation set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EvaluationEntry {
    /// Its name in the recipe.
    pub name: String,
    /// The field that contains its texts.
    pub field: String,
    /// BLAKE3 of its file.
    pub blake3: String,
    /// Its texts.
    pub instances: u64,
    /// Rows of it without a text.
    pub rows_without_text: u64,
    /// Texts that at least one row matches.
    pub instances_matched: u64,
    /// `instances_matched` divided by `instances`.
    pub share: f64,
    /// Whether the share is above 2 %, from which on Tulu 3 calls the set contaminated.
    pub contaminated: bool,
    /// Rows that match one of its texts.
    pub rows_matched: u64,
    /// Matching rows with a user message that equals an instance, ignoring case and white space.
    pub rows_exact: u64,
}
