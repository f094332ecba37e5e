//! The keys of `[truecase]`.

use serde::{Deserialize, Serialize};

/// `[truecase]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Truecase {
    /// Whether capitalization is corrected.
    pub enabled: bool,
    /// Which letters get a capital.
    pub rules: TruecaseRules,
    /// Whether `prompt_id` hashes the prompt before (`raw`) or after (`clean`) correction.
    pub id_from: IdFrom,
}

impl Default for Truecase {
    fn default() -> Truecase {
        Truecase { enabled: false, rules: TruecaseRules::Careful, id_from: IdFrom::Clean }
    }
}

named! {
    /// Which letters get a capital.
    pub enum TruecaseRules {
        /// Starts of sentences and the pronoun `i`, in messages where at least half of the sentences
        /// start with a small letter. Code, markup, maths, verse, lists, CSV and links stay.
        Careful "careful",
        /// Those that ultrachat_200k has: the first letter of a message, letters after `. `, and the
        /// pronoun in ` i ` and ` i'`, also in code.
        H4 "h4",
    }
}

named! {
    /// Which text the `prompt_id` hashes.
    pub enum IdFrom {
        /// The prompt as the source has it.
        Raw "raw",
        /// The prompt after correction.
        Clean "clean",
    }
}
