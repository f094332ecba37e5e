//! The manifest's entries for files: a split, its shards with their batches, its text, and any
//! other file.

use serde::{Deserialize, Serialize};

use crate::disk::commit::Committed;

/// One split.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Split {
    /// Dialogues.
    pub rows: u64,
    /// Packed sequences, or pairs. Without tokens: dialogues, or pairs.
    pub examples: u64,
    /// Tokens in the shards.
    pub tokens: u64,
    /// Tokens that have a label. In pairs: the tokens of the completions.
    pub label_tokens: u64,
    /// Tokens truncated from dialogues or pairs that are too long.
    pub tokens_truncated: u64,
    /// The truncated tokens that would have had a label.
    pub label_tokens_truncated: u64,
    /// Dialogues that were truncated.
    pub rows_truncated: u64,
    /// Maximum tokens of an example: `seq_len`, or `max_length` of a pair.
    pub seq_len: u64,
    /// Share of the capacity of all packed sequences that holds tokens. Only in packed datasets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill: Option<f64>,
    /// The shards.
    pub shards: Vec<ShardEntry>,
    /// The cleaned text, as Parquet.
    pub text: Vec<TextEntry>,
}

/// One shard.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ShardEntry {
    /// Its path in the directory.
    pub file: String,
    /// Packed sequences, or pairs.
    pub examples: u64,
    /// Tokens.
    pub tokens: u64,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Its record batches, in order.
    pub batches: Vec<BatchEntry>,
}

/// One record batch of a shard. It is verified before its first row is used.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BatchEntry {
    /// Where its message starts in the file.
    pub offset: u64,
    /// The message's length.
    pub bytes: u64,
    /// Packed sequences, or pairs.
    pub examples: u64,
    /// XXH3-64 of the message, 16 hex digits.
    pub xxh3: String,
}

/// One text file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TextEntry {
    /// Its path in the directory.
    pub file: String,
    /// Rows.
    pub rows: u64,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// Any other file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FileEntry {
    /// Its path in the directory.
    pub file: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl FileEntry {
    /// The entry of a committed file.
    #[must_use]
    pub fn new(file: &str, committed: Committed) -> FileEntry {
        FileEntry { file: file.to_owned(), bytes: committed.bytes, sha256: committed.sha256 }
    }
}
