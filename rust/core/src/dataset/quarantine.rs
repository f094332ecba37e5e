//! The quarantine: rows that could not or must not be used, with their location and raw bytes.

use std::io::Write;

use serde::Serialize;

use crate::dataset::manifest::FileEntry;
use crate::disk::Folder;
use crate::disk::commit::Draft;
use crate::error::{Error, Result};
use crate::stage::Reason;

/// The version of the format of these files.
pub const VERSION: u32 = 2;
/// The quarantine's directory in the output directory.
pub const FOLDER: &str = "_quarantine";
/// Maximum raw bytes kept per row. Offset and length locate the rest in the input.
const RAW_BYTES_MAX: usize = 64 << 10;
/// Bytes that a file name may have on the usual file systems.
const NAME_BYTES_MAX: usize = 255;
const ENDING: &str = ".jsonl";

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
    /// The bytes as text, if they are UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'row str>,
    /// The bytes as hex, if they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_hex: Option<String>,
}

/// A quarantined row.
#[derive(Debug, Clone)]
pub struct QuarantinedRow {
    /// Its line number in the input.
    pub line: u64,
    /// Its offset in the input.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// Its bytes, at most the first 64 KiB.
    pub raw: Vec<u8>,
}

impl QuarantinedRow {
    /// Keeps the first 64 KiB of a row's bytes.
    #[must_use]
    pub fn new(line: u64, offset: u64, length: u64, bytes: &[u8]) -> QuarantinedRow {
        let raw = bytes[..bytes.len().min(RAW_BYTES_MAX)].to_vec();
        QuarantinedRow { line, offset, length, raw }
    }
}

/// The input that a row comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'run> {
    /// Its index in the list of inputs.
    pub ordinal: i32,
    /// Its name.
    pub name: &'run str,
}

/// One file per input that has such rows. Rows come in the order of their inputs, so one file is
/// open at a time, however many there are.
pub struct Quarantine {
    folder: Folder,
    open: Option<Open>,
    done: Vec<FileEntry>,
}

/// The file of the input whose rows come now.
struct Open {
    ordinal: i32,
    name: String,
    draft: Draft,
}

impl Quarantine {
    /// An empty quarantine in its directory.
    #[must_use]
    pub fn new(folder: Folder) -> Quarantine {
        Quarantine { folder, open: None, done: Vec::new() }
    }

    /// Appends a row.
    pub fn push(
        &mut self,
        row_id: i64,
        input: Origin,
        reason: &Reason,
        aside: &QuarantinedRow,
    ) -> Result<()> {
        let draft = self.draft_of(input)?;
        let text = std::str::from_utf8(&aside.raw).ok();
        let line = Line {
            row_id,
            reason: reason.code.word(),
            detail: &reason.detail,
            input: input.name,
            line: aside.line,
            offset: aside.offset,
            length: aside.length,
            raw: text,
            raw_hex: text.is_none().then(|| crate::normal::hex(&aside.raw)),
        };
        #[cfg(feature = "failpoints")]
        let line = Line {
            offset: line.offset + u64::from(crate::disk::failpoints::sabotaged("offset")),
            ..line
        };
        let mut json =
            serde_json::to_vec(&line).map_err(|error| Error::Internal(error.to_string()))?;
        json.push(b'\n');
        draft.write_all(&json).map_err(|error| Error::storage(&draft.path(), error))
    }

    fn draft_of(&mut self, input: Origin) -> Result<&mut Draft> {
        let open = match self.open.take() {
            Some(open) if open.ordinal == input.ordinal => open,
            before => {
                if before.as_ref().is_some_and(|before| before.ordinal > input.ordinal) {
                    return Err(Error::Internal(
                        "quarantined rows must come in the order of their inputs".to_owned(),
                    ));
                }
                self.end(before)?;
                let name = file_name(input.ordinal, input.name);
                let draft = Draft::create(&self.folder, &name)?;
                Open { ordinal: input.ordinal, name, draft }
            }
        };
        Ok(&mut self.open.insert(open).draft)
    }

    fn end(&mut self, open: Option<Open>) -> Result<()> {
        if let Some(Open { name, draft, .. }) = open {
            self.done.push(FileEntry::new(&format!("{FOLDER}/{name}"), draft.commit()?));
        }
        Ok(())
    }

    /// Ends the last file.
    pub fn commit(mut self) -> Result<Vec<FileEntry>> {
        let last = self.open.take();
        self.end(last)?;
        Ok(self.done)
    }
}

/// Returns the file name for an input: the input's own name, shortened if necessary, with slashes
/// and control characters escaped.
fn file_name(ordinal: i32, input: &str) -> String {
    let mut name = format!("{ordinal:05}-");
    for character in input.chars() {
        let shown = match character {
            '/' => "\\u{2f}".to_owned(),
            control if control.is_control() => control.escape_default().to_string(),
            other => other.to_string(),
        };
        if name.len() + shown.len() + ENDING.len() > NAME_BYTES_MAX {
            break;
        }
        name.push_str(&shown);
    }
    name + ENDING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_like_its_input_as_far_as_file_names_go() {
        assert_eq!(file_name(7, "rows-ü.jsonl.gz"), "00007-rows-ü.jsonl.gz.jsonl");
        assert_eq!(file_name(123_456, r"C:\x 'y'"), r"123456-C:\x 'y'.jsonl");
        assert_eq!(
            file_name(0, "a\nb\0\u{1b}[1m\u{85}/"),
            r"00000-a\nb\u{0}\u{1b}[1m\u{85}\u{2f}.jsonl"
        );
        assert_eq!(file_name(0, &"n".repeat(243)), format!("00000-{}.jsonl", "n".repeat(243)));
        assert_eq!(file_name(0, &"n".repeat(244)).len(), 255);
        let cut = file_name(0, &"日".repeat(85));
        assert_eq!(
            (cut.len(), cut.as_str()),
            (255, format!("00000-{}.jsonl", "日".repeat(81)).as_str())
        );
        assert!(crate::dataset::layout::is_file_of_data_set(&format!(
            "{FOLDER}/{}",
            file_name(0, "\n\u{7f}/")
        )));
    }
}
