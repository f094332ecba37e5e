//! The fingerprint of a run: everything its output depends on. Two runs with the same fingerprint
//! write the same bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::normal::sha256_hex;

/// Name and version of the program.
pub const ENGINE: &str = concat!("zephyr-fast ", env!("CARGO_PKG_VERSION"));

/// The libraries whose version may change bytes. A test compares this with Cargo.lock.
pub const LIBRARIES: &str = "arrow-ipc 60.1.0, minijinja 3.1.0, parquet 60.1.0, tokenizers 0.23.2, \
    zstd-sys 2.1.3+zstd.1.5.7";

/// Digests of everything that may change the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MadeFrom {
    /// `prep` or `binarize`.
    pub command: String,
    /// The program.
    pub engine: String,
    /// Its libraries.
    pub libraries: String,
    /// The versions of the rules of every step, and of the file formats. Empty in datasets built
    /// before these were recorded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, u32>,
    /// The recipe with all its keys.
    pub recipe: String,
    /// The chat template; empty in a text-only dataset.
    pub template: String,
    /// The tokenizer; empty in a text-only dataset.
    pub tokenizer: String,
    /// Names and digests of the inputs, in order.
    pub inputs: String,
    /// Names and digests of the evaluation sets, in order.
    pub evaluation_sets: String,
}

impl MadeFrom {
    /// Returns one digest of all fields.
    pub fn fingerprint(&self) -> Result<String> {
        let json = serde_json::to_vec(self).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(sha256_hex(&json))
    }

    /// Returns the names of the fields in which another run differs.
    pub fn differences(&self, other: &MadeFrom) -> Vec<&'static str> {
        let rules = ("versions of the rules", self.rules == other.rules);
        let texts = [
            ("command", &self.command, &other.command),
            ("engine version", &self.engine, &other.engine),
            ("library versions", &self.libraries, &other.libraries),
            ("recipe", &self.recipe, &other.recipe),
            ("template", &self.template, &other.template),
            ("tokenizer", &self.tokenizer, &other.tokenizer),
            ("inputs", &self.inputs, &other.inputs),
            ("evaluation sets", &self.evaluation_sets, &other.evaluation_sets),
        ];
        let same = texts.map(|(name, ours, theirs)| (name, ours == theirs));
        same.into_iter()
            .chain([rules])
            .filter(|(_, is_same)| !is_same)
            .map(|(name, _)| name)
            .collect()
    }
}

/// Returns one digest of digests and names. Each is prefixed with its length, so no name can
/// imitate two entries.
pub fn of_named<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let prefixed =
        |(blake3, name): (&str, &str)| format!("{}:{blake3}{}:{name}", blake3.len(), name.len());
    sha256_hex(entries.map(prefixed).collect::<String>().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::of_named;

    #[test]
    fn no_name_passes_for_two_entries() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        let two = of_named([(a.as_str(), "a.jsonl"), (b.as_str(), "b.jsonl")].into_iter());
        for between in ["\n", "\0", " ", "", "64:", "\",\""] {
            for after in [" b.jsonl", "b.jsonl", "7:b.jsonl"] {
                let forged = format!("a.jsonl{between}{b}{after}");
                assert_ne!(
                    of_named([(a.as_str(), forged.as_str())].into_iter()),
                    two,
                    "{forged:?}"
                );
            }
        }
    }

    #[test]
    fn the_libraries_are_those_of_the_lock_file() {
        let lock = include_str!("../../../../Cargo.lock");
        for library in super::LIBRARIES.split(", ") {
            let (name, version) = library.split_once(' ').expect("name and version");
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"");
            assert!(
                lock.contains(&entry),
                "Cargo.lock has another version of {name} than fingerprint.rs says"
            );
        }
    }
}
