//! The ledger: one line for every row read, saying where it stood, what was done to it and why it stayed or went.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::commit::Committed;
use crate::error::{Error, Result};
use crate::table::Table;

/// Where the ledger lies in the out folder.
pub const FOLDER: &str = "_ledger";
/// Its file.
pub const FILE: &str = "_ledger/part-00000.parquet";

const BATCH_ROWS: usize = 8_192;

/// One line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// Ordinal of the row over all inputs.
    pub row_id: i64,
    /// Ordinal of the input.
    pub input: i32,
    /// Where the row starts in the decompressed stream; in columnar files, its number.
    pub offset: i64,
    /// Its length there; 0 in columnar files.
    pub length: i64,
    /// The source's own id.
    pub source_id: Option<String>,
    /// SHA-256 of the prompt.
    pub prompt_id: Option<String>,
    /// `written`, `dropped`, `duplicate` or `quarantined`.
    pub verdict: &'static str,
    /// Why, as the manifest counts it.
    pub reason: Option<&'static str>,
    /// What exactly was found.
    pub detail: Option<String>,
    /// The earlier row that this one repeats.
    pub duplicate_of: Option<i64>,
    /// `train` or `test`.
    pub split: Option<&'static str>,
    /// Letters that truecasing changed.
    pub fixes: i32,
    /// Control tokens that were neutralized.
    pub control_tokens: i32,
    /// Tokens written.
    pub tokens: Option<i32>,
    /// Of those, the trained ones.
    pub trained_tokens: Option<i32>,
    /// Tokens cut off.
    pub tokens_lost: Option<i32>,
    /// Pairs made.
    pub pairs: Option<i32>,
}

/// The ledger's file on its way.
pub struct Ledger {
    table: Table,
    schema: SchemaRef,
    entries: Vec<Entry>,
}

impl Ledger {
    /// A new ledger in an out folder that has the ledger's folder.
    pub fn create(out: &Path) -> Result<Ledger> {
        let schema = schema();
        Ok(Ledger { table: Table::create(&out.join(FILE), Arc::clone(&schema))?, schema, entries: Vec::with_capacity(BATCH_ROWS) })
    }

    /// Appends a line.
    pub fn push(&mut self, entry: Entry) -> Result<()> {
        self.entries.push(entry);
        if self.entries.len() == BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    /// Ends the file.
    pub fn commit(mut self) -> Result<Committed> {
        self.flush()?;
        self.table.commit()
    }

    fn flush(&mut self) -> Result<()> {
        let entries = std::mem::take(&mut self.entries);
        let batch =
            RecordBatch::try_new(Arc::clone(&self.schema), columns(&entries)).map_err(|error| Error::Internal(error.to_string()))?;
        self.table.write(&batch)
    }
}

fn schema() -> SchemaRef {
    let sure = |name: &str, kind: DataType| Field::new(name, kind, false);
    let maybe = |name: &str, kind: DataType| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        sure("row_id", DataType::Int64),
        sure("input", DataType::Int32),
        sure("offset", DataType::Int64),
        sure("length", DataType::Int64),
        maybe("source_id", DataType::Utf8),
        maybe("prompt_id", DataType::Utf8),
        sure("verdict", DataType::Utf8),
        maybe("reason", DataType::Utf8),
        maybe("detail", DataType::Utf8),
        maybe("duplicate_of", DataType::Int64),
        maybe("split", DataType::Utf8),
        sure("fixes", DataType::Int32),
        sure("control_tokens", DataType::Int32),
        maybe("tokens", DataType::Int32),
        maybe("trained_tokens", DataType::Int32),
        maybe("tokens_lost", DataType::Int32),
        maybe("pairs", DataType::Int32),
    ]))
}

fn columns(entries: &[Entry]) -> Vec<ArrayRef> {
    fn int64<T: Into<Option<i64>>>(entries: &[Entry], field: impl Fn(&Entry) -> T) -> ArrayRef {
        Arc::new(entries.iter().map(|entry| field(entry).into()).collect::<Int64Array>())
    }
    fn int32<T: Into<Option<i32>>>(entries: &[Entry], field: impl Fn(&Entry) -> T) -> ArrayRef {
        Arc::new(entries.iter().map(|entry| field(entry).into()).collect::<Int32Array>())
    }
    fn text<'row>(entries: &'row [Entry], field: impl Fn(&'row Entry) -> Option<&'row str>) -> ArrayRef {
        Arc::new(entries.iter().map(field).collect::<StringArray>())
    }
    vec![
        int64(entries, |entry| entry.row_id),
        int32(entries, |entry| entry.input),
        int64(entries, |entry| entry.offset),
        int64(entries, |entry| entry.length),
        text(entries, |entry| entry.source_id.as_deref()),
        text(entries, |entry| entry.prompt_id.as_deref()),
        text(entries, |entry| Some(entry.verdict)),
        text(entries, |entry| entry.reason),
        text(entries, |entry| entry.detail.as_deref()),
        int64(entries, |entry| entry.duplicate_of),
        text(entries, |entry| entry.split),
        int32(entries, |entry| entry.fixes),
        int32(entries, |entry| entry.control_tokens),
        int32(entries, |entry| entry.tokens),
        int32(entries, |entry| entry.trained_tokens),
        int32(entries, |entry| entry.tokens_lost),
        int32(entries, |entry| entry.pairs),
    ]
}
