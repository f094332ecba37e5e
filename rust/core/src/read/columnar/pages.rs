//! Reads the pages of a Parquet column. The header of each page is checked before the page is
//! decompressed.
//!
//! The page reader of the parquet crate trusts a header: it reads pages of up to 2 GiB, and does
//! not limit the output of gzip and brotli.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;

use super::codec::Codec;
use super::delta;
use super::page_header::{self, DATA, DATA_V2, DICTIONARY, Header};
use super::thrift::{Broken, Thrift};
use crate::read::{MIB, bomb};

/// Maximum page size. Writers start a new page after a megabyte, but pyarrow checks the size only
/// every 1,024 rows. With half a megabyte per row, its pages reach this limit.
const PAGE_BYTES_MAX: usize = 512 << 20;
/// Maximum size of a page header, including statistics.
const HEADER_BYTES_MAX: usize = 16 << 20;
/// Bytes of a header that are read at first. Nearly all headers are shorter.
const HEADER_BYTES_USUAL: usize = 256;

/// Bytes that may still be read, over all columns of a file.
pub(super) struct Room {
    /// For the current batch.
    batch: AtomicU64,
    /// Whether the limit of the batch was exceeded.
    is_batch_full: AtomicBool,
    /// For the entire file.
    file: AtomicU64,
}

impl Room {
    pub(super) fn of_file(bytes: u64) -> Room {
        Room {
            batch: AtomicU64::new(0),
            is_batch_full: AtomicBool::new(false),
            file: AtomicU64::new(bytes),
        }
    }

    /// Bytes that may still be read from the file.
    pub(super) fn left(&self) -> u64 {
        self.file.load(Ordering::Relaxed)
    }

    /// Sets the bytes that may still be read, so that pages that are read again count only once.
    pub(super) fn restore(&self, left: u64) {
        self.file.store(left, Ordering::Relaxed);
    }

    /// Sets the limit of the next batch.
    pub(super) fn start_batch(&self, bytes: u64) {
        self.batch.store(bytes, Ordering::Relaxed);
        self.is_batch_full.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_batch_full(&self) -> bool {
        self.is_batch_full.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let less = |left: u64| left.checked_sub(bytes);
        if self.file.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
            return refuse(bomb());
        }
        if self.batch.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
            self.is_batch_full.store(true, Ordering::Relaxed);
            return refuse("its rows take too much memory".to_owned());
        }
        Ok(())
    }
}

fn refuse<T>(why: String) -> Result<T> {
    Err(ParquetError::General(why))
}

/// The pages of one column of one row group.
pub(super) struct Pages {
    file: Arc<File>,
    room: Arc<Room>,
    codec: Codec,
    column: ColumnChunkMetaData,
    /// Offset of the next page, or of its data once the header was read.
    at: u64,
    left: u64,
    rows_of_group: u64,
    next: Option<Header>,
}

impl Pages {
    /// Returns the pages of a column. Fails if they are outside the file.
    pub(super) fn of(
        file: Arc<File>,
        file_bytes: u64,
        room: Arc<Room>,
        column: &ColumnChunkMetaData,
        rows_of_group: u64,
    ) -> Result<Pages> {
        let (at, left) = column.byte_range();
        if at.checked_add(left).is_none_or(|end| end > file_bytes) {
            return refuse("a column is outside the file".to_owned());
        }
        Ok(Pages {
            file,
            room,
            codec: Codec::new(column.compression()),
            column: column.clone(),
            at,
            left,
            rows_of_group,
            next: None,
        })
    }

    /// Reads the header of the next page, without advancing to the page after it.
    fn header(&mut self) -> Result<Option<Header>> {
        while self.next.is_none() && self.left > 0 {
            let (header, length) = self.read_header()?;
            self.at += length as u64;
            self.left -= length as u64;
            if header.packed as u64 > self.left {
                return refuse("a page is longer than its column".to_owned());
            }
            match header.kind {
                DATA | DICTIONARY | DATA_V2 => self.next = Some(header),
                _ => self.pass(&header),
            }
        }
        Ok(self.next)
    }

    /// Skips the data of a page.
    fn pass(&mut self, header: &Header) {
        self.at += header.packed as u64;
        self.left -= header.packed as u64;
    }

    fn read_header(&self) -> Result<(Header, usize)> {
        let mut length = HEADER_BYTES_USUAL;
        loop {
            let whole = (length as u64).min(self.left) as usize;
            let mut bytes = vec![0; whole];
            self.file.read_exact_at(&mut bytes, self.at)?;
            let mut thrift = Thrift::new(&bytes);
            match page_header::read(&mut thrift) {
                Ok(header) => return Ok((header, thrift.at)),
                Err(Broken::Short) if whole as u64 != self.left && length < HEADER_BYTES_MAX => {
                    length *= 16
                }
                Err(Broken::Short | Broken::Malformed) => {
                    return refuse("a page's header is malformed".to_owned());
                }
            }
        }
    }

    fn read_page(&mut self, header: Header) -> Result<Page> {
        self.check(&header)?;
        let mut packed = vec![0; header.packed];
        self.file.read_exact_at(&mut packed, self.at)?;
        self.pass(&header);
        let levels = (header.definition_bytes + header.repetition_bytes) as usize;
        let is_packed = !header.is_stored
            && !matches!(self.column.compression(), parquet::basic::Compression::UNCOMPRESSED);
        let bytes = if is_packed {
            let mut unpacked = Vec::with_capacity(header.unpacked);
            let (head, rest) = packed
                .split_at_checked(levels)
                .ok_or_else(|| ParquetError::General("a page has no levels".to_owned()))?;
            unpacked.extend_from_slice(head);
            // A page of only nulls has no data, whatever its codec.
            if header.unpacked > levels {
                self.codec.unpack(rest, header.unpacked - levels, &mut unpacked)?;
            }
            unpacked
        } else {
            packed
        };
        if header.encoding == Encoding::DELTA_BYTE_ARRAY as i32 && header.kind != DICTIONARY {
            self.room.take(self.repeated_bytes(&header, &bytes)?)?;
        }
        as_page(&header, Bytes::from(bytes))
    }

    /// Fails if a page must not be decompressed.
    fn check(&self, header: &Header) -> Result<()> {
        let is_nested = self.column.column_descr().max_rep_level() > 0;
        let (unpacked, values) = (header.unpacked as u64, u64::from(header.values));
        if header.unpacked > PAGE_BYTES_MAX || header.packed > PAGE_BYTES_MAX {
            return refuse(format!(
                "a page has {unpacked} bytes; at most {} MiB are read: write smaller pages",
                PAGE_BYTES_MAX as u64 / MIB
            ));
        }
        if header
            .definition_bytes
            .checked_add(header.repetition_bytes)
            .is_none_or(|bytes| u64::from(bytes) > unpacked)
        {
            return refuse("a page's levels are longer than the page".to_owned());
        }
        // The reader allocates space for all values of a dictionary in advance. A row of a flat
        // column has exactly one value.
        let values_max = match header.kind {
            DICTIONARY => unpacked.max(header.packed as u64) / self.bytes_of_value(4).max(1),
            _ if is_nested => u64::MAX,
            _ => self.rows_of_group,
        };
        if values > values_max {
            return refuse("a page claims more values than there is room for".to_owned());
        }
        // A single row may contain all values of a list column, with two bytes for each of two
        // levels.
        let nested = if is_nested && header.kind != DICTIONARY {
            values.saturating_mul(self.bytes_of_value(16) + 4)
        } else {
            0
        };
        self.room.take(unpacked.max(header.packed as u64).saturating_add(nested))
    }

    /// Bytes per value, where `of_text` is the result for text.
    fn bytes_of_value(&self, of_text: u64) -> u64 {
        match self.column.column_descr().physical_type() {
            Type::BOOLEAN => 1,
            Type::INT32 | Type::FLOAT => 4,
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::BYTE_ARRAY => of_text,
            Type::FIXED_LEN_BYTE_ARRAY => {
                u64::try_from(self.column.column_descr().type_length()).unwrap_or(0)
            }
        }
    }

    /// Bytes of a page's values in DELTA_BYTE_ARRAY, where values repeat parts of each other.
    fn repeated_bytes(&self, header: &Header, page: &[u8]) -> Result<u64> {
        let malformed = || ParquetError::General("a page's values are malformed".to_owned());
        let mut at = (header.definition_bytes + header.repetition_bytes) as usize;
        if header.kind == DATA {
            let levels = self.column.column_descr();
            for (level, encoding) in [
                (levels.max_rep_level(), header.repetition_encoding),
                (levels.max_def_level(), header.definition_encoding),
            ] {
                at += level_bytes(
                    page.get(at..).ok_or_else(malformed)?,
                    level,
                    encoding,
                    header.values,
                )
                .ok_or_else(malformed)?;
            }
        }
        delta::total_bytes(page.get(at..).ok_or_else(malformed)?, u64::from(header.values))
            .map_err(|_| malformed())
    }
}

/// Bytes of the repetition or definition levels of a page.
fn level_bytes(page: &[u8], level_max: i16, encoding: i32, values: u32) -> Option<usize> {
    if level_max == 0 {
        return Some(0);
    }
    if encoding == Encoding::RLE as i32 {
        let length = u32::from_le_bytes(*page.first_chunk()?);
        return Some(4 + length as usize);
    }
    let bits = u64::from(16 - level_max.leading_zeros());
    Some((u64::from(values) * bits).div_ceil(8) as usize)
}

fn as_page(header: &Header, buf: Bytes) -> Result<Page> {
    let (num_values, encoding) = (header.values, encoding(header.encoding)?);
    Ok(match header.kind {
        DICTIONARY => {
            Page::DictionaryPage { buf, num_values, encoding, is_sorted: header.is_sorted }
        }
        DATA_V2 => Page::DataPageV2 {
            buf,
            num_values,
            encoding,
            num_nulls: header.nulls,
            num_rows: header.rows,
            def_levels_byte_len: header.definition_bytes,
            rep_levels_byte_len: header.repetition_bytes,
            is_compressed: !header.is_stored,
            statistics: None,
        },
        _ => Page::DataPage {
            buf,
            num_values,
            encoding,
            def_level_encoding: self::encoding(header.definition_encoding)?,
            rep_level_encoding: self::encoding(header.repetition_encoding)?,
            statistics: None,
        },
    })
}

/// The encoding with this number in the Parquet specification.
#[expect(deprecated, reason = "old files have levels in BIT_PACKED")]
fn encoding(number: i32) -> Result<Encoding> {
    const ALL: [Encoding; 9] = [
        Encoding::PLAIN,
        Encoding::PLAIN_DICTIONARY,
        Encoding::RLE,
        Encoding::BIT_PACKED,
        Encoding::DELTA_BINARY_PACKED,
        Encoding::DELTA_LENGTH_BYTE_ARRAY,
        Encoding::DELTA_BYTE_ARRAY,
        Encoding::RLE_DICTIONARY,
        Encoding::BYTE_STREAM_SPLIT,
    ];
    let known = ALL.into_iter().find(|encoding| *encoding as i32 == number);
    known.ok_or_else(|| {
        ParquetError::General(format!("a page has the encoding {number}, which is not known"))
    })
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let header = self.header()?;
        self.next = None;
        header.map(|header| self.read_page(header)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        Ok(self.header()?.map(|header| PageMetadata {
            num_rows: (header.kind == DATA_V2).then_some(header.rows as usize),
            num_levels: (header.kind != DICTIONARY).then_some(header.values as usize),
            is_dict: header.kind == DICTIONARY,
        }))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        if let Some(header) = self.header()? {
            self.next = None;
            self.pass(&header);
        }
        Ok(())
    }
}
