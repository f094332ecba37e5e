//! The manifest: contents, inputs, row counts and checksums of a dataset. It is written last.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::dataset::counts::sum;
pub use crate::dataset::counts::{
    Decontamination, DedupStats, EvaluationEntry, Rows, StructureStats, TruecaseStats,
};
pub use crate::dataset::files::{BatchEntry, FileEntry, ShardEntry, Split, TextEntry};
use crate::dataset::fingerprint::MadeFrom;
use crate::dataset::layout;
use crate::dataset::product::Product;
use crate::disk::{Folder, Kind};
use crate::error::{Error, Result};
use crate::normal::sha256_hex;

/// The manifest's own file name.
pub const FILE: &str = "manifest.json";
/// Maximum bytes of a manifest. A batch of 2 MB needs 140 bytes, so a dataset may have a terabyte.
pub(crate) const BYTES_MAX: usize = 64 << 20;
/// The version of this format.
pub const SCHEMA: u32 = 3;
/// The text before the manifest's checksum, which is its last field.
const CHECKSUM_FIELD: &str = ",\n  \"sha256\": \"";

/// A manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The kind of dataset.
    pub kind: Product,
    /// Name and version of the program.
    pub engine: String,
    /// Versions of the rules, by stage.
    pub semantics: BTreeMap<String, u32>,
    /// SHA-256 of [`Manifest::made_from`]: equal fingerprints, equal bytes.
    pub fingerprint: String,
    /// Everything that the fingerprint covers.
    pub made_from: MadeFrom,
    /// The recipe as it ran.
    pub recipe: RecipeCopy,
    /// The tokenizer; null in a text-only dataset.
    pub tokenizer: Option<TokenizerInfo>,
    /// The chat template; null in a text-only dataset.
    pub template: Option<TemplateInfo>,
    /// The inputs, in the order of their ordinals.
    pub inputs: Vec<InputEntry>,
    /// Outcomes of all rows.
    pub rows: Rows,
    /// Rows by the shape of their columns, see `source.shape`. Rows of no known shape are not counted.
    pub shapes: BTreeMap<String, u64>,
    /// Words in these rows that stand for a role of another name, such as `human` for `user`, by
    /// shape. Words of rows that could not be read do not count.
    #[serde(default)]
    #[cfg_attr(test, schemars(skip_serializing_if = "BTreeMap::is_empty"))]
    pub role_words: BTreeMap<String, RoleWordsEntry>,
    /// Dialogues in which each phrase was found.
    pub phrases: BTreeMap<String, u64>,
    /// Changes by truecasing.
    pub truecase: TruecaseStats,
    /// Rows whose messages are in an unusual order, or were cut.
    pub structure: StructureStats,
    /// Limits of deduplication.
    pub dedup: DedupStats,
    /// Doubtful pairs of written rows, by reason. The recipe key `binarize.doubtful_pairs` decides
    /// whether they are written. Rows without any other pair are dropped.
    #[serde(default)]
    #[cfg_attr(test, schemars(skip_serializing_if = "BTreeMap::is_empty"))]
    pub doubtful_pairs: BTreeMap<String, u64>,
    /// The evaluation sets that were searched for, and their matches.
    pub decontamination: Decontamination,
    /// The written data, by split.
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
    /// BOS, if there is one.
    pub bos: Option<String>,
    /// EOS, if there is one.
    pub eos: Option<String>,
    /// The padding token, if there is one.
    pub pad: Option<String>,
}

/// The chat template.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TemplateInfo {
    /// Its name: that of a bundled template, `tokenizer`, or the name of a file.
    pub name: String,
    /// SHA-256 of its text.
    pub sha256: String,
    /// The ids of the tokens that end a trained assistant message. Generation must stop at them.
    /// Empty if no end is trained, or if none is a single token.
    pub end_tokens: Vec<u32>,
    /// The texts that end a trained assistant message.
    pub ends: Vec<String>,
    /// Markers that the tokenizer splits into several tokens, because the template was written for
    /// another one.
    pub foreign_markers: Vec<String>,
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
    /// Columns of its rows that were not used, by name. Columns without content do not count, nor
    /// those of rows that could not be read.
    #[serde(default)]
    #[cfg_attr(test, schemars(skip_serializing_if = "Vec::is_empty"))]
    pub unused_columns: Vec<String>,
    /// Whether there are more such columns than are listed.
    #[serde(default)]
    #[cfg_attr(test, schemars(skip_serializing_if = "std::ops::Not::not"))]
    pub has_more_unused_columns: bool,
}

/// The words for roles in rows of one shape.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RoleWordsEntry {
    /// The role of each word. 32 words are listed, each with its first 40 characters.
    pub roles: BTreeMap<String, String>,
    /// Whether there are more such words than are listed.
    pub has_more: bool,
}

impl Manifest {
    /// Returns the manifest as the text of its file. The last field, `sha256`, is the digest of all
    /// text before it.
    pub fn to_json(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Error::Internal(error.to_string()))?;
        let fields = json.trim_end_matches(['\n', '}']);
        Ok(format!("{fields}{CHECKSUM_FIELD}{}\"\n}}\n", sha256_hex(fields.as_bytes())))
    }

    /// Reads the manifest of a directory, or returns `None` if it has no manifest.
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

    /// Returns every file that it lists, with its size.
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

    /// Returns the first listed file that is missing or has another size. No file is read.
    pub(crate) fn missing(&self, folder: &Folder) -> Option<String> {
        let is_there = |file: &str, bytes: u64| {
            layout::is_file_of_data_set(file) && kind_of(folder, file) == Some(Kind::File { bytes })
        };
        self.sizes().find(|(file, bytes)| !is_there(file, *bytes)).map(|(file, _)| file.to_owned())
    }

    /// Parses the bytes of a manifest file, or describes the fault.
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

    /// Returns the inconsistencies between its counts.
    pub fn inconsistencies(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut check = |holds: bool, problem: &str| {
            if !holds {
                found.push(problem.to_owned());
            }
        };
        check(
            self.rows.conserved(),
            "row counts do not add up: read is not written + dropped + duplicates + quarantined",
        );
        let wide = u128::from;
        check(
            wide(self.rows.read) == sum(self.inputs.iter().map(|input| input.rows)),
            "the row counts of the inputs do not add up to the rows read",
        );
        check(
            wide(self.rows.written) == sum(self.splits.values().map(|split| split.rows)),
            "the row counts of the splits do not add up to the rows written",
        );
        check(
            self.fingerprint == self.made_from.fingerprint()?,
            "the fingerprint does not match the recorded inputs",
        );
        for (name, split) in &self.splits {
            let rows = sum(split.shards.iter().map(|shard| shard.examples));
            let samples = if self.tokenizer.is_some() { split.examples } else { 0 };
            check(
                rows == wide(samples),
                &format!(
                    "the counts of the shards of split `{name}` do not add up to its examples"
                ),
            );
            let rows = sum(split.text.iter().map(|text| text.rows));
            let texts = self.kind.text_rows(split);
            check(
                rows == wide(texts) || (split.text.is_empty() && self.tokenizer.is_some()),
                &format!("the row counts of the text files of split `{name}` do not add up"),
            );
            for shard in &split.shards {
                let rows = sum(shard.batches.iter().map(|batch| batch.examples));
                check(
                    rows == wide(shard.examples),
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

/// Describes the schema of a manifest, with a remedy, if this version cannot read it. Its other
/// fields may be missing or unknown, so they are ignored.
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

/// Returns the kind of a path in a directory. Links are not followed.
fn kind_of(folder: &Folder, path: &str) -> Option<Kind> {
    match path.split_once('/') {
        None => folder.kind(path).ok().flatten(),
        Some((name, within)) => kind_of(&folder.folder(name).ok()?, within),
    }
}
