//! Files that are being written. They have a temporary name until they are renamed to their final
//! name, which must not exist.

use std::fs::File;
use std::io::{ErrorKind, Result, Write};

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::{Folder, Stepped, TEMPORARY_PREFIX, step};
#[cfg(feature = "failpoints")]
use crate::disk::failpoints::sabotaged;

/// How many temporary names are tried. A second one is needed only if somebody guessed the first.
const DRAFT_NAMES_MAX: usize = 16;

impl Folder {
    /// Creates a file under a temporary name, to be renamed to `target`. It is removed when
    /// dropped.
    pub(crate) fn draft(&self, target: &str) -> Result<Stepped<DraftFile>> {
        step("create", &self.path_of(target))?;
        #[cfg(feature = "failpoints")]
        if sabotaged("in_place") {
            let file = self.create_new(target)?;
            return Ok(Stepped(DraftFile {
                folder: self.clone(),
                name: target.to_owned(),
                file,
                is_kept: true,
            }));
        }
        for _ in 1..DRAFT_NAMES_MAX {
            match self.draft_named(&draft_name()) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => return made.map(Stepped),
            }
        }
        self.draft_named(&draft_name()).map(Stepped)
    }

    fn draft_named(&self, name: &str) -> Result<DraftFile> {
        let file = self.create_new(name)?;
        #[cfg(feature = "failpoints")]
        let is_kept = sabotaged("leave_drafts");
        #[cfg(not(feature = "failpoints"))]
        let is_kept = false;
        Ok(DraftFile { folder: self.clone(), name: name.to_owned(), file, is_kept })
    }
}

/// Returns an unpredictable name. The call that creates the file ensures that it is new.
fn draft_name() -> String {
    use std::hash::BuildHasher;
    let chance = std::collections::hash_map::RandomState::new().hash_one(std::process::id());
    format!("{TEMPORARY_PREFIX}{chance:016x}")
}

/// A file under a temporary name, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct DraftFile {
    folder: Folder,
    name: String,
    file: File,
    is_kept: bool,
}

impl DraftFile {
    /// Waits until the file's bytes are on disk.
    pub(crate) fn sync(&self) -> Result<()> {
        #[cfg(feature = "failpoints")]
        if sabotaged("no_sync") {
            return Ok(());
        }
        step("sync", &self.folder.path_of(&self.name))?;
        self.file.sync_all()
    }

    /// Renames the file to its final name. Fails if that name exists.
    pub(crate) fn rename(mut self, target: &str) -> Result<()> {
        step("rename", &self.folder.path_of(target))?;
        #[cfg(feature = "failpoints")]
        if sabotaged("in_place") {
            return Ok(());
        } else if sabotaged("replace") {
            return self.take_the_name(target);
        }
        match self.rename_to_new(target) {
            Ok(()) => self.is_kept = true,
            // This file system does not support such a rename.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.link_to_new(target)?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Renames the file to its final name, and replaces an existing file.
    pub(crate) fn replace(mut self, target: &str) -> Result<()> {
        step("rename", &self.folder.path_of(target))?;
        self.take_the_name(target)
    }

    fn take_the_name(&mut self, target: &str) -> Result<()> {
        rustix::fs::renameat(&*self.folder.handle, &self.name, &*self.folder.handle, target)?;
        self.is_kept = true;
        Ok(())
    }

    fn rename_to_new(&self, target: &str) -> std::result::Result<(), Errno> {
        let folder = &*self.folder.handle;
        rustix::fs::renameat_with(folder, &self.name, folder, target, RenameFlags::NOREPLACE)
    }

    /// Links the file to its final name, which fails if that name exists. The temporary name is
    /// removed when this is dropped.
    pub(super) fn link_to_new(&self, target: &str) -> Result<()> {
        let folder = &*self.folder.handle;
        Ok(rustix::fs::linkat(folder, &self.name, folder, target, AtFlags::empty())?)
    }
}

impl Drop for DraftFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // A failure cannot be reported here. The next run removes the file.
            drop(self.folder.unlink(&self.name, AtFlags::empty()));
        }
    }
}

impl Write for DraftFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}
