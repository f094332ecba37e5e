//! Writes files atomically: under a temporary name, hashed while written, synced, then renamed.
//!
//! A draft that is dropped by an error, an interrupt or a panic leaves no file under the final
//! name.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use crate::disk::{DraftFile, Folder, Stepped};
use crate::error::{Error, Result};
use crate::normal::hex;

const BUFFER_BYTES: usize = 1 << 20;

/// A committed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of all of it, hex.
    pub sha256: String,
}

/// A file that is being written.
pub struct Draft {
    folder: Folder,
    name: String,
    file: BufWriter<Stepped<DraftFile>>,
    sha256: Sha256,
    section: Xxh3,
    bytes: u64,
}

impl Draft {
    /// Creates a draft of a file. Committing it fails if a file of that name exists.
    pub fn create(folder: &Folder, name: &str) -> Result<Draft> {
        let file =
            folder.draft(name).map_err(|error| Error::storage(&folder.path_of(name), error))?;
        Ok(Draft {
            folder: folder.clone(),
            name: name.to_owned(),
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            sha256: Sha256::new(),
            section: Xxh3::new(),
            bytes: 0,
        })
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the XXH3-64 of all bytes written since the last call.
    pub fn take_section(&mut self) -> u64 {
        let digest = self.section.digest();
        self.section.reset();
        digest
    }

    /// Its final path, for messages only.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path_of(&self.name)
    }

    /// Syncs the file and renames it to its final name. Fails if that name exists.
    pub fn commit(self) -> Result<Committed> {
        self.named(DraftFile::rename)
    }

    /// Like `commit`, but replaces an existing file.
    pub(crate) fn replace(self) -> Result<Committed> {
        self.named(DraftFile::replace)
    }

    fn named(
        self,
        rename: impl FnOnce(DraftFile, &str) -> std::io::Result<()>,
    ) -> Result<Committed> {
        let target = self.path();
        let failed = |error: std::io::Error| Error::storage(&target, error);
        let file = self.file.into_inner().map_err(|error| failed(error.into_error()))?.0;
        file.sync().map_err(failed)?;
        rename(file, &self.name).map_err(failed)?;
        self.folder.sync().map_err(failed)?;
        Ok(Committed { bytes: self.bytes, sha256: hex(&self.sha256.finalize()) })
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write_all(bytes)?;
        self.sha256.update(bytes);
        self.section.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Commits a small file whole.
pub fn commit_bytes(folder: &Folder, name: &str, bytes: &[u8]) -> Result<Committed> {
    let mut draft = Draft::create(folder, name)?;
    draft.write_all(bytes).map_err(|error| Error::storage(&folder.path_of(name), error))?;
    draft.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_draft_leaves_nothing_and_a_committed_one_its_digest() {
        let above = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(above.path()).expect("opens");
        let mut draft = Draft::create(&folder, "file").expect("creates");
        draft.write_all(b"lost").expect("writes");
        drop(draft);
        assert_eq!(std::fs::read_dir(above.path()).expect("lists").count(), 0);
        let committed = commit_bytes(&folder, "file", b"abc").expect("commits");
        assert_eq!(committed.sha256, crate::normal::sha256_hex(b"abc"));
        assert_eq!(std::fs::read(above.path().join("file")).expect("reads"), b"abc");
        assert!(commit_bytes(&folder, "file", b"other").is_err(), "never over another file");
    }
}
