//! Reads Parquet and Arrow files. Each row becomes the JSON object it would be as a line, so that shapes have one form to read.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_json::LineDelimitedWriter;
use arrow_schema::ArrowError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Chunk, Chunks, Input, RawRow};
use crate::error::{Error, Result};

/// Rows taken at once; a row of chat data is about 5 KB.
const BATCH_ROWS: usize = 256;

/// The rows of a Parquet file.
pub(super) fn parquet(input: &Input, bytes_read: Arc<AtomicU64>) -> Result<Chunks> {
    let failed = |error: &dyn std::fmt::Display| Error::input(&input.path, error);
    let file = File::open(&input.path).map_err(|error| failed(&error))?;
    let open = || ParquetRecordBatchReaderBuilder::try_new(file).and_then(|builder| builder.with_batch_size(BATCH_ROWS).build());
    let reader = sure(open).and_then(|reader| reader.map_err(ArrowError::from)).map_err(|error| failed(&error))?;
    Ok(chunks(input, reader, bytes_read))
}

/// The rows of an Arrow IPC file, or of an Arrow IPC stream under the same ending (what `datasets` writes).
pub(super) fn arrow(input: &Input, bytes_read: Arc<AtomicU64>) -> Result<Chunks> {
    let open = || File::open(&input.path).map_err(|error| Error::input(&input.path, error));
    let (file, stream) = (open()?, open()?);
    match sure(|| FileReader::try_new_buffered(file, None)) {
        Ok(Ok(reader)) => Ok(chunks(input, reader, bytes_read)),
        _ => sure(|| StreamReader::try_new_buffered(stream, None))
            .flatten()
            .map(|reader| chunks(input, reader, bytes_read))
            .map_err(|error| Error::input(&input.path, error)),
    }
}

/// What a reader says; that it could not go on, where it panics, as Arrow's readers may on a malformed file.
fn sure<T>(read: impl FnOnce() -> T) -> std::result::Result<T, ArrowError> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| ArrowError::ParseError("the file is malformed".to_owned()))
}

fn chunks<B>(input: &Input, mut batches: B, bytes_read: Arc<AtomicU64>) -> Chunks
where
    B: Iterator<Item = std::result::Result<RecordBatch, ArrowError>> + Send + 'static,
{
    let (ordinal, path) = (input.ordinal, input.path.clone());
    let mut rows_before = 0;
    let mut bytes_left = input.bytes;
    let mut has_failed = false;
    let whole = std::iter::from_fn(move || {
        // Behind a failure there is nothing to be had: a reader that panicked may be in any state.
        let next = if has_failed { None } else { sure(|| batches.next()).unwrap_or_else(|error| Some(Err(error))) };
        has_failed = matches!(next, Some(Err(_)));
        next
    });
    let slices = whole.flat_map(|batch| match batch {
        Ok(batch) => (0..batch.num_rows())
            .step_by(BATCH_ROWS)
            .map(|start| Ok(batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start))))
            .collect::<Vec<_>>(),
        Err(error) => vec![Err(error)],
    });
    Box::new(slices.map(move |batch| {
        let chunk = batch.and_then(|batch| sure(|| as_lines(&batch, ordinal, &mut rows_before)).flatten());
        // Columnar readers jump about in the file; the bar follows the rows' bytes and ends where the file ends.
        let step = chunk.as_ref().map_or(0, |chunk| (chunk.bytes.len() as u64).min(bytes_left));
        bytes_left -= step;
        bytes_read.fetch_add(step, Ordering::Relaxed);
        chunk.map_err(|error| Error::input(&path, error))
    }))
}

fn as_lines(batch: &RecordBatch, input: i32, rows_before: &mut u64) -> std::result::Result<Chunk, ArrowError> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    let bytes = writer.into_inner();
    let mut rows = Vec::with_capacity(batch.num_rows());
    let mut start = 0;
    for newline in memchr::memchr_iter(b'\n', &bytes) {
        rows.push(RawRow { offset: *rows_before, length: 0, line: *rows_before + 1, start, end: newline });
        *rows_before += 1;
        start = newline + 1;
    }
    Ok(Chunk { input, bytes, rows })
}
