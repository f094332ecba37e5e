//! Every operation on the file system. Each call that writes is a step, which fault tests count,
//! fail or abort at. Reading only opens regular files.
//!
//! A run writes, removes and verifies files through a [`Folder`]: a directory handle and single
//! names below it, never through a symbolic link. Replacing a name with a link during a run only
//! causes the run to fail.

pub mod commit;
mod draft;
#[cfg(feature = "failpoints")]
pub(crate) mod failpoints;
pub mod spool;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

pub(crate) use draft::DraftFile;

#[cfg(feature = "failpoints")]
use crate::disk::failpoints::{room, step};

/// Prefix of every temporary name, by which the next run finds and removes the files of a killed
/// one.
pub(crate) const TEMPORARY_PREFIX: &str = ".zephyr-draft-";
/// The error for a link where a file or directory is required.
pub(crate) const IS_LINK: &str = "it is a symbolic link, which is not followed";
/// Accessible to all accounts, as far as the umask allows, since others read datasets too.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);
const OPEN_FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[cfg(not(feature = "failpoints"))]
fn step(_: &str, _: &Path) -> Result<()> {
    Ok(())
}

#[cfg(not(feature = "failpoints"))]
fn room(bytes: usize) -> Result<usize> {
    Ok(bytes)
}

/// Opens a file to read, links followed. Fails at once if it is not a regular file: a FIFO would
/// hang, and a device may never end.
pub(crate) fn open(path: &Path) -> Result<File> {
    // Without this flag, opening a FIFO waits for its writer. It has no effect on regular files.
    let file =
        File::options().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    let kind = file.metadata()?;
    if kind.is_file() {
        return Ok(file);
    }
    Err(Error::other(if kind.is_dir() {
        "it is a directory, not a file"
    } else {
        "it is not a regular file"
    }))
}

/// Reads a small file completely, following links. Fails if it is longer than `bytes_max`, without
/// reading the rest.
pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    read_whole(open(path)?, bytes_max)
}

fn read_whole(file: File, bytes_max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// The kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File {
        bytes: u64,
    },
    Folder,
    Link,
    /// A FIFO, a socket or a device.
    Special,
}

impl Kind {
    fn of(stat: &Stat) -> Kind {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File { bytes: stat.st_size as u64 },
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Special,
        }
    }

    /// The kind in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Kind::File { .. } => "a file",
            Kind::Folder => "a directory",
            Kind::Link => "a symbolic link",
            Kind::Special => "neither a file nor a directory",
        }
    }
}

/// A directory that is held open, so operations cannot escape it.
#[derive(Debug, Clone)]
pub struct Folder {
    handle: Arc<OwnedFd>,
    /// Its path, for messages only.
    path: PathBuf,
}

impl Folder {
    /// Opens a directory that the user named. A link in that path is the user's own choice and is
    /// followed.
    pub fn open(path: &Path) -> Result<Folder> {
        Ok(Folder {
            handle: Arc::new(rustix::fs::openat(CWD, path, OPEN_FOLDER, Mode::empty())?),
            path: path.to_owned(),
        })
    }

    /// Opens a directory that the user named. Creates it and its parents if missing.
    pub(crate) fn open_or_make(path: &Path) -> Result<Folder> {
        let is_new = !path.exists();
        step("make_folder", path)?;
        fs::create_dir_all(path)?;
        let folder = Folder::open(path)?;
        if let (true, Some(above)) = (is_new, path.canonicalize()?.parent()) {
            Folder::open(above)?.sync()?;
        }
        Ok(folder)
    }

    /// Its path, for messages only.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, for messages only.
    pub(crate) fn path_of(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// Opens a subdirectory.
    pub(crate) fn folder(&self, name: &str) -> Result<Folder> {
        let handle = self.open_within(name, OPEN_FOLDER)?;
        Ok(Folder { handle: Arc::new(handle.into()), path: self.path_of(name) })
    }

    /// Opens a subdirectory. Creates it if missing.
    pub(crate) fn make_folder(&self, name: &str) -> Result<Folder> {
        step("make_folder", &self.path_of(name))?;
        match rustix::fs::mkdirat(&*self.handle, name, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => self.folder(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file within to read. A FIFO is not waited for.
    pub(crate) fn file(&self, name: &str) -> Result<File> {
        let file = self.open_within(name, OFlags::RDONLY)?;
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(Error::other("it is not a regular file"))
        }
    }

    /// Opens a file within for reading and writing. Creates it if missing, and keeps its content.
    pub(crate) fn file_or_new(&self, name: &str) -> Result<File> {
        self.open_within(name, OFlags::RDWR | OFlags::CREATE)
    }

    fn open_within(&self, name: &str, flags: OFlags) -> Result<File> {
        // Without NONBLOCK, opening a FIFO waits for its writer. The flag has no effect on files
        // and directories.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&*self.handle, name, flags, FILE_MODE) {
            Ok(handle) => Ok(File::from(handle)),
            // Systems report different errors for a link, and for a link instead of a directory.
            Err(error) if self.kind(name).ok().flatten() == Some(Kind::Link) => {
                Err(Error::other(format!("{IS_LINK} ({error})")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a small file completely. Fails if it is longer than `bytes_max`, without reading the
    /// rest.
    pub(crate) fn read(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>> {
        read_whole(self.file(name)?, bytes_max)
    }

    /// Returns the kind of an entry, without following links, or `None` if it does not exist.
    pub(crate) fn kind(&self, name: impl AsRef<OsStr>) -> Result<Option<Kind>> {
        Ok(self.stat(name.as_ref())?.map(|stat| Kind::of(&stat)))
    }

    /// Whether an entry is this open file.
    pub(crate) fn names(&self, name: &str, file: &File) -> Result<bool> {
        let held = rustix::fs::fstat(file)?;
        Ok(self
            .stat(OsStr::new(name))?
            .is_some_and(|there| (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)))
    }

    /// Whether an entry of another directory still refers to this directory.
    pub(crate) fn is_named(&self, above: &Folder, name: &str) -> Result<bool> {
        above.names(name, &File::from(self.handle.try_clone()?))
    }

    fn stat(&self, name: &OsStr) -> Result<Option<Stat>> {
        match rustix::fs::statat(&*self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Iterates over all entries with their kinds, in no particular order.
    pub(crate) fn entries(&self) -> Result<impl Iterator<Item = Result<(OsString, Kind)>>> {
        let names = Dir::read_from(&*self.handle)?.filter(|entry| {
            let name = entry.as_ref().map_or(&b""[..], |entry| entry.file_name().to_bytes());
            name != b"." && name != b".."
        });
        Ok(names.filter_map(|entry| {
            let entry = match entry {
                Ok(entry) => OsStr::from_bytes(entry.file_name().to_bytes()).to_owned(),
                Err(error) => return Some(Err(error.into())),
            };
            // Skipped if it was removed meanwhile.
            self.kind(&entry).map(|kind| kind.map(|kind| (entry, kind))).transpose()
        }))
    }

    /// Creates a file. Fails if it exists.
    pub(crate) fn create(&self, name: &str) -> Result<Stepped<File>> {
        step("create", &self.path_of(name))?;
        self.create_new(name).map(Stepped)
    }

    fn create_new(&self, name: &str) -> Result<File> {
        self.open_within(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Waits until the entries of this directory are on disk. Until then, a rename is not durable.
    pub(crate) fn sync(&self) -> Result<()> {
        step("sync_folder", &self.path)?;
        Ok(rustix::fs::fsync(&*self.handle)?)
    }

    /// Removes a file, or a link itself. Succeeds if it does not exist.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        step("remove", &self.path_of(name))?;
        self.unlink(name, AtFlags::empty())
    }

    /// Removes a directory if it is empty.
    pub(crate) fn remove_if_empty(&self, name: &str) -> Result<()> {
        step("remove", &self.path_of(name))?;
        self.unlink_empty(name)
    }

    /// Removes a directory's files whose names `is_ours` accepts, those in `last` after all others,
    /// then the directory if it is empty. This counts as one step.
    pub(crate) fn remove_flat(
        &self,
        name: &str,
        last: &[&str],
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<()> {
        step("remove", &self.path_of(name))?;
        let within = match self.folder(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            within => within?,
        };
        for entry in within.entries()? {
            let (entry, kind) = entry?;
            let Some(entry) = entry.to_str() else { continue };
            if matches!(kind, Kind::File { .. }) && is_ours(entry) && !last.contains(&entry) {
                within.unlink(entry, AtFlags::empty())?;
            }
        }
        for entry in last {
            within.unlink(entry, AtFlags::empty())?;
        }
        self.unlink_empty(name)
    }

    fn unlink(&self, name: &str, flags: AtFlags) -> Result<()> {
        match rustix::fs::unlinkat(&*self.handle, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn unlink_empty(&self, name: &str) -> Result<()> {
        match self.unlink(name, AtFlags::REMOVEDIR) {
            // Systems differ in which of the two errors they return.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                ) =>
            {
                Ok(())
            }
            removed => removed,
        }
    }
}

/// A file whose writes are steps.
pub(crate) struct Stepped<F>(pub(crate) F);

impl<F: Write> Write for Stepped<F> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let room = room(bytes.len())?;
        self.0.write(&bytes[..room])
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests;
