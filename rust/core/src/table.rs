//! Parquet files for people and for queries: row groups cut by content, zstd on one thread, no writer's name that changes.

use std::path::Path;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::commit::{Committed, Draft};
use crate::error::{Error, Result};

/// Rows of a row group at most.
const GROUP_ROWS: usize = 65_536;
/// A row group is closed once it holds about this much.
const GROUP_BYTES: usize = 32 << 20;

/// A Parquet file on its way.
pub struct Table {
    writer: ArrowWriter<Draft>,
    target: std::path::PathBuf,
    rows: u64,
}

impl Table {
    /// A new file.
    pub fn create(target: &Path, schema: SchemaRef) -> Result<Table> {
        let level = ZstdLevel::try_new(3).map_err(|error| Error::Internal(error.to_string()))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_created_by(crate::fingerprint::ENGINE.to_owned())
            .build();
        let writer =
            ArrowWriter::try_new(Draft::create(target)?, schema, Some(properties)).map_err(|error| Error::storage(target, error))?;
        Ok(Table { writer, target: target.to_owned(), rows: 0 })
    }

    /// Rows written so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes written so far, row groups still open not counted.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    /// Appends rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(|error| Error::storage(&self.target, error))?;
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush().map_err(|error| Error::storage(&self.target, error))?;
        }
        Ok(())
    }

    /// Ends the file and gives it its name.
    pub fn commit(self) -> Result<Committed> {
        let target = self.target;
        self.writer.into_inner().map_err(|error| Error::storage(&target, error))?.commit()
    }
}
