//! All that the engine does to a disk. Each call that writes is a step, which tests of faults may
//! count, fail or die at; reading opens regular files alone.
//!
//! What a run writes, sweeps or verifies is reached through a [`Folder`]: a handle, and below it
//! one name at a time, never through a symbolic link. Whoever swaps a name for a link while a run
//! goes on only makes that run fail.

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

/// The start of every temporary name, so that the next run can sweep what a killed one left.
pub(crate) const TEMPORARY_PREFIX: &str = ".zephyr-draft-";
/// What is said of a link where only the thing itself will do.
pub(crate) const IS_LINK: &str = "it is a symbolic link, which is not followed";
/// For all accounts, as far as the umask lets them: data sets are read by others too.
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

/// Opens a file to read, links followed. What is no regular file is refused at once: a FIFO would
/// hang, a device may never end.
pub(crate) fn open(path: &Path) -> Result<File> {
    // Without this flag, opening a FIFO waits for its writer. For a regular file it changes
    // nothing.
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

/// Reads a small file whole, links followed; one that is longer than `bytes_max` is refused,
/// however much there is of it.
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

/// What a name in a folder stands for.
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

/// A directory that is held open, so that what is done below it stays below it.
#[derive(Debug, Clone)]
pub struct Folder {
    handle: Arc<OwnedFd>,
    /// How it was reached, for messages alone.
    path: PathBuf,
}

impl Folder {
    /// Opens a folder that the user named. A link in that path is the user's own choice and is
    /// followed.
    pub fn open(path: &Path) -> Result<Folder> {
        Ok(Folder {
            handle: Arc::new(rustix::fs::openat(CWD, path, OPEN_FOLDER, Mode::empty())?),
            path: path.to_owned(),
        })
    }

    /// Opens a folder that the user named, which is made, with those above it, unless it is there.
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

    /// How it was reached: for messages alone.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a name within: for messages alone.
    pub(crate) fn path_of(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// Opens a folder within.
    pub(crate) fn folder(&self, name: &str) -> Result<Folder> {
        let handle = self.open_within(name, OPEN_FOLDER)?;
        Ok(Folder { handle: Arc::new(handle.into()), path: self.path_of(name) })
    }

    /// Opens a folder within, which is made unless it is there.
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

    /// Opens a file within to read and to write, which is made unless it is there. What it holds
    /// stays.
    pub(crate) fn file_or_new(&self, name: &str) -> Result<File> {
        self.open_within(name, OFlags::RDWR | OFlags::CREATE)
    }

    fn open_within(&self, name: &str, flags: OFlags) -> Result<File> {
        // Without NONBLOCK, opening a FIFO waits for its writer. For files and folders it changes
        // nothing.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&*self.handle, name, flags, FILE_MODE) {
            Ok(handle) => Ok(File::from(handle)),
            // Systems differ in what they say of a link, and of a link where a folder is wanted.
            Err(error) if self.kind(name).ok().flatten() == Some(Kind::Link) => {
                Err(Error::other(format!("{IS_LINK} ({error})")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a small file whole; one that is longer than `bytes_max` is refused, however much there
    /// is of it.
    pub(crate) fn read(&self, name: &str, bytes_max: usize) -> Result<Vec<u8>> {
        read_whole(self.file(name)?, bytes_max)
    }

    /// What a name within stands for, links not followed; `None` where nothing has it.
    pub(crate) fn kind(&self, name: impl AsRef<OsStr>) -> Result<Option<Kind>> {
        Ok(self.stat(name.as_ref())?.map(|stat| Kind::of(&stat)))
    }

    /// Whether an open file is the one that a name within stands for.
    pub(crate) fn names(&self, name: &str, file: &File) -> Result<bool> {
        let held = rustix::fs::fstat(file)?;
        Ok(self
            .stat(OsStr::new(name))?
            .is_some_and(|there| (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)))
    }

    /// Whether this is still the folder that a name in another one stands for.
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

    /// All names within and what they stand for, one at a time, in no order.
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
            // Gone meanwhile: then it is not there.
            self.kind(&entry).map(|kind| kind.map(|kind| (entry, kind))).transpose()
        }))
    }

    /// Makes a file that is not there yet, under its own name.
    pub(crate) fn create(&self, name: &str) -> Result<Stepped<File>> {
        step("create", &self.path_of(name))?;
        self.create_new(name).map(Stepped)
    }

    fn create_new(&self, name: &str) -> Result<File> {
        self.open_within(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Waits until the names in this folder are on disk: a rename is not, before that.
    pub(crate) fn sync(&self) -> Result<()> {
        step("sync_folder", &self.path)?;
        Ok(rustix::fs::fsync(&*self.handle)?)
    }

    /// Removes a file, or a link itself; nothing is there, nothing is done.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        step("remove", &self.path_of(name))?;
        self.unlink(name, AtFlags::empty())
    }

    /// Removes a folder if it is empty.
    pub(crate) fn remove_if_empty(&self, name: &str) -> Result<()> {
        step("remove", &self.path_of(name))?;
        self.unlink_empty(name)
    }

    /// Removes a folder's files whose names `is_ours` knows, those in `last` behind all others,
    /// then the folder if it is empty: one step.
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
            // Systems differ in which of the two they say.
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
