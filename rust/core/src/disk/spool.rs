//! Keeps byte records on disk that a run writes once and reads back by number: tokens before they
//! are packed, and shingles for dedup.
//!
//! An example: memory holds the end of each record and a buffer of those that are not on disk yet.
//!
//! ```
//! # let directory = tempfile::tempdir()?;
//! # let folder = zephyr_core::Folder::open(directory.path())?;
//! # let on_disk = || std::fs::metadata(directory.path().join("tokens")).map(|file| file.len());
//! let mut spool = zephyr_core::disk::spool::Spool::create(&folder, "tokens")?;
//! spool.push(b"one")?; // ends at byte 3
//! spool.push(b"")?; // ends at byte 3 too
//! spool.push_u64(&[2])?; // eight little-endian bytes; ends at byte 11
//! assert_eq!(on_disk()?, 0); // all of them are in the buffer
//! spool.push(&vec![b'x'; 1 << 20])?; // fills the buffer's MiB, so all four are written
//! assert_eq!(on_disk()?, 11 + (1 << 20));
//! let mut record = Vec::new();
//! spool.read(2, &mut record)?; // bytes 3 to 11, from the file
//! assert_eq!((spool.length(2), record), (8, vec![2, 0, 0, 0, 0, 0, 0, 0]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::disk::{Folder, Stepped};
use crate::error::{Error, Result};

const BUFFER_BYTES: usize = 1 << 20;

/// An append-only file of records. Memory holds one offset per record and one buffer.
pub struct Spool {
    path: PathBuf,
    file: Stepped<File>,
    /// Records not yet on disk.
    buffer: Vec<u8>,
    /// Bytes on disk.
    flushed: u64,
    /// Where each record ends.
    ends: Vec<u64>,
}

impl Spool {
    /// A new, empty spool.
    pub fn create(folder: &Folder, name: &str) -> Result<Spool> {
        let path = folder.path_of(name);
        let file = folder.create(name).map_err(|error| Error::storage(&path, error))?;
        Ok(Spool {
            path,
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            flushed: 0,
            ends: Vec::new(),
        })
    }

    /// Appends a record.
    pub fn push(&mut self, record: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(record);
        self.end_record()
    }

    fn end_record(&mut self) -> Result<()> {
        self.ends.push(self.flushed + self.buffer.len() as u64);
        if self.buffer.len() >= BUFFER_BYTES {
            self.file.write_all(&self.buffer).map_err(|error| Error::storage(&self.path, error))?;
            self.flushed += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Reads a record into `record`, replacing its content.
    pub fn read(&self, number: usize, record: &mut Vec<u8>) -> Result<()> {
        let length = self.length(number);
        let start = self.ends[number] - length as u64;
        record.clear();
        if start >= self.flushed {
            let start = (start - self.flushed) as usize;
            record.extend_from_slice(&self.buffer[start..start + length]);
            return Ok(());
        }
        record.resize(length, 0);
        self.file.0.read_exact_at(record, start).map_err(|error| Error::storage(&self.path, error))
    }

    /// Appends numbers as a record.
    pub fn push_u64(&mut self, numbers: &[u64]) -> Result<()> {
        let start = self.buffer.len();
        self.buffer.resize(start + 8 * numbers.len(), 0);
        for (bytes, number) in self.buffer[start..].as_chunks_mut().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
        self.end_record()
    }

    /// The bytes of a record.
    #[must_use]
    pub fn length(&self, number: usize) -> usize {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        (self.ends[number] - start) as usize
    }
}
