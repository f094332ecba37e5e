//! Every name that a run writes in its output directory, by level. Only these are removed by a
//! later run, and only these may be listed in a manifest.

use super::{card, ledger, manifest, quarantine, sidecar};
use crate::disk::TEMPORARY_PREFIX;

/// Directory of a run's spool files, lock and run record. Removed when the run is done.
pub(crate) const WORK: &str = "_work";
/// The run record, in [`WORK`].
pub(crate) const NOTE: &str = "run.json";
/// The lock, in [`WORK`].
pub(crate) const LOCK: &str = "lock";
/// Directory of the cleaned text.
pub(crate) const TEXT: &str = "text";
/// Directory of the tokenizer.
pub(crate) const TOKENIZER: &str = "tokenizer";

/// A directory within the output directory, or that directory itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Top,
    Work,
    Text,
    Tokenizer,
    Ledger,
    Quarantine,
    /// The directory of stored log-probs.
    Refs,
    /// The stored log-probs with a given key.
    Key,
}

/// The kind of entry that a name may be at a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    File,
    Folder(Level),
    /// An entry that no run writes.
    Strange,
}

impl Level {
    /// Returns the kind of entry that a run writes under a name at this level.
    pub(crate) fn role(self, name: &str) -> Role {
        match self.folder(name) {
            Some(level) => Role::Folder(level),
            None if self.has_file(name) || name.starts_with(TEMPORARY_PREFIX) => Role::File,
            None => Role::Strange,
        }
    }

    fn folder(self, name: &str) -> Option<Level> {
        match (self, name) {
            (Level::Top, WORK) => Some(Level::Work),
            (Level::Top, TEXT) => Some(Level::Text),
            (Level::Top, TOKENIZER) => Some(Level::Tokenizer),
            (Level::Top, ledger::FOLDER) => Some(Level::Ledger),
            (Level::Top, quarantine::FOLDER) => Some(Level::Quarantine),
            (Level::Top, sidecar::FOLDER) => Some(Level::Refs),
            (Level::Refs, key) if is_key(key) => Some(Level::Key),
            _ => None,
        }
    }

    fn has_file(self, name: &str) -> bool {
        match self {
            Level::Top => name == manifest::FILE || name == card::FILE || is_part(name, ".arrow"),
            Level::Work => {
                [LOCK, NOTE, "shingles", "samples-train", "samples-test"].contains(&name)
            }
            Level::Text => is_part(name, ".parquet"),
            Level::Tokenizer => name == "tokenizer.json" || name == "tokenizer_config.json",
            Level::Ledger => name == ledger::FILE_NAME,
            Level::Quarantine => is_quarantine(name),
            Level::Refs => false,
            Level::Key => name == manifest::FILE || is_part(name, ".arrow"),
        }
    }
}

/// Whether a path in the output directory is one that a finished run may have written, and so one
/// that a manifest may name.
pub(crate) fn is_file_of_data_set(path: &str) -> bool {
    let mut level = Level::Top;
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        match level.role(name) {
            Role::Folder(Level::Work) | Role::Strange => return false,
            Role::Folder(within) => level = within,
            Role::File => return names.peek().is_none() && !name.starts_with(TEMPORARY_PREFIX),
        }
    }
    false
}

/// `train-00000.arrow` and its like, a number more between them allowed.
fn is_part(name: &str, ending: &str) -> bool {
    let Some(stem) = name.strip_suffix(ending) else { return false };
    let Some(numbers) = stem.strip_prefix("train-").or_else(|| stem.strip_prefix("test-")) else {
        return false;
    };
    match numbers.split_once('-') {
        None => is_number(numbers, 5),
        Some((number, again)) => is_number(number, 5) && is_number(again, 1),
    }
}

/// `00000-rows.jsonl.jsonl` and its like.
fn is_quarantine(name: &str) -> bool {
    let parts = name.strip_suffix(".jsonl").and_then(|name| name.split_once('-'));
    parts.is_some_and(|(number, _)| is_number(number, 5)) && !name.chars().any(char::is_control)
}

fn is_key(name: &str) -> bool {
    name.len() == sidecar::KEY_DIGITS
        && name.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

/// Whether a text is a file number: digits, and no more than any number of files could need.
fn is_number(text: &str, digits_min: usize) -> bool {
    (digits_min..=20).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_may_name_what_a_run_writes_and_nothing_else() {
        let key = "_ref/0123456789abcdef";
        for path in [
            "README.md",
            "train-00000.arrow",
            "test-123456.arrow",
            "text/train-00000.parquet",
            "tokenizer/tokenizer.json",
            "_ledger/part-00000.parquet",
            "_quarantine/00000-a b-ü.jsonl.jsonl",
            &format!("{key}/test-00000.arrow"),
        ] {
            assert!(is_file_of_data_set(path), "{path}");
        }
        for path in [
            "",
            "/",
            "text",
            "text/",
            "text//train-00000.parquet",
            "./train-00000.arrow",
            "/train-00000.arrow",
            "../copy/train-00000.arrow",
            "text/../train-00000.arrow",
            "train-00000.arrow/",
            "train-00000.arrow/train-00000.arrow",
            "train-0000.arrow",
            "train-00000.arrow\0",
            "train-0000\u{661}.arrow",
            "valid-00000.arrow",
            "origin.json",
            "_work/lock",
            "_quarantine/00000-a\nb.jsonl",
            "_quarantine/00000-a/b.jsonl",
            ".zephyr-draft-x",
            "_ref/0123456789ABCDEF/test-00000.arrow",
            "_ref/../_ledger/part-00000.parquet",
            "_ref/manifest.json",
        ] {
            assert!(!is_file_of_data_set(path), "{path:?}");
        }
    }
}
