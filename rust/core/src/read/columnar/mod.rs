//! Reads Parquet and Arrow files. Each row is converted to a JSON object, as it would be in a JSON
//! lines file, so shapes parse only one format.
//!
//! A few bytes of such a file can expand to any number of rows of any size. The memory of a batch
//! is bounded when it is read, see [`row_groups`] and [`messages`]. Its size as JSON is bounded
//! here, before any of it is written.

mod blocks;
mod buffers;
mod codec;
mod delta;
mod footer;
mod json;
mod message;
mod messages;
mod page_header;
mod pages;
mod row_groups;
mod size;
mod thrift;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::RecordBatch;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;
use arrow_schema::ArrowError;

use super::{
    Chunk, Chunks, Input, KEPT_OF_LONG_ROW, LINE_BYTES_MAX, Progress, RawRow, bomb, unpacked_max,
};
use crate::error::Error;
use crate::panics;

pub(super) use messages::arrow;
pub(super) use row_groups::parquet;

/// Rows per batch. A row of chat data has about 5 KB.
const BATCH_ROWS: usize = 256;
/// Bytes of text, names and numbers that are converted to JSON at once, unless a single row has
/// more.
const SLICE_BYTES_MAX: usize = 4 << 20;
/// The least that a row counts towards the decompression limit of a file. Empty rows take no bytes
/// of the file, however many there are. A short dialogue has about this many bytes.
const ROW_BYTES_LEAST: u64 = 32;

/// An item of a reader: a batch, or an error that ends the iteration.
type Batch = Result<RecordBatch, ArrowError>;

/// Runs `read`, and turns a panic into an error: Arrow's readers may panic on a malformed file.
fn sure<T>(read: impl FnOnce() -> T) -> Result<T, ArrowError> {
    catch_unwind(AssertUnwindSafe(read))
        .map_err(|panic| panics::text_or(panic.as_ref(), "the file is malformed"))
        .map_err(ArrowError::ParseError)
}

/// Converts batches to chunks.
fn chunks<B>(input: &Input, batches: B, progress: &Progress) -> Chunks
where
    B: Iterator<Item = Batch> + Send + 'static,
{
    let (path, progress) = (input.path.clone(), progress.clone());
    let mut bytes_left = input.bytes;
    let rows = Rows {
        batches,
        input: input.ordinal,
        batch: None,
        start: 0,
        rows_before: 0,
        room: unpacked_max(input.bytes),
        has_failed: false,
    };
    Box::new(rows.map(move |chunk| {
        // Columnar readers do not read a file in order. The progress bar advances by the bytes of
        // the rows, up to the size of the file.
        let step = chunk.as_ref().map_or(0, |chunk| (chunk.bytes.len() as u64).min(bytes_left));
        bytes_left -= step;
        progress.bytes.fetch_add(step, Ordering::Relaxed);
        progress.check().map_err(|error| Error::input(&path, error))?;
        chunk.map_err(|error| Error::input(&path, said(&error)))
    }))
}

/// The message of an error without the kind that the crates prepend to it.
fn said(error: &ArrowError) -> String {
    const KIND: &str = "Parquet error: ";
    let told = match error {
        ArrowError::ExternalError(ours) => ours.to_string(),
        other => other.to_string(),
    };
    told.rsplit_once(KIND).map_or(told.clone(), |(_, why)| why.to_owned())
}

/// Wraps a message in an error that passes through Arrow's readers unchanged.
fn refuse(why: impl Into<String>) -> ArrowError {
    ArrowError::ExternalError(why.into().into())
}

/// The rows of batches as JSON, a slice of a batch at a time.
struct Rows<B> {
    batches: B,
    input: i32,
    /// The current batch, and its first row that was not yet returned.
    batch: Option<RecordBatch>,
    start: usize,
    rows_before: u64,
    /// Bytes of JSON that may still be written for this file.
    room: u64,
    has_failed: bool,
}

impl<B: Iterator<Item = Batch>> Iterator for Rows<B> {
    type Item = Result<Chunk, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        // No more rows after a failure, because a reader that panicked may be in any state.
        if self.has_failed {
            return None;
        }
        let next = sure(|| self.next_chunk()).unwrap_or_else(|error| Some(Err(error)));
        self.has_failed = matches!(next, Some(Err(_)));
        next
    }
}

impl<B: Iterator<Item = Batch>> Rows<B> {
    fn next_chunk(&mut self) -> Option<Result<Chunk, ArrowError>> {
        loop {
            match &self.batch {
                Some(batch) if self.start < batch.num_rows() => return Some(self.slice()),
                _ => match self.batches.next()? {
                    Ok(batch) => (self.batch, self.start) = (Some(batch), 0),
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }

    /// Returns the next rows of the batch, as many as are small enough together.
    fn slice(&mut self) -> Result<Chunk, ArrowError> {
        let Some(batch) = &self.batch else { return Ok(Chunk::default()) };
        let mut count = BATCH_ROWS.min(batch.num_rows() - self.start);
        let mut bytes = size::of_rows(batch, self.start, count);
        while count > 1 && bytes > SLICE_BYTES_MAX {
            count = count.div_ceil(2);
            bytes = size::of_rows(batch, self.start, count);
        }
        let rows = batch.slice(self.start, count);
        self.start += count;
        let chunk =
            if bytes > LINE_BYTES_MAX { self.long_row(bytes) } else { self.as_lines(&rows)? };
        let written = chunk
            .rows
            .iter()
            .map(|row| row.length.max((row.end - row.start) as u64).max(ROW_BYTES_LEAST))
            .sum::<u64>();
        self.room = self.room.checked_sub(written).ok_or_else(|| refuse(bomb()))?;
        Ok(chunk)
    }

    /// Returns an empty row in the place of one that is too large to be converted.
    fn long_row(&mut self, bytes: usize) -> Chunk {
        let row = RawRow {
            offset: self.rows_before,
            length: bytes as u64,
            line: self.rows_before + 1,
            start: 0,
            end: 0,
        };
        self.rows_before += 1;
        Chunk { input: self.input, bytes: Vec::new(), rows: vec![row] }
    }

    fn as_lines(&mut self, batch: &RecordBatch) -> Result<Chunk, ArrowError> {
        let builder = WriterBuilder::new().with_encoder_factory(Arc::new(json::Values));
        let mut writer = builder.build::<_, LineDelimited>(Vec::new());
        writer.write(batch)?;
        writer.finish()?;
        let bytes = writer.into_inner();
        let mut rows = Vec::with_capacity(batch.num_rows());
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', &bytes) {
            // Escapes may make a row longer than estimated.
            let is_long = newline - start > LINE_BYTES_MAX;
            let length = if is_long { (newline - start) as u64 } else { 0 };
            let end = if is_long { start + KEPT_OF_LONG_ROW } else { newline };
            rows.push(RawRow {
                offset: self.rows_before,
                length,
                line: self.rows_before + 1,
                start,
                end,
            });
            self.rows_before += 1;
            start = newline + 1;
        }
        Ok(Chunk { input: self.input, bytes, rows })
    }
}
