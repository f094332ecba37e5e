//! Writes a column that is always equal to an earlier one. The encoded pages of the original column
//! are kept when they are written, and written again as those of the copy, so they are encoded and
//! compressed only once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use parquet::arrow::arrow_writer::{
    InMemoryPageStore, PageKey, PageStore, PageStoreArgs, PageStoreFactory,
};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};

use crate::disk::commit::Draft;

/// An original column and its copy, as ranges of leaf columns: a list of messages has one leaf for
/// the contents and one for the roles.
pub(super) struct Twin {
    original: Range<usize>,
    copy: Range<usize>,
    kept: Kept,
    closed: HashMap<usize, ColumnCloseResult>,
}

impl Twin {
    /// Finds two columns of the same type by name.
    pub(super) fn new(schema: &SchemaDescriptor, original: &str, copy: &str) -> Twin {
        let leaves = |name: &str| {
            let mut found = (0..schema.num_columns())
                .filter(|&leaf| schema.get_column_root(leaf).name() == name);
            let first = found.next().expect("a mirrored column must be in the schema");
            first..first + 1 + found.count()
        };
        Twin {
            original: leaves(original),
            copy: leaves(copy),
            kept: Kept::default(),
            closed: HashMap::new(),
        }
    }

    /// A page store that keeps the pages of the original.
    pub(super) fn pages(&self) -> Arc<dyn PageStoreFactory> {
        Arc::new(Pages { original: self.original.clone(), kept: self.kept.clone() })
    }

    /// Whether a leaf is a copy, so it must not be encoded.
    pub(super) fn is_copy(&self, leaf: usize) -> bool {
        self.copy.contains(&leaf)
    }

    /// Keeps the metadata of an encoded leaf if it belongs to the original.
    pub(super) fn encoded(&mut self, leaf: usize, closed: &ColumnCloseResult) {
        if self.original.contains(&leaf) {
            self.closed.insert(leaf, closed.clone());
        }
    }

    /// Writes a leaf of the copy: the encoded pages of the original, unchanged.
    pub(super) fn write_copy(
        &mut self,
        leaf: usize,
        group: &mut SerializedRowGroupWriter<'_, Draft>,
        column: ColumnDescPtr,
    ) -> Result<()> {
        let original = self.original.start + leaf - self.copy.start;
        let pages = self.kept.lock().remove(&original);
        let (Some(pages), Some(closed)) = (pages, self.closed.remove(&original)) else {
            return Err(ParquetError::General(
                "a mirrored column must come after its original".to_owned(),
            ));
        };
        group.append_column(&Bytes::from(pages), renamed(closed, column)?)
    }
}

/// Returns the metadata of encoded pages for another column. The dictionary page is counted first,
/// where it is written, although the encoder finished it last.
fn renamed(mut closed: ColumnCloseResult, column: ColumnDescPtr) -> Result<ColumnCloseResult> {
    let of = &closed.metadata;
    let mut renamed = ColumnChunkMetaData::builder(column)
        .set_compression_codec(of.compression_codec())
        .set_encodings_mask(*of.encodings_mask())
        .set_total_compressed_size(of.compressed_size())
        .set_total_uncompressed_size(of.uncompressed_size())
        .set_num_values(of.num_values())
        .set_data_page_offset(of.data_page_offset())
        .set_dictionary_page_offset(of.dictionary_page_offset())
        .set_unencoded_byte_array_data_bytes(of.unencoded_byte_array_data_bytes())
        .set_repetition_level_histogram(of.repetition_level_histogram().cloned())
        .set_definition_level_histogram(of.definition_level_histogram().cloned());
    if let Some(statistics) = of.statistics() {
        renamed = renamed.set_statistics(statistics.clone());
    }
    if let Some(stats) = of.page_encoding_stats() {
        renamed = renamed.set_page_encoding_stats(stats.clone());
    }
    let offsets = closed.offset_index.as_ref().ok_or_else(|| {
        ParquetError::General("an encoded column must have an offset index".to_owned())
    })?;
    let data: i64 =
        offsets.page_locations.iter().map(|page| i64::from(page.compressed_page_size)).sum();
    let dictionary = usize::try_from(of.compressed_size() - data)?;
    closed.metadata = renamed.build()?;
    closed.update_dictionary_location(dictionary)
}

/// Encoded pages by leaf, in the order in which they were written.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<HashMap<usize, Vec<u8>>>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Creates the stores that hold a leaf's pages until the end of their row group.
#[derive(Debug)]
struct Pages {
    original: Range<usize>,
    kept: Kept,
}

impl PageStoreFactory for Pages {
    fn create(&self, args: &PageStoreArgs<'_>) -> Result<Box<dyn PageStore>> {
        let leaf = args.column_index();
        let waiting = InMemoryPageStore::default();
        Ok(if self.original.contains(&leaf) {
            Box::new(Keeping { leaf, waiting, kept: self.kept.clone() })
        } else {
            Box::new(waiting)
        })
    }
}

/// A page store that also keeps a copy of every page taken from it.
struct Keeping {
    leaf: usize,
    waiting: InMemoryPageStore,
    kept: Kept,
}

impl PageStore for Keeping {
    fn put(&mut self, page: Bytes) -> Result<PageKey> {
        self.waiting.put(page)
    }

    fn take(&mut self, key: PageKey) -> Result<Bytes> {
        let page = self.waiting.take(key)?;
        self.kept.lock().entry(self.leaf).or_default().extend_from_slice(&page);
        Ok(page)
    }

    fn memory_size(&self) -> usize {
        self.waiting.memory_size()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use arrow_array::builder::{ListBuilder, StringBuilder};
    use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, new_null_array};
    use arrow_schema::{DataType, Field, Schema, SchemaRef};

    use super::*;
    use crate::dataset::table::Table;
    use crate::disk::Folder;

    /// Lists of texts, some of them null, long ones in between, so dictionaries are left and
    /// pages end.
    fn batch(schema: &SchemaRef, from: usize, again: bool) -> RecordBatch {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in from..from + 1_000 {
            for place in 0..row % 4 {
                match (row * 7 + place) % 11 {
                    0 => lists.values().append_null(),
                    1 => lists.values().append_value(format!("{row} ").repeat(row % 900)),
                    few => lists.values().append_value(format!("text {few}")),
                }
            }
            lists.append(row % 13 != 0);
        }
        let numbers =
            Arc::new(Int64Array::from_iter_values((from..from + 1_000).map(|row| row as i64)));
        let texts: ArrayRef = Arc::new(lists.finish());
        let copy =
            if again { Arc::clone(&texts) } else { new_null_array(texts.data_type(), texts.len()) };
        RecordBatch::try_new(Arc::clone(schema), vec![texts, numbers.clone(), copy, numbers])
            .expect("four columns")
    }

    fn schema() -> SchemaRef {
        let texts = || DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
        Arc::new(Schema::new(vec![
            Field::new("first", texts(), true),
            Field::new("row", DataType::Int64, false),
            Field::new("again", texts(), true),
            Field::new("last", DataType::Int64, false),
        ]))
    }

    #[test]
    fn the_file_has_the_bytes_of_one_whose_columns_are_each_encoded() {
        let above = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(above.path()).expect("opens");
        let schema = schema();
        let written =
            |name: &str, again: bool, open: &dyn Fn(&str) -> crate::error::Result<Table>| {
                let mut table = open(name).expect("creates");
                // Two row groups by their rows.
                for from in (0..80_000).step_by(1_000) {
                    table.write(&batch(&schema, from, again)).expect("writes");
                }
                table.commit().expect("commits");
                fs::read(above.path().join(name)).expect("reads")
            };
        // The copy is never looked at.
        let once = written("twin", false, &|name| {
            Table::with_twin(&folder, name, Arc::clone(&schema), "first", "again")
        });
        let twice =
            written("plain", true, &|name| Table::create(&folder, name, Arc::clone(&schema)));
        assert!(once == twice, "{} and {} bytes", once.len(), twice.len());
    }
}
