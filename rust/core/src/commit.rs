//! The one way a file comes to life: written under a temporary name, hashed on the way, synced, then renamed.
//!
//! A draft that is dropped, whether by an error, an interrupt or a panic, leaves nothing under the final name.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::text::hex;

/// The start of every temporary name, so that the next run can sweep what a killed one left.
pub const TEMPORARY_PREFIX: &str = ".zephyr-draft-";

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
    file: BufWriter<NamedTempFile>,
    sha256: Sha256,
    section: Xxh3,
    bytes: u64,
}

impl Draft {
    /// Opens a new file next to `target`, which must not exist when it is committed.
    pub fn create(target: &Path) -> Result<Draft> {
        let folder = target.parent().unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(folder).map_err(|error| Error::storage(target, error))?;
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
        let failed = |error: &dyn std::fmt::Display| Error::storage(&self.target, error);
        let file = self.file.into_inner().map_err(|error| failed(&error))?;
        file.as_file().sync_all().map_err(|error| failed(&error))?;
        readable_by_others(file.as_file()).map_err(|error| failed(&error))?;
        file.persist_noclobber(&self.target).map_err(|error| failed(&error.error))?;
        sync_folder(&self.target)?;
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

/// A rename is only on disk once its folder is.
fn sync_folder(target: &Path) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Error::storage(folder, error))
}

/// Temporary files are private; data sets are read by other accounts too.
fn readable_by_others(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
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
