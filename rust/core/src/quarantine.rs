//! The quarantine: rows that could not or must not be used, each with its place and its raw bytes, so that nothing is lost.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::commit::Draft;
use crate::error::{Error, Result};
use crate::manifest::FileCard;
use crate::read::Input;
use crate::stage::Reason;

/// Where the quarantine lies in the out folder.
pub const FOLDER: &str = "_quarantine";
/// Raw bytes kept of a row at most; its place in the input says where the rest is.
const RAW_BYTES_MAX: usize = 64 << 10;

/// One line of the quarantine.
#[derive(Serialize)]
struct Line<'row> {
    row_id: i64,
    reason: &'row str,
    detail: &'row Option<String>,
    input: &'row str,
    line: u64,
    offset: u64,
    length: u64,
    /// The bytes as text, where they are text.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'row str>,
    /// The bytes as hex, where they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_hex: Option<String>,
}

/// A row set aside, as the walk hands it over.
#[derive(Debug, Clone)]
pub struct Aside {
    /// The line it stands on.
    pub line: u64,
    /// Where it starts.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// Its bytes, at most the first 64 KiB.
    pub raw: Vec<u8>,
}

impl Aside {
    /// Keeps what the quarantine keeps of a row's bytes.
    #[must_use]
    pub fn new(row: &crate::read::RawRow, bytes: &[u8]) -> Aside {
        let raw = bytes[..bytes.len().min(RAW_BYTES_MAX)].to_vec();
        Aside { line: row.line, offset: row.offset, length: row.length, raw }
    }
}

/// One file per input that has such rows.
pub struct Quarantine {
    folder: PathBuf,
    drafts: BTreeMap<i32, (String, Draft)>,
}

impl Quarantine {
    /// An empty quarantine in its folder.
    #[must_use]
    pub fn new(folder: PathBuf) -> Quarantine {
        Quarantine { folder, drafts: BTreeMap::new() }
    }

    /// Appends a row.
    pub fn push(&mut self, row_id: i64, input: &Input, reason: &Reason, aside: &Aside) -> Result<()> {
        let (name, draft) = match self.drafts.entry(input.ordinal) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let name = format!("{:05}-{}.jsonl", input.ordinal, input.name);
                let draft = Draft::create(&self.folder.join(&name))?;
                entry.insert((name, draft))
            }
        };
        let text = std::str::from_utf8(&aside.raw).ok();
        let line = Line {
            row_id,
            reason: reason.code,
            detail: &reason.detail,
            input: &input.name,
            line: aside.line,
            offset: aside.offset,
            length: aside.length,
            raw: text,
            raw_hex: text.is_none().then(|| crate::text::hex(&aside.raw)),
        };
        #[cfg(feature = "failpoints")]
        let line = Line { offset: line.offset + u64::from(crate::failpoints::sabotaged("offset")), ..line };
        let mut json = serde_json::to_vec(&line).map_err(|error| Error::Internal(error.to_string()))?;
        json.push(b'\n');
        draft.write_all(&json).map_err(|error| Error::storage(Path::new(name.as_str()), error))
    }

    /// Ends the files.
    pub fn commit(self) -> Result<Vec<FileCard>> {
        let commit = |(name, draft): (String, Draft)| Ok(FileCard::new(&format!("{FOLDER}/{name}"), draft.commit()?));
        self.drafts.into_values().map(commit).collect()
    }
}
