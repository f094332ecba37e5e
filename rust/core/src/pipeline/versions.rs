//! The parts of the fingerprint other than the recipe: the versions of all rules, the inputs, and
//! the evaluation sets.

use std::collections::BTreeMap;

use crate::dataset::fingerprint::of_named;
use crate::dataset::{ledger, quarantine, shard};
use crate::decontaminate::Index;
use crate::pipeline::{row, text};
use crate::read::{self, Input};
use crate::{
    binarize, control_tokens, decontaminate, dedup, filter, pack, template, tokenize, truecase,
};

/// The version of the rules of every step, and of the forms of the files that are written.
#[must_use]
pub(super) fn of_rules() -> BTreeMap<String, u32> {
    let versions = [
        ("read", read::VERSION),
        ("truecase", truecase::VERSION),
        ("filter", filter::VERSION),
        ("binarize", binarize::VERSION),
        ("dedup", dedup::VERSION),
        ("decontaminate", decontaminate::VERSION),
        ("control_tokens", control_tokens::VERSION),
        ("template", template::VERSION),
        ("tokenize", tokenize::VERSION),
        ("pack", pack::VERSION),
        ("split", row::SPLIT_VERSION),
        ("shard", shard::VERSION),
        ("ledger", ledger::VERSION),
        ("quarantine", quarantine::VERSION),
        ("text", text::VERSION),
    ];
    versions.into_iter().map(|(step, version)| (step.to_owned(), version)).collect()
}

/// One digest of all inputs.
#[must_use]
pub(super) fn of_inputs(inputs: &[Input]) -> String {
    of_named(inputs.iter().map(|input| (input.blake3.as_str(), input.name.as_str())))
}

/// Returns one digest of all evaluation sets, which may be an empty list.
#[must_use]
pub(super) fn of_sets(index: Option<&Index>) -> String {
    let sets = index.map_or(&[][..], Index::sets);
    of_named(sets.iter().map(|set| (set.blake3.as_str(), set.name.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::fingerprint::MadeFrom;

    fn made_from(rules: BTreeMap<String, u32>) -> MadeFrom {
        let text = String::new;
        MadeFrom {
            command: text(),
            engine: text(),
            libraries: text(),
            rules,
            recipe: text(),
            template: text(),
            tokenizer: text(),
            inputs: text(),
            evaluation_sets: text(),
        }
    }

    #[test]
    fn a_version_that_is_raised_makes_another_fingerprint() {
        let before = made_from(of_rules());
        for rule in of_rules().into_keys() {
            let mut raised = of_rules();
            *raised.get_mut(&rule).expect("is there") += 1;
            let after = made_from(raised);
            assert_ne!(
                after.fingerprint().expect("hashes"),
                before.fingerprint().expect("hashes"),
                "{rule}"
            );
            assert_eq!(after.differences(&before), ["versions of the rules"], "{rule}");
        }
    }
}
