//! The lock of an output directory. One process holds it at a time, and the file names that
//! process.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;

use super::look::foreign_file;
use crate::dataset::layout::{LOCK, WORK};
use crate::disk::{Folder, Kind};
use crate::error::{Error, Result};

/// The text in the lock file before the number of the process.
const HOLDER: &str = "process ";
/// Maximum bytes of the text in the lock file.
const HOLDER_BYTES_MAX: u64 = 32;

/// Acquires the lock, or fails with its holder. `None` if the run that held it has just ended and
/// removed its work directory.
pub(super) fn take_lock(top: &Folder, work: &Folder) -> Result<Option<File>> {
    let path = work.path_of(LOCK);
    let failed = |error| Error::storage(&path, error);
    if let Some(kind @ (Kind::Folder | Kind::Link | Kind::Special)) =
        work.kind(LOCK).map_err(failed)?
    {
        return Err(foreign_file(&path, kind));
    }
    let mut file = match work.file_or_new(LOCK) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    #[cfg(feature = "failpoints")]
    if crate::disk::failpoints::sabotaged("no_lock") {
        return Ok(Some(file));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(locked(top, &file)),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    if !work.names(LOCK, &file).map_err(failed)? || !work.is_named(top, WORK).map_err(failed)? {
        return Ok(None);
    }
    // With a second hard link this may be anybody's file, which must not be overwritten.
    if !file.metadata().is_ok_and(|found| found.is_file() && found.nlink() == 1)
        || holder(&file).is_none()
    {
        return Err(Error::OutputExists(format!(
            "`{}` is not the lock of a run; nothing was removed. Choose another directory",
            path.display()
        )));
    }
    let named = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{HOLDER}{}", std::process::id()));
    named.map_err(failed)?;
    Ok(Some(file))
}

fn locked(top: &Folder, lock: &File) -> Error {
    let holder = holder(lock)
        .filter(|holder| !holder.is_empty())
        .unwrap_or_else(|| "another process".to_owned());
    Error::Locked(format!(
        "`{}` is locked by {holder}; wait for it, or choose another directory",
        top.path().display()
    ))
}

/// Returns the holder that a lock file names, which may be empty at first. `None` if the file
/// contains anything else.
fn holder(lock: &File) -> Option<String> {
    let mut text = String::new();
    lock.take(HOLDER_BYTES_MAX).read_to_string(&mut text).ok()?;
    let is_number = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    (HOLDER.starts_with(&text) || text.strip_prefix(HOLDER).is_some_and(is_number)).then_some(text)
}
