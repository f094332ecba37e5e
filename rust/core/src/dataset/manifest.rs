//! The manifest: what a folder holds, what it was made from, and the sums that prove no row
//! vanished. It is written last.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::dataset::files::{BatchEntry, FileEntry, ShardEntry, Split, TextEntry};
use crate::dataset::fingerprint::MadeFrom;
use crate::dataset::layout;
use crate::dataset::product::Product;
use crate::disk::{Folder, Kind};
use crate::error::{Error, Result};
use crate::normal::sha256_hex;
use crate::recipe::Action;

/// The manifest's own file name.
pub const FILE: &str = "manifest.json";
/// Bytes that a manifest may have. A batch of about 2 MB takes 140 of them, so this is a data set
/// of a terabyte.
pub(crate) const BYTES_MAX: usize = 64 << 20;
/// The version of this format.
pub const SCHEMA: u32 = 2;
/// What stands before the manifest's own digest, in its last field.
const CHECKSUM_FIELD: &str = ",\n  \"sha256\": \"";

/// A whole manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What the shards hold.
    pub kind: Product,
    /// Name and version of the program.
    pub engine: String,
    /// Versions of the rules, by stage.
    pub semantics: BTreeMap<String, u32>,
    /// SHA-256 of [`Manifest::made_from`]: equal fingerprints, equal bytes.
    pub fingerprint: String,
    /// All that the fingerprint covers.
    pub made_from: MadeFrom,
    /// The recipe as it ran.
    pub recipe: RecipeCopy,
    /// The tokenizer; none in a set of text alone.
    pub tokenizer: Option<TokenizerInfo>,
    /// The chat template; none in a set of text alone.
    pub template: Option<TemplateInfo>,
    /// The inputs, in the order of their ordinals.
    pub inputs: Vec<InputEntry>,
    /// Where every row went.
    pub rows: Rows,
    /// Dialogues in which each phrase was found.
    pub phrases: BTreeMap<String, u64>,
    /// What truecasing changed.
    pub truecase: TruecaseStats,
    /// What dedup could not do.
    pub dedup: DedupStats,
    /// Which evaluation sets were searched for, and what was found.
    pub decontamination: Decontamination,
    /// What was written, by split.
    pub splits: BTreeMap<String, Split>,
    /// All other files.
    pub files: Vec<FileEntry>,
}

/// The recipe as it ran.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RecipeCopy {
    /// Its name.
    pub name: String,
    /// SHA-256 of its text.
    pub sha256: String,
    /// Every key, as TOML.
    pub text: String,
}

/// The tokenizer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TokenizerInfo {
    /// SHA-256 over `tokenizer.json` and the special tokens.
    pub sha256: String,
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// BOS, where there is one.
    pub bos: Option<String>,
    /// EOS, where there is one.
    pub eos: Option<String>,
    /// The padding token, where there is one.
    pub pad: Option<String>,
}

/// The chat template.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TemplateInfo {
    /// What the recipe calls it.
    pub name: String,
    /// SHA-256 of its text.
    pub sha256: String,
}

/// One input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InputEntry {
    /// Base name.
    pub name: String,
    /// BLAKE3 of the file.
    pub blake3: String,
    /// Its size.
    pub bytes: u64,
    /// Rows read from it.
    pub rows: u64,
}

/// Where every row went. `read = written + dropped + duplicates + quarantined`.
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
    /// Rows set aside, by reason.
    pub quarantined: BTreeMap<String, u64>,
}

impl Rows {
    /// Whether no row vanished.
    #[must_use]
    pub fn conserved(&self) -> bool {
        let gone = [&self.dropped, &self.duplicates, &self.quarantined];
        u128::from(self.read)
            == u128::from(self.written) + sum(gone.into_iter().flat_map(BTreeMap::values).copied())
    }
}

/// A sum that no counts of a manifest overflow, whoever wrote them.
fn sum(counts: impl Iterator<Item = u64>) -> u128 {
    counts.map(u128::from).sum()
}

/// What truecasing changed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TruecaseStats {
    /// Rows with at least one change.
    pub rows: u64,
    /// Letters changed.
    pub letters_changed: u64,
}

/// What dedup could not do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DedupStats {
    /// Rows that share a band with more rows than they were compared with: a near-duplicate among
    /// these may have been missed.
    pub near_search_truncated: u64,
}

/// What was searched for, among all rows that the filters let through, repetitions included.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Decontamination {
    /// `checked` or `not checked`.
    pub status: String,
    /// What happened to the rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// The share of an instance's words from which a row gives it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Rows in which an instance of any set was found.
    pub rows_matched: u64,
    /// The sets, in the recipe's order.
    pub sets: Vec<EvaluationEntry>,
}

impl Decontamination {
    /// What is said of a run that searched for nothing.
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
    /// The field its texts stand in.
    pub field: String,
    /// BLAKE3 of its file.
    pub blake3: String,
    /// Its texts.
    pub instances: u64,
    /// Rows of it that have none.
    pub rows_without_text: u64,
    /// Texts that some row gives away.
    pub instances_matched: u64,
    /// These over all.
    pub share: f64,
    /// Whether the share is above 2 %, from which on Tulu 3 calls the set contaminated.
    pub contaminated: bool,
    /// Rows that give one away.
    pub rows_matched: u64,
    /// Of those, the rows with a user turn that says just what an instance says, case and white
    /// space folded.
    pub rows_exact: u64,
}

impl Manifest {
    /// The manifest as its file's text. The last field, `sha256`, is the digest of all that stands
    /// before it.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Internal(error.to_string()))?;
        let fields = json.trim_end_matches(['\n', '}']);
        Ok(format!("{fields}{CHECKSUM_FIELD}{}\"\n}}\n", sha256_hex(fields.as_bytes())))
    }

    /// The manifest of a folder; `None` where there is none.
    pub fn read(folder: &Folder) -> Result<Option<Manifest>> {
        let path = folder.path_of(FILE);
        let text = match folder.read(FILE, BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::input(&path, error)),
        };
        if let Some(advice) = other_schema(&text) {
            return Err(Error::Integrity(format!("`{}` has {advice}", path.display())));
        }
        Manifest::parse(&text).map(Some).map_err(|what| {
            Error::Integrity(format!("`{}` is damaged or was edited: {what}", path.display()))
        })
    }

    /// Every file that it names, with its size.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&str, u64)> {
        let shards = self
            .splits
            .values()
            .flat_map(|split| &split.shards)
            .map(|card| (card.file.as_str(), card.bytes));
        let texts = self
            .splits
            .values()
            .flat_map(|split| &split.text)
            .map(|card| (card.file.as_str(), card.bytes));
        self.files.iter().map(|card| (card.file.as_str(), card.bytes)).chain(shards).chain(texts)
    }

    /// The first file that is not in the folder as it was written, as far as its size shows;
    /// nothing is read.
    pub(crate) fn missing(&self, folder: &Folder) -> Option<String> {
        let is_there = |file: &str, bytes: u64| {
            layout::is_file_of_data_set(file) && kind_of(folder, file) == Some(Kind::File { bytes })
        };
        self.sizes().find(|(file, bytes)| !is_there(file, *bytes)).map(|(file, _)| file.to_owned())
    }

    /// The manifest that a file's bytes are, or what is wrong with them.
    pub fn parse(text: &[u8]) -> std::result::Result<Manifest, String> {
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        let manifest = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let (fields, seal) =
            text.rsplit_once(CHECKSUM_FIELD).ok_or("it does not end with its checksum")?;
        if seal != format!("{}\"\n}}\n", sha256_hex(fields.as_bytes())) {
            return Err("its checksum does not match".to_owned());
        }
        Ok(manifest)
    }

    /// What cannot all be true in it.
    pub fn contradictions(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut hold = |holds: bool, what: &str| {
            if !holds {
                found.push(what.to_owned());
            }
        };
        hold(
            self.rows.conserved(),
            "row counts do not add up: read is not written + dropped + duplicates + quarantined",
        );
        let whole = u128::from;
        hold(
            whole(self.rows.read) == sum(self.inputs.iter().map(|input| input.rows)),
            "the row counts of the inputs do not add up to the rows read",
        );
        hold(
            whole(self.rows.written) == sum(self.splits.values().map(|split| split.rows)),
            "the row counts of the splits do not add up to the rows written",
        );
        hold(
            self.fingerprint == self.made_from.fingerprint()?,
            "the fingerprint does not match the recorded inputs",
        );
        for (name, split) in &self.splits {
            let rows = sum(split.shards.iter().map(|shard| shard.examples));
            let samples = if self.tokenizer.is_some() { split.examples } else { 0 };
            hold(
                rows == whole(samples),
                &format!(
                    "the counts of the shards of split `{name}` do not add up to its examples"
                ),
            );
            let rows = sum(split.text.iter().map(|text| text.rows));
            let texts = self.kind.text_rows(split);
            hold(
                rows == whole(texts) || (split.text.is_empty() && self.tokenizer.is_some()),
                &format!("the row counts of the text files of split `{name}` do not add up"),
            );
            for shard in &split.shards {
                let rows = sum(shard.batches.iter().map(|batch| batch.examples));
                hold(
                    rows == whole(shard.examples),
                    &format!(
                        "the counts of the batches of `{}` do not add up to its examples",
                        shard.file
                    ),
                );
            }
        }
        Ok(found)
    }
}

/// If a manifest has another schema than this version reads, returns that schema and what to do.
/// Other fields may be missing or unknown then, so nothing else is read.
fn other_schema(text: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Head {
        schema: u32,
    }
    let Head { schema } = serde_json::from_slice(text).ok()?;
    let advice = match schema.cmp(&SCHEMA) {
        std::cmp::Ordering::Less => "rebuild the dataset",
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => "update zephyr-fast",
    };
    Some(format!("schema {schema}, but this version reads {SCHEMA}; {advice}"))
}

/// Returns what a path in a directory is. Links are not followed.
fn kind_of(folder: &Folder, path: &str) -> Option<Kind> {
    match path.split_once('/') {
        None => folder.kind(path).ok().flatten(),
        Some((name, within)) => kind_of(&folder.folder(name).ok()?, within),
    }
}
