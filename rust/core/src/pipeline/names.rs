//! Every list of names that a user may type or read, by kind. No other module keeps a copy.

use crate::dataset::product::Product;
use crate::dedup::Repeat;
use crate::encode;
use crate::error::{Error, Result};
use crate::filter;
use crate::read::{self, shape};
use crate::recipe::{
    Action, Compared, IdFrom, Policy, Preset, ScoreBy, Strategy, TrainEnd, TrainOn, TruecaseRules,
};
use crate::stage::Code;

/// A function that returns a list.
type List = fn() -> Vec<&'static str>;

/// The lists, by kind.
const LISTS: [(&str, List); 20] = [
    ("actions", || Action::NAMES.to_vec()),
    ("acts", || Product::ALL.map(|product| product.facts().act).to_vec()),
    ("commands", || Product::ALL.map(Product::command).to_vec()),
    ("compared", || Compared::NAMES.to_vec()),
    ("control_tokens", || Policy::NAMES.to_vec()),
    ("endings", read::endings),
    ("filters", filter::names),
    ("id_from", || IdFrom::NAMES.to_vec()),
    ("presets", || Preset::NAMES.to_vec()),
    ("products", || Product::ALL.map(|product| product.facts().word).to_vec()),
    ("reasons", || Code::ALL.iter().map(|code| code.word()).collect()),
    ("repeats", || Repeat::KINDS.to_vec()),
    ("scores", || ScoreBy::NAMES.to_vec()),
    ("shapes", shape::names),
    ("strategies", || Strategy::NAMES.to_vec()),
    ("structural_reasons", || {
        Code::ALL.iter().filter(|code| code.is_structural()).map(|code| code.word()).collect()
    }),
    ("templates", encode::template_names),
    ("train_end", || TrainEnd::NAMES.to_vec()),
    ("train_on", || TrainOn::NAMES.to_vec()),
    ("truecase_rules", || TruecaseRules::NAMES.to_vec()),
];

/// Prefix of a product's name in the kind of its trained columns. A user cannot choose among these,
/// so errors do not list them as kinds.
const TRAINED_COLUMNS: &str = "trained_columns:";

/// Returns the names of a kind. `products`, `commands` and `acts` list the products in the same
/// order.
pub fn names(kind: &str) -> Result<Vec<&'static str>> {
    let list = LISTS.iter().find(|(known, _)| *known == kind).map(|(_, names)| names());
    let kinds = || LISTS.map(|(kind, _)| kind).join(", ");
    let unknown = || Error::Config(format!("unknown list `{kind}`; known: {}", kinds()));
    list.or_else(|| trained_columns(kind)).ok_or_else(unknown)
}

/// Returns the columns that a product is trained on, if this kind names such a list.
fn trained_columns(kind: &str) -> Option<Vec<&'static str>> {
    let word = kind.strip_prefix(TRAINED_COLUMNS)?;
    let product = Product::ALL.into_iter().find(|product| product.facts().word == word)?;
    Some(product.trained_columns())
}

/// Cause and remedy of the two kinds of duplicates, in the order of [`Repeat::KINDS`].
const DUPLICATES: [(&str, &str); 2] = [
    (
        "The row repeats an earlier one. `prep` compares the messages, ignoring case and white space \
         outside of code; `binarize` compares the bytes of the row.",
        "Set `dedup.exact = false` to keep repeated rows.",
    ),
    (
        "The dialogue is similar to an earlier one: the Jaccard similarity of their shingles of five \
         words is at least `dedup.threshold`.",
        "Raise `dedup.threshold`, or set `dedup.near = false`.",
    ),
];

/// Class, kind, meaning and remedy of an error.
type Kind = (&'static str, fn(String) -> Error, &'static str, &'static str);

/// Every kind of error.
const ERRORS: [Kind; 10] = [
    (
        "ConfigError",
        Error::Config,
        "Invalid recipe, template, option or combination of options.",
        "Fix the key or option that the message names.",
    ),
    (
        "TooManyBadRowsError",
        Error::TooManyBadRows,
        "More unreadable rows than the run allows.",
        "Fix the row that the message names, or raise `--max-bad-rows` to quarantine such rows.",
    ),
    (
        "NoRowsWrittenError",
        Error::NoRowsWritten,
        "No row was kept, so no dataset was written.",
        "Follow the remedy of the reasons that the message names.",
    ),
    (
        "InputError",
        Error::Input,
        "An input, dataset, model or tokenizer is missing, cannot be read, or changed while it was read.",
        "Check the path, then run the command again.",
    ),
    (
        "OutputExistsError",
        Error::OutputExists,
        "The output directory holds a different run, or files that zephyr-fast did not write.",
        "Choose another directory, or pass `--overwrite`.",
    ),
    (
        "LockedError",
        Error::Locked,
        "Another process is writing to the output directory.",
        "Wait for it to finish, or choose another directory.",
    ),
    (
        "IntegrityError",
        Error::Integrity,
        "Data on disk is damaged: a checksum, size or count does not match.",
        "Copy or rebuild the dataset.",
    ),
    (
        "StorageError",
        Error::Storage,
        "Writing failed: the disk is full or read-only, or reported an I/O error.",
        "Free space or fix the disk, then run the command again.",
    ),
    (
        "MemoryLimitError",
        Error::MemoryLimit,
        "The process used more memory than `--max-memory` allows, or than the system has.",
        "Raise the limit, use fewer `--threads`, or split the input.",
    ),
    (
        "InternalError",
        Error::Internal,
        "A bug in zephyr-fast.",
        "Report it, with the message and the command.",
    ),
];

/// A reason's code, how its row ends, its cause, and its remedy.
pub type ReasonText = (&'static str, &'static str, &'static str, &'static str);

/// A name, its outcome or exit code, its meaning, and its remedy.
pub type Description = (&'static str, String, &'static str, &'static str);

/// Describes every reason (code, outcome, cause, remedy) or error (class, exit code, meaning,
/// remedy).
pub fn describe(kind: &str) -> Result<Vec<Description>> {
    match kind {
        "errors" => Ok(errors()),
        "reasons" => Ok(reasons()
            .into_iter()
            .map(|(code, outcome, cause, remedy)| (code, outcome.to_owned(), cause, remedy))
            .collect()),
        _ => Err(Error::Config(format!("unknown list `{kind}`; known: errors, reasons"))),
    }
}

/// Returns every error that a command may end with, an interrupt last.
#[must_use]
pub fn errors() -> Vec<Description> {
    let row = |(class, kind, meaning, remedy): Kind| {
        (class, kind(String::new()).exit_code().to_string(), meaning, remedy)
    };
    let interrupted = (
        "KeyboardInterrupt",
        Error::Interrupted.exit_code().to_string(),
        "Interrupted with Ctrl-C.",
        "Run the same command again: `prep` and `binarize` start over, `ref-logprobs` resumes.",
    );
    ERRORS.into_iter().map(row).chain([interrupted]).collect()
}

/// Returns the meaning of a class of errors.
#[must_use]
pub fn meaning(class: &str) -> &'static str {
    let known = ERRORS.iter().find(|(known, ..)| *known == class);
    known.map_or("Base class of zephyr-fast's errors.", |(_, _, meaning, _)| meaning)
}

/// Returns every reason for which a row is not written, duplicates last.
#[must_use]
pub fn reasons() -> Vec<ReasonText> {
    let codes = Code::ALL
        .iter()
        .map(|code| (code.word(), code.ending().word(), code.cause(), code.remedy()));
    let duplicates = Repeat::KINDS.iter().zip(DUPLICATES);
    codes
        .chain(duplicates.map(|(kind, (cause, remedy))| (*kind, "duplicate", cause, remedy)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_has_names_and_none_twice() {
        for (kind, list) in LISTS {
            let mut names = list();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert!(count > 0 && names.len() == count, "{kind}");
        }
        assert!(names("colours").is_err());
        assert!(names("trained_columns:colours").is_err());
    }
}
