//! Writes Parquet files for reading and queries. Row groups are cut by content and compressed with
//! zstd on one thread. The name of the writing program never changes, so neither do the bytes.

mod twin;

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::{ParquetError, Result as Outcome};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use crate::disk::Folder;
use crate::disk::commit::{Committed, Draft};
use crate::error::{Error, Result};
use twin::Twin;

/// Maximum rows in a row group.
const GROUP_ROWS: usize = 65_536;
/// A row group is complete once it holds about this many bytes. It is kept in memory until then,
/// and readers with many threads need several groups.
const GROUP_BYTES: usize = 8 << 20;
/// Level 3 would make text a sixth smaller, but a run without tokens a sixth slower.
const ZSTD_LEVEL: i32 = 1;

/// A Parquet file that is being written.
pub struct Table {
    file: SerializedFileWriter<Draft>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    twin: Option<Twin>,
    group: Option<Group>,
    target: PathBuf,
    rows: u64,
}

/// The row group that is being filled.
struct Group {
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
}

impl Table {
    /// Creates a file.
    pub fn create(folder: &Folder, name: &str, schema: SchemaRef) -> Result<Table> {
        Table::open(Draft::create(folder, name)?, schema, None)
    }

    /// Creates a file whose column `copy` always equals the column `original` before it, so that it
    /// is encoded and compressed only once.
    pub fn with_twin(
        folder: &Folder,
        name: &str,
        schema: SchemaRef,
        original: &str,
        copy: &str,
    ) -> Result<Table> {
        Table::open(Draft::create(folder, name)?, schema, Some((original, copy)))
    }

    fn open(draft: Draft, schema: SchemaRef, twins: Option<(&str, &str)>) -> Result<Table> {
        let level =
            ZstdLevel::try_new(ZSTD_LEVEL).map_err(|error| Error::Internal(error.to_string()))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_created_by(crate::dataset::fingerprint::ENGINE.to_owned())
            .build();
        let target = draft.path();
        let failed = |error| Error::storage(&target, error);
        let writer =
            ArrowWriter::try_new(draft, Arc::clone(&schema), Some(properties)).map_err(failed)?;
        let (file, mut factory) = writer.into_serialized_writer().map_err(failed)?;
        let twin = twins.map(|(original, copy)| Twin::new(file.schema_descr(), original, copy));
        if let Some(twin) = &twin {
            factory = factory.with_page_store_factory(twin.pages());
        }
        Ok(Table { file, factory, schema, twin, group: None, target, rows: 0 })
    }

    /// Rows written so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends rows, at most as many as a row group holds.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.append(batch).map_err(|error| Error::storage(&self.target, error))
    }

    /// Completes the file and renames it to its final name.
    pub fn commit(mut self) -> Result<Committed> {
        let failed = |error| Error::storage(&self.target, error);
        end_group(&mut self.file, self.group.take(), self.twin.as_mut()).map_err(failed)?;
        self.file.into_inner().map_err(failed)?.commit()
    }

    fn append(&mut self, batch: &RecordBatch) -> Outcome<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.group.as_ref().is_some_and(|group| group.rows + batch.num_rows() > GROUP_ROWS) {
            end_group(&mut self.file, self.group.take(), self.twin.as_mut())?;
        }
        let group = match &mut self.group {
            Some(group) => group,
            none => {
                let columns =
                    self.factory.create_column_writers(self.file.flushed_row_groups().len())?;
                none.insert(Group { columns, rows: 0 })
            }
        };
        group.rows += batch.num_rows();
        let mut columns = group.columns.iter_mut().enumerate();
        for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, array)? {
                let (index, column) = columns.next().ok_or_else(|| {
                    ParquetError::General("a batch has more columns than the schema".to_owned())
                })?;
                if !self.twin.as_ref().is_some_and(|twin| twin.is_copy(index)) {
                    column.write(&leaf)?;
                }
            }
        }
        if group.columns.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum::<usize>()
            >= GROUP_BYTES
        {
            end_group(&mut self.file, self.group.take(), self.twin.as_mut())?;
        }
        Ok(())
    }
}

/// Writes a row group, if there is one, after the earlier ones.
fn end_group(
    file: &mut SerializedFileWriter<Draft>,
    group: Option<Group>,
    mut twin: Option<&mut Twin>,
) -> Outcome<()> {
    let Some(group) = group else { return Ok(()) };
    let leaves = file.schema_descr().columns().to_vec();
    let mut written = file.next_row_group()?;
    for (index, (column, leaf)) in group.columns.into_iter().zip(leaves).enumerate() {
        match &mut twin {
            Some(twin) if twin.is_copy(index) => twin.write_copy(index, &mut written, leaf)?,
            twin => {
                let chunk = column.close()?;
                if let Some(twin) = twin {
                    twin.encoded(index, chunk.close());
                }
                chunk.append_to_row_group(&mut written)?;
            }
        }
    }
    written.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use arrow_array::Int64Array;
    use arrow_schema::{DataType, Field, Schema};
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    #[test]
    fn batches_without_rows_leave_nothing_and_a_group_ends_at_its_rows() {
        let above = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(above.path()).expect("opens");
        let schema = Arc::new(Schema::new(vec![Field::new("row", DataType::Int64, false)]));
        let groups = |name: &str, batches: &[usize]| {
            let target = above.path().join(name);
            let mut table = Table::create(&folder, name, Arc::clone(&schema)).expect("creates");
            for &rows in batches {
                let column = Arc::new(Int64Array::from(vec![7; rows]));
                table
                    .write(
                        &RecordBatch::try_new(Arc::clone(&schema), vec![column])
                            .expect("one column"),
                    )
                    .expect("writes");
            }
            assert_eq!(table.rows(), batches.iter().sum::<usize>() as u64);
            table.commit().expect("commits");
            let file =
                SerializedFileReader::new(File::open(&target).expect("opens")).expect("reads");
            let rows = file
                .metadata()
                .row_groups()
                .iter()
                .map(parquet::file::metadata::RowGroupMetaData::num_rows)
                .collect::<Vec<_>>();
            (rows, fs::read(target).expect("reads"))
        };
        assert!(groups("none", &[]).0.is_empty());
        assert_eq!(groups("empty", &[0]), groups("no batch", &[]));
        assert_eq!(groups("between", &[0, 3, 0, 2, 0]), groups("without", &[3, 2]));
        assert_eq!(groups("full", &[GROUP_ROWS - 1, 2, GROUP_ROWS, 1]).0, [65_535, 2, 65_536, 1]);
    }
}
