//! Reads Parquet and Arrow files. Each row becomes the JSON object it would be as a line, so that
//! shapes have one form to read.
//!
//! A few bytes of such a file can stand for any number of rows of any size. What a batch holds is
//! bounded where it is read, see [`row_groups`] and [`messages`]; what it says as JSON is bounded
//! here, before a byte of it is written.

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

pub(super) use messages::arrow;
pub(super) use row_groups::parquet;

/// Rows taken at once; a row of chat data is about 5 KB.
const BATCH_ROWS: usize = 256;
/// Bytes of text, names and numbers that are turned into JSON at once, unless one row has more.
const SLICE_BYTES_MAX: usize = 4 << 20;
/// What a row counts for at least in what a file may unpack to: one that says nothing takes no
/// bytes of the file, however many there are. A short dialogue has as many.
const ROW_BYTES_LEAST: u64 = 32;

/// What a reader gives: batches, until it fails.
type Batch = Result<RecordBatch, ArrowError>;

/// What a reader says; that it could not go on, where it panics, as Arrow's readers may on a
/// malformed file.
fn sure<T>(read: impl FnOnce() -> T) -> Result<T, ArrowError> {
    catch_unwind(AssertUnwindSafe(read))
        .map_err(|_| ArrowError::ParseError("the file is malformed".to_owned()))
}

/// Turns batches into chunks.
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
        // Columnar readers jump about in the file; the bar follows the rows' bytes and ends where
        // the file ends.
        let step = chunk.as_ref().map_or(0, |chunk| (chunk.bytes.len() as u64).min(bytes_left));
        bytes_left -= step;
        progress.bytes.fetch_add(step, Ordering::Relaxed);
        progress.check().map_err(|error| Error::input(&path, error))?;
        chunk.map_err(|error| Error::input(&path, said(&error)))
    }))
}

/// An error without the words for its kind that the crates put before one of ours.
fn said(error: &ArrowError) -> String {
    const KIND: &str = "Parquet error: ";
    let told = match error {
        ArrowError::ExternalError(ours) => ours.to_string(),
        other => other.to_string(),
    };
    told.rsplit_once(KIND).map_or(told.clone(), |(_, why)| why.to_owned())
}

/// An error of ours, as Arrow's readers hand it on.
fn refuse(why: impl Into<String>) -> ArrowError {
    ArrowError::ExternalError(why.into().into())
}

/// The rows of batches as JSON, a slice of a batch at a time.
struct Rows<B> {
    batches: B,
    input: i32,
    /// The batch on its way, and its first row that is not yet handed on.
    batch: Option<RecordBatch>,
    start: usize,
    rows_before: u64,
    /// Bytes of JSON that the file may still come to.
    room: u64,
    has_failed: bool,
}

impl<B: Iterator<Item = Batch>> Iterator for Rows<B> {
    type Item = Result<Chunk, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Behind a failure there is nothing to be had: a reader that panicked may be in any state.
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

    /// The next rows of the batch, as many as are small enough together.
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

    /// A row that is too large to be written down.
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
            // Escapes may make a row longer than it was.
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
