//! The one way a file comes to life: written under a temporary name, hashed on the way, synced, then renamed.
//!
//! A draft that is dropped, whether by an error, an interrupt or a panic, leaves nothing under the final name.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use xxhash_rust::xxh3::Xxh3;

use crate::disk::{self, Stepped};
use crate::error::{Error, Result};
use crate::text::hex;

const BUFFER_BYTES: usize = 1 << 20;

/// What was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of all of it, hex.
    pub sha256: String,
}

/// A file on its way.
pub struct Draft {
    target: PathBuf,
    file: BufWriter<Stepped<NamedTempFile>>,
    sha256: Sha256,
    section: Xxh3,
    bytes: u64,
}

impl Draft {
    /// Opens a new file next to `target`, which must not exist when it is committed.
    pub fn create(target: &Path) -> Result<Draft> {
        let file = disk::draft(target).map_err(|error| Error::storage(target, error))?;
        Ok(Draft {
            target: target.to_owned(),
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

    /// XXH3-64 of what was written since the last call.
    pub fn take_section(&mut self) -> u64 {
        let digest = self.section.digest();
        self.section.reset();
        digest
    }

    /// Syncs the file and gives it its name. Nothing of that name may exist.
    pub fn commit(self) -> Result<Committed> {
        let Draft { target, file, .. } = self;
        let failed = |error: std::io::Error| Error::storage(&target, error);
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?.0;
        disk::sync(&file).map_err(failed)?;
        disk::rename(file, &target).map_err(failed)?;
        disk::sync_folder(target.parent().unwrap_or(Path::new("."))).map_err(failed)?;
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
pub fn commit_bytes(target: &Path, bytes: &[u8]) -> Result<Committed> {
    let mut draft = Draft::create(target)?;
    draft.write_all(bytes).map_err(|error| Error::storage(target, error))?;
    draft.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_draft_leaves_nothing_and_a_committed_one_its_digest() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("file");
        let mut draft = Draft::create(&target).expect("creates");
        draft.write_all(b"lost").expect("writes");
        drop(draft);
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0);
        let committed = commit_bytes(&target, b"abc").expect("commits");
        assert_eq!(committed.sha256, crate::text::sha256_hex(b"abc"));
        assert_eq!(std::fs::read(&target).expect("reads"), b"abc");
        assert!(commit_bytes(&target, b"other").is_err(), "never over another file");
    }
}
