//! Byte records on disk that a run writes once and reads back by number: tokens before packing, shingles for dedup.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const BUFFER_BYTES: usize = 1 << 20;

/// An append-only file of records; memory holds one offset a record and one buffer.
pub struct Spool {
    path: PathBuf,
    file: File,
    /// Records not yet on disk.
    buffer: Vec<u8>,
    /// Bytes on disk.
    flushed: u64,
    /// Where each record ends.
    ends: Vec<u64>,
}

impl Spool {
    /// A new, empty spool.
    pub fn create(path: &Path) -> Result<Spool> {
        let file = File::options().read(true).write(true).create_new(true).open(path).map_err(|error| Error::storage(path, error))?;
        Ok(Spool { path: path.to_owned(), file, buffer: Vec::with_capacity(BUFFER_BYTES), flushed: 0, ends: Vec::new() })
    }

    /// Appends a record.
    pub fn push(&mut self, record: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(record);
        self.ends.push(self.flushed + self.buffer.len() as u64);
        if self.buffer.len() >= BUFFER_BYTES {
            self.file.write_all_at(&self.buffer, self.flushed).map_err(|error| Error::storage(&self.path, error))?;
            self.flushed += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Reads a record into `record`, replacing what is there.
    pub fn read(&self, number: usize, record: &mut Vec<u8>) -> Result<()> {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        let length = (self.ends[number] - start) as usize;
        record.clear();
        if start >= self.flushed {
            let start = (start - self.flushed) as usize;
            record.extend_from_slice(&self.buffer[start..start + length]);
            return Ok(());
        }
        record.resize(length, 0);
        self.file.read_exact_at(record, start).map_err(|error| Error::storage(&self.path, error))
    }

    /// Appends numbers as a record.
    pub fn push_u64(&mut self, numbers: &[u64]) -> Result<()> {
        let record: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.push(&record)
    }

    /// Reads a record of numbers.
    pub fn read_u64(&self, number: usize) -> Result<Vec<u64>> {
        let mut record = Vec::new();
        self.read(number, &mut record)?;
        Ok(record.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }
}
