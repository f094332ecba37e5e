//! Arrow shards: IPC files, uncompressed so loaders can map them, cut into batches of about 2
//! MB with a checksum each.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field};

use crate::dataset::manifest::{BatchEntry, ShardEntry};
use crate::dataset::product::Product;
use crate::disk::Folder;
use crate::disk::commit::Draft;
use crate::error::{Error, Result};
use crate::sample::{Sample, TokenPair, append_labels};

/// The version of the format of these files.
pub const VERSION: u32 = 1;
/// A batch is complete once it has about this many bytes, or an eighth of a small shard.
const BATCH_BYTES: usize = 2 << 20;

/// A column of lists that is being built.
#[derive(Default)]
struct Lists<T> {
    values: Vec<T>,
    ends: Vec<i32>,
}

impl<T> Lists<T> {
    /// Ends a row. Its list is all values appended since the previous row.
    fn close(&mut self) {
        self.ends.push(
            i32::try_from(self.values.len())
                .expect("the offsets of a batch of about 2 MB must fit into 32 bits"),
        );
    }

    fn offsets(&mut self) -> OffsetBuffer<i32> {
        let ends = std::mem::take(&mut self.ends);
        OffsetBuffer::new(std::iter::once(0).chain(ends).collect::<Vec<_>>().into())
    }
}

fn int32_lists(lists: &mut Lists<i32>) -> ArrayRef {
    let offsets = lists.offsets();
    let values = Int32Array::new(ScalarBuffer::from(std::mem::take(&mut lists.values)), None);
    Arc::new(ListArray::new(
        Arc::new(Field::new("item", DataType::Int32, true)),
        offsets,
        Arc::new(values),
        None,
    ))
}

fn int64_lists(lists: &mut Lists<i64>) -> ArrayRef {
    let offsets = lists.offsets();
    let values = Int64Array::new(ScalarBuffer::from(std::mem::take(&mut lists.values)), None);
    Arc::new(ListArray::new(
        Arc::new(Field::new("item", DataType::Int64, true)),
        offsets,
        Arc::new(values),
        None,
    ))
}

/// Packed sequences, row by row.
#[derive(Default)]
pub struct WindowRows {
    input_ids: Lists<i32>,
    labels: Lists<i32>,
    seq_lengths: Lists<i32>,
    row_ids: Lists<i64>,
}

impl WindowRows {
    /// Adds a document to the current sequence.
    pub fn add_document(&mut self, row_id: i64, sample: &Sample) {
        self.input_ids.values.extend(sample.ids.iter().map(|id| *id as i32));
        append_labels(&sample.ids, &sample.trained, &mut self.labels.values);
        self.seq_lengths.values.push(sample.ids.len() as i32);
        self.row_ids.values.push(row_id);
    }

    /// Adds a complete sequence in which every token has a label and documents are not separated.
    pub fn add_whole(&mut self, ids: &[u32], row_ids: impl Iterator<Item = i64>) {
        let ids = ids.iter().map(|id| *id as i32);
        self.input_ids.values.extend(ids.clone());
        self.seq_lengths.values.push(ids.len() as i32);
        self.labels.values.extend(ids);
        self.row_ids.values.extend(row_ids);
        self.close_window();
    }

    /// Ends the sequence.
    pub fn close_window(&mut self) {
        self.input_ids.close();
        self.labels.close();
        self.seq_lengths.close();
        self.row_ids.close();
    }

    fn bytes(&self) -> usize {
        8 * self.input_ids.values.len()
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        vec![
            int32_lists(&mut self.input_ids),
            int32_lists(&mut self.labels),
            int32_lists(&mut self.seq_lengths),
            int64_lists(&mut self.row_ids),
        ]
    }
}

/// Preference pairs, row by row.
#[derive(Default)]
pub struct PairRows {
    prompt_ids: Lists<i32>,
    chosen_ids: Lists<i32>,
    rejected_ids: Lists<i32>,
    score_chosen: Vec<Option<f64>>,
    score_rejected: Vec<Option<f64>>,
    row_id: Vec<i64>,
    pair: Vec<i32>,
}

impl PairRows {
    /// Adds a pair: the `pair`-th of its row.
    pub fn add(&mut self, row_id: i64, pair: i32, tokens: &TokenPair) {
        for (lists, ids) in [
            (&mut self.prompt_ids, &tokens.prompt_ids),
            (&mut self.chosen_ids, &tokens.chosen_ids),
            (&mut self.rejected_ids, &tokens.rejected_ids),
        ] {
            lists.values.extend(ids.iter().map(|id| *id as i32));
            lists.close();
        }
        self.score_chosen.push(tokens.score_chosen);
        self.score_rejected.push(tokens.score_rejected);
        self.row_id.push(row_id);
        self.pair.push(pair);
    }

    fn bytes(&self) -> usize {
        4 * (self.prompt_ids.values.len()
            + self.chosen_ids.values.len()
            + self.rejected_ids.values.len())
            + 28 * self.row_id.len()
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        vec![
            int32_lists(&mut self.prompt_ids),
            int32_lists(&mut self.chosen_ids),
            int32_lists(&mut self.rejected_ids),
            Arc::new(Float64Array::from(std::mem::take(&mut self.score_chosen))),
            Arc::new(Float64Array::from(std::mem::take(&mut self.score_rejected))),
            Arc::new(Int64Array::from(std::mem::take(&mut self.row_id))),
            Arc::new(Int32Array::from(std::mem::take(&mut self.pair))),
        ]
    }
}

/// Rows of a shard.
pub enum ShardRows {
    /// Packed sequences.
    Windows(WindowRows),
    /// Preference pairs.
    Pairs(PairRows),
}

impl From<Product> for ShardRows {
    /// No rows yet.
    fn from(product: Product) -> ShardRows {
        match product {
            Product::Windows => ShardRows::Windows(WindowRows::default()),
            Product::Pairs => ShardRows::Pairs(PairRows::default()),
        }
    }
}

impl ShardRows {
    fn bytes(&self) -> usize {
        match self {
            ShardRows::Windows(rows) => rows.bytes(),
            ShardRows::Pairs(rows) => rows.bytes(),
        }
    }

    fn take(&mut self) -> Result<RecordBatch> {
        let (product, columns) = match self {
            ShardRows::Windows(rows) => (Product::Windows, rows.take()),
            ShardRows::Pairs(rows) => (Product::Pairs, rows.take()),
        };
        RecordBatch::try_new(product.shard_schema(), columns)
            .map_err(|error| Error::Internal(error.to_string()))
    }
}

/// The shards of a split.
pub struct Shards {
    folder: Folder,
    split: &'static str,
    bytes_max: u64,
    /// Rows of the current batch.
    pub rows: ShardRows,
    tokens: u64,
    open: Option<Open>,
    done: Vec<ShardEntry>,
}

struct Open {
    file: String,
    path: PathBuf,
    writer: FileWriter<Draft>,
    rows: u64,
    tokens: u64,
    batches: Vec<BatchEntry>,
}

impl Shards {
    /// No shard yet.
    #[must_use]
    pub fn new(folder: Folder, split: &'static str, bytes_max: u64, rows: ShardRows) -> Shards {
        Shards { folder, split, bytes_max, rows, tokens: 0, open: None, done: Vec::new() }
    }

    /// Counts a row that was added to `rows`, and writes the batch if it is full.
    pub fn row_added(&mut self, tokens: usize) -> Result<()> {
        self.tokens += tokens as u64;
        if self.rows.bytes() >= self.batch_bytes() { self.flush() } else { Ok(()) }
    }

    fn batch_bytes(&self) -> usize {
        BATCH_BYTES.min((self.bytes_max / 8) as usize)
    }

    /// Closes the last shard and returns the entries of all shards.
    pub fn commit(mut self) -> Result<Vec<ShardEntry>> {
        self.flush()?;
        self.close()?;
        Ok(self.done)
    }

    fn flush(&mut self) -> Result<()> {
        let batch = self.rows.take()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.start(&batch)?,
        };
        let failed = |error: &dyn std::fmt::Display| Error::storage(&open.path, error);
        open.writer.get_mut().take_section();
        let offset = open.writer.get_ref().bytes();
        open.writer.write(&batch).map_err(|error| failed(&error))?;
        let bytes = open.writer.get_ref().bytes() - offset;
        let xxh3 = format!("{:016x}", open.writer.get_mut().take_section());
        open.batches.push(BatchEntry { offset, bytes, examples: batch.num_rows() as u64, xxh3 });
        open.rows += batch.num_rows() as u64;
        open.tokens += std::mem::take(&mut self.tokens);
        // Reserves space for a batch, and as much again for its last row, its headers and the
        // footer.
        let is_full = offset + bytes + 2 * self.batch_bytes() as u64 > self.bytes_max;
        self.open = Some(open);
        if is_full { self.close() } else { Ok(()) }
    }

    fn start(&self, batch: &RecordBatch) -> Result<Open> {
        let file = format!("{}-{:05}.arrow", self.split, self.done.len());
        let path = self.folder.path_of(&file);
        let writer = FileWriter::try_new(Draft::create(&self.folder, &file)?, &batch.schema())
            .map_err(|error| Error::storage(&path, error))?;
        Ok(Open { file, path, writer, rows: 0, tokens: 0, batches: Vec::new() })
    }

    fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let draft = open.writer.into_inner().map_err(|error| Error::storage(&open.path, error))?;
        let committed = draft.commit()?;
        self.done.push(ShardEntry {
            file: open.file,
            examples: open.rows,
            tokens: open.tokens,
            bytes: committed.bytes,
            sha256: committed.sha256,
            batches: open.batches,
        });
        Ok(())
    }
}
