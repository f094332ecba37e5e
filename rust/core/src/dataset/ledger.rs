//! The ledger: one line per input row, with its location, its changes, its outcome and the reason.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use serde::Serialize;

use crate::dataset::table::Table;
use crate::disk::Folder;
use crate::disk::commit::Committed;
use crate::error::{Error, Result};

/// The version of the format of these files.
pub const VERSION: u32 = 2;
/// The ledger's directory in the output directory.
pub const FOLDER: &str = "_ledger";
/// Its file.
pub const FILE: &str = "_ledger/part-00000.parquet";
/// Its name within [`FOLDER`].
pub(crate) const FILE_NAME: &str = "part-00000.parquet";

const BATCH_ROWS: usize = 8_192;

/// One line.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LedgerRow {
    /// Ordinal of the row over all inputs.
    pub row_id: i64,
    /// Ordinal of the input.
    pub input: i32,
    /// Offset of the row in the decompressed stream; in columnar files, its number.
    pub offset: i64,
    /// Its length there; 0 in columnar files.
    pub length: i64,
    /// The source's own id.
    pub source_id: Option<String>,
    /// SHA-256 of the prompt.
    pub prompt_id: Option<String>,
    /// `written`, `dropped`, `duplicate` or `quarantined`.
    pub outcome: &'static str,
    /// Code of the reason, as in the manifest.
    pub reason: Option<&'static str>,
    /// Details of the reason.
    pub detail: Option<String>,
    /// The earlier row that this one repeats.
    pub duplicate_of: Option<i64>,
    /// `train` or `test`.
    pub split: Option<&'static str>,
    /// Letters that truecasing changed.
    pub letters_changed: i32,
    /// Control tokens that were neutralized.
    pub control_tokens: i32,
    /// Tokens written.
    pub tokens: Option<i32>,
    /// Tokens written that have a label.
    pub label_tokens: Option<i32>,
    /// Tokens truncated.
    pub tokens_truncated: Option<i32>,
    /// Examples written, such as pairs. Null if dialogues are packed.
    pub pairs: Option<i32>,
    /// Matches with evaluation sets; empty if there are no matches.
    pub contamination: Vec<Contamination>,
}

/// A run of words that a row shares with an instance of an evaluation set.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Contamination {
    /// The set's name in the recipe.
    pub set: String,
    /// The row of the set's file, from 0.
    pub instance: i32,
    /// Index of the text if the row has a list of texts, otherwise 0.
    pub part: i32,
    /// The share of the instance's words that the row has, in runs of eight.
    pub overlap: f64,
    /// The turn of the dialogue, from 0.
    pub turn: i32,
    /// The first character in that turn.
    pub start: i32,
    /// The end of the match: one past its last character.
    pub end: i32,
}

/// A ledger that is being written.
pub struct Ledger {
    table: Table,
    schema: SchemaRef,
    entries: Vec<LedgerRow>,
}

impl Ledger {
    /// A new ledger in its directory.
    pub fn create(folder: &Folder) -> Result<Ledger> {
        let schema = schema();
        Ok(Ledger {
            table: Table::create(folder, FILE_NAME, Arc::clone(&schema))?,
            schema,
            entries: Vec::with_capacity(BATCH_ROWS),
        })
    }

    /// Appends a line.
    pub fn push(&mut self, entry: LedgerRow) -> Result<()> {
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
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns(&entries))
            .map_err(|error| Error::Internal(error.to_string()))?;
        self.table.write(&batch)
    }
}

pub(super) fn schema() -> SchemaRef {
    let sure = |name: &str, kind: DataType| Field::new(name, kind, false);
    let maybe = |name: &str, kind: DataType| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        sure("row_id", DataType::Int64),
        sure("input", DataType::Int32),
        sure("offset", DataType::Int64),
        sure("length", DataType::Int64),
        maybe("source_id", DataType::Utf8),
        maybe("prompt_id", DataType::Utf8),
        sure("outcome", DataType::Utf8),
        maybe("reason", DataType::Utf8),
        maybe("detail", DataType::Utf8),
        maybe("duplicate_of", DataType::Int64),
        maybe("split", DataType::Utf8),
        sure("letters_changed", DataType::Int32),
        sure("control_tokens", DataType::Int32),
        maybe("tokens", DataType::Int32),
        maybe("label_tokens", DataType::Int32),
        maybe("tokens_truncated", DataType::Int32),
        maybe("pairs", DataType::Int32),
        maybe(
            "contamination",
            DataType::List(Arc::new(Field::new(
                "item",
                DataType::Struct(contamination_fields()),
                true,
            ))),
        ),
    ]))
}

pub(super) fn contamination_fields() -> Fields {
    let sure = |name: &str, kind: DataType| Field::new(name, kind, false);
    Fields::from(vec![
        sure("set", DataType::Utf8),
        sure("instance", DataType::Int32),
        sure("part", DataType::Int32),
        sure("overlap", DataType::Float64),
        sure("turn", DataType::Int32),
        sure("start", DataType::Int32),
        sure("end", DataType::Int32),
    ])
}

/// A list per row. It is null, not empty, if there are no matches, so a query can use
/// `is_not_null`.
fn contamination(entries: &[LedgerRow]) -> ArrayRef {
    let lines = || entries.iter().flat_map(|entry| &entry.contamination);
    let int32 = |field: fn(&Contamination) -> i32| -> ArrayRef {
        Arc::new(lines().map(field).collect::<Int32Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(lines().map(|line| Some(line.set.as_str())).collect::<StringArray>()),
        int32(|line| line.instance),
        int32(|line| line.part),
        Arc::new(lines().map(|line| line.overlap).collect::<Float64Array>()),
        int32(|line| line.turn),
        int32(|line| line.start),
        int32(|line| line.end),
    ];
    let structs = StructArray::new(contamination_fields(), columns, None);
    let offsets = OffsetBuffer::from_lengths(entries.iter().map(|entry| entry.contamination.len()));
    let found = entries.iter().map(|entry| !entry.contamination.is_empty()).collect::<NullBuffer>();
    let item = Arc::new(Field::new("item", DataType::Struct(contamination_fields()), true));
    Arc::new(ListArray::new(item, offsets, Arc::new(structs), Some(found)))
}

fn columns(entries: &[LedgerRow]) -> Vec<ArrayRef> {
    fn int64<T: Into<Option<i64>>>(
        entries: &[LedgerRow],
        field: impl Fn(&LedgerRow) -> T,
    ) -> ArrayRef {
        Arc::new(entries.iter().map(|entry| field(entry).into()).collect::<Int64Array>())
    }
    fn int32<T: Into<Option<i32>>>(
        entries: &[LedgerRow],
        field: impl Fn(&LedgerRow) -> T,
    ) -> ArrayRef {
        Arc::new(entries.iter().map(|entry| field(entry).into()).collect::<Int32Array>())
    }
    fn text<'row>(
        entries: &'row [LedgerRow],
        field: impl Fn(&'row LedgerRow) -> Option<&'row str>,
    ) -> ArrayRef {
        Arc::new(entries.iter().map(field).collect::<StringArray>())
    }
    vec![
        int64(entries, |entry| entry.row_id),
        int32(entries, |entry| entry.input),
        int64(entries, |entry| entry.offset),
        int64(entries, |entry| entry.length),
        text(entries, |entry| entry.source_id.as_deref()),
        text(entries, |entry| entry.prompt_id.as_deref()),
        text(entries, |entry| Some(entry.outcome)),
        text(entries, |entry| entry.reason),
        text(entries, |entry| entry.detail.as_deref()),
        int64(entries, |entry| entry.duplicate_of),
        text(entries, |entry| entry.split),
        int32(entries, |entry| entry.letters_changed),
        int32(entries, |entry| entry.control_tokens),
        int32(entries, |entry| entry.tokens),
        int32(entries, |entry| entry.label_tokens),
        int32(entries, |entry| entry.tokens_truncated),
        int32(entries, |entry| entry.pairs),
        contamination(entries),
    ]
}
