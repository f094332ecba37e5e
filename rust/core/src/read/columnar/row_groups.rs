//! Reads a Parquet file, one row group after another.
//!
//! Text is read as views, so that a cell costs a few bytes however often its text is repeated. The
//! memory of a batch is counted page by page. A batch that needs too much is read again with fewer
//! rows, down to one.

use std::fs::File;
use std::sync::Arc;

use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowGroups,
};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::column::page::{PageIterator, PageReader};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};

use super::pages::{Pages, Room};
use super::{BATCH_ROWS, Batch, footer, refuse, sure};
use crate::disk;
use crate::error::{Error, Result};
use crate::read::{Chunks, Input, MIB, Progress, unpacked_max};

/// Memory limit of a batch of several rows. Chat data needs a megabyte or two.
const BATCH_BYTES_MAX: u64 = 128 << 20;
/// Memory limit of a single row, which is higher because the row may be the first of long pages in
/// many columns.
const ROW_BYTES_MAX: u64 = 1 << 30;
/// The factor by which the next batch is smaller after one that was too large.
const FEWER: usize = 16;

/// The rows of a Parquet file.
pub(in crate::read) fn parquet(input: &Input, progress: &Progress) -> Result<Chunks> {
    let failed = |error: &dyn std::fmt::Display| Error::input(&input.path, error);
    let file = disk::open(&input.path).map_err(|error| failed(&error))?;
    let footer = footer::read(&file, input.bytes).map_err(|error| failed(&error))?;
    let groups = sure(|| Groups::of(file, input.bytes, &footer))
        .flatten()
        .map_err(|error| failed(&super::said(&error)))?;
    Ok(super::chunks(input, groups, progress))
}

/// The batches of all row groups.
struct Groups {
    file: Arc<File>,
    file_bytes: u64,
    metadata: Arc<ParquetMetaData>,
    levels: FieldLevels,
    room: Arc<Room>,
    reader: Option<ParquetRecordBatchReader>,
    /// Index of the row group after the current one.
    next: usize,
    /// Rows of the row group that were returned, and how many of them are to be skipped when they
    /// are read again.
    done: usize,
    again: usize,
    /// Bytes that the file had left at the start of the row group.
    left: u64,
    batch_rows: usize,
}

impl Groups {
    fn of(file: File, file_bytes: u64, footer: &[u8]) -> std::result::Result<Groups, ArrowError> {
        let metadata = Arc::new(ParquetMetaDataReader::decode_metadata(footer)?);
        let arrow = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new())?;
        let hint = with_views(arrow.schema().fields());
        let levels = parquet_to_arrow_field_levels(
            metadata.file_metadata().schema_descr(),
            ProjectionMask::all(),
            Some(&hint),
        )?;
        let left = unpacked_max(file_bytes);
        let room = Arc::new(Room::of_file(left));
        let file = Arc::new(file);
        Ok(Groups {
            file,
            file_bytes,
            metadata,
            levels,
            room,
            reader: None,
            next: 0,
            done: 0,
            again: 0,
            left,
            batch_rows: BATCH_ROWS,
        })
    }

    fn open(&mut self, number: usize) -> std::result::Result<(), ArrowError> {
        let group = Group {
            number,
            file: &self.file,
            file_bytes: self.file_bytes,
            metadata: &self.metadata,
            room: &self.room,
        };
        self.room.start_batch(batch_bytes_max(self.batch_rows));
        self.reader = Some(ParquetRecordBatchReader::try_new_with_row_groups(
            &self.levels,
            &group,
            self.batch_rows,
            None,
        )?);
        Ok(())
    }

    /// Starts the row group again, with fewer rows per batch.
    fn shrink(&mut self) -> std::result::Result<(), ArrowError> {
        if self.batch_rows == 1 {
            let row = self.done + 1;
            return Err(refuse(format!(
                "row {row} of row group {} takes more than {} MiB of memory",
                self.next - 1,
                ROW_BYTES_MAX / MIB
            )));
        }
        self.batch_rows = (self.batch_rows / FEWER).max(1);
        self.again = self.done;
        self.room.restore(self.left);
        self.open(self.next - 1)
    }

    fn batch(&mut self) -> std::result::Result<Option<arrow_array::RecordBatch>, ArrowError> {
        loop {
            let Some(reader) = &mut self.reader else {
                if self.next == self.metadata.num_row_groups() {
                    return Ok(None);
                }
                self.next += 1;
                (self.done, self.again, self.left) = (0, 0, self.room.left());
                self.open(self.next - 1)?;
                continue;
            };
            self.room.start_batch(batch_bytes_max(self.batch_rows));
            match reader.next() {
                None => self.reader = None,
                Some(Ok(batch)) => {
                    let known = self.again.min(batch.num_rows());
                    self.again -= known;
                    self.done += batch.num_rows() - known;
                    if known < batch.num_rows() {
                        return Ok(Some(batch.slice(known, batch.num_rows() - known)));
                    }
                }
                Some(Err(_)) if self.room.is_batch_full() => self.shrink()?,
                Some(Err(error)) => return Err(error),
            }
        }
    }
}

fn batch_bytes_max(rows: usize) -> u64 {
    if rows == 1 { ROW_BYTES_MAX } else { BATCH_BYTES_MAX }
}

impl Iterator for Groups {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        self.batch().transpose()
    }
}

/// One row group, in the form that the column readers require.
struct Group<'file> {
    number: usize,
    file: &'file Arc<File>,
    file_bytes: u64,
    metadata: &'file Arc<ParquetMetaData>,
    room: &'file Arc<Room>,
}

impl RowGroups for Group<'_> {
    fn num_rows(&self) -> usize {
        usize::try_from(self.metadata.row_group(self.number).num_rows()).unwrap_or(0)
    }

    fn column_chunks(&self, column: usize) -> ParquetResult<Box<dyn PageIterator>> {
        let column = self.metadata.row_group(self.number).column(column);
        let pages = Pages::of(
            Arc::clone(self.file),
            self.file_bytes,
            Arc::clone(self.room),
            column,
            self.num_rows() as u64,
        )?;
        Ok(Box::new(Column(Some(pages))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.metadata.row_group(self.number)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.metadata
    }
}

/// The single sequence of pages of a column in a row group.
struct Column(Option<Pages>);

impl Iterator for Column {
    type Item = ParquetResult<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(|pages| Ok(Box::new(pages) as Box<dyn PageReader>))
    }
}

impl PageIterator for Column {}

/// The same fields, with text and bytes as views.
fn with_views(fields: &Fields) -> Fields {
    fields.iter().map(with_view).collect()
}

fn with_view(field: &FieldRef) -> FieldRef {
    Arc::new(Field::clone(field).with_data_type(as_view(field.data_type())))
}

fn as_view(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::Dictionary(_, value)
            if matches!(**value, DataType::Utf8 | DataType::LargeUtf8) =>
        {
            DataType::Utf8View
        }
        DataType::List(item) => DataType::List(with_view(item)),
        DataType::LargeList(item) => DataType::LargeList(with_view(item)),
        DataType::ListView(item) => DataType::ListView(with_view(item)),
        DataType::LargeListView(item) => DataType::LargeListView(with_view(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(with_view(item), *length),
        DataType::Struct(fields) => DataType::Struct(with_views(fields)),
        DataType::Map(entries, is_sorted) => DataType::Map(with_view(entries), *is_sorted),
        other => other.clone(),
    }
}
