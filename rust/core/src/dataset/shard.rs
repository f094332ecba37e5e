//! Arrow shards: IPC files, uncompressed so loaders can map them, cut into batches of about 2
//! MB with a checksum each.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, SchemaRef};

use crate::dataset::manifest::{BatchEntry, ShardEntry};
use crate::dataset::product::{Completions, Product};
use crate::disk::Folder;
use crate::disk::commit::Draft;
use crate::error::{Error, Result};
use crate::sample::{Sample, append_labels};

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

/// Prompts with completions, example by example.
pub struct CompletionRows {
    prompt_ids: Lists<i32>,
    completion_ids: Vec<Lists<i32>>,
    numbers: Vec<Vec<Option<f64>>>,
    row_id: Vec<i64>,
    index: Vec<i32>,
}

impl CompletionRows {
    fn new(completions: &Completions) -> CompletionRows {
        CompletionRows {
            prompt_ids: Lists::default(),
            completion_ids: completions.each.iter().map(|_| Lists::default()).collect(),
            numbers: completions.numbers.iter().map(|_| Vec::new()).collect(),
            row_id: Vec::new(),
            index: Vec::new(),
        }
    }

    /// Adds an example: the `index`-th of its row, with the ids of its prompt and completions, and
    /// its numbers.
    pub fn add(
        &mut self,
        row_id: i64,
        index: i32,
        ids: (&[u32], &[Vec<u32>]),
        numbers: &[Option<f64>],
    ) {
        let (prompt, completions) = ids;
        let all = std::iter::once(prompt).chain(completions.iter().map(Vec::as_slice));
        let columns = std::iter::once(&mut self.prompt_ids).chain(&mut self.completion_ids);
        for (lists, ids) in columns.zip(all) {
            lists.values.extend(ids.iter().map(|id| *id as i32));
            lists.close();
        }
        for (column, number) in self.numbers.iter_mut().zip(numbers) {
            column.push(*number);
        }
        self.row_id.push(row_id);
        self.index.push(index);
    }

    fn bytes(&self) -> usize {
        let completions = self.completion_ids.iter().map(|lists| lists.values.len());
        4 * (self.prompt_ids.values.len() + completions.sum::<usize>())
            + (8 * self.numbers.len() + 12) * self.row_id.len()
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        let mut columns = vec![int32_lists(&mut self.prompt_ids)];
        columns.extend(self.completion_ids.iter_mut().map(int32_lists));
        columns.extend(
            self.numbers
                .iter_mut()
                .map(|numbers| Arc::new(Float64Array::from(std::mem::take(numbers))) as ArrayRef),
        );
        columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.row_id))));
        columns.push(Arc::new(Int32Array::from(std::mem::take(&mut self.index))));
        columns
    }
}

/// Rows of a shard.
pub enum ShardRows {
    /// Packed sequences.
    Windows(WindowRows),
    /// Prompts with completions.
    Completions(CompletionRows),
}

impl ShardRows {
    fn bytes(&self) -> usize {
        match self {
            ShardRows::Windows(rows) => rows.bytes(),
            ShardRows::Completions(rows) => rows.bytes(),
        }
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        match self {
            ShardRows::Windows(rows) => rows.take(),
            ShardRows::Completions(rows) => rows.take(),
        }
    }
}

/// The shards of a split.
pub struct Shards {
    folder: Folder,
    split: &'static str,
    bytes_max: u64,
    schema: SchemaRef,
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
    /// No shard of the product yet.
    #[must_use]
    pub fn new(folder: Folder, split: &'static str, bytes_max: u64, product: Product) -> Shards {
        let rows = match product.completions() {
            None => ShardRows::Windows(WindowRows::default()),
            Some(completions) => ShardRows::Completions(CompletionRows::new(completions)),
        };
        let (schema, tokens, open, done) = (product.shard_schema(), 0, None, Vec::new());
        Shards { folder, split, bytes_max, schema, rows, tokens, open, done }
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
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), self.rows.take())
            .map_err(|error| Error::Internal(error.to_string()))?;
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
