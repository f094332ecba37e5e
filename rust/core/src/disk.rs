//! All that the engine does to a disk. Each call that writes is a step, which tests of faults may count, fail or die at; reading opens
//! regular files alone.

use std::fs::{self, File, Permissions};
use std::io::{Error, Read, Result, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

#[cfg(feature = "failpoints")]
use crate::failpoints::{room, sabotaged, step};

/// The start of every temporary name, so that the next run can sweep what a killed one left.
pub(crate) const TEMPORARY_PREFIX: &str = ".zephyr-draft-";

#[cfg(not(feature = "failpoints"))]
fn step(_: &str, _: &Path) -> Result<()> {
    Ok(())
}

#[cfg(not(feature = "failpoints"))]
fn room(bytes: usize) -> Result<usize> {
    Ok(bytes)
}

/// Opens a file to read, links followed. What is no regular file is refused at once: a FIFO would hang, a device may never end.
pub(crate) fn open(path: &Path) -> Result<File> {
    // Without this flag, opening a FIFO waits for its writer. For a regular file it changes nothing.
    let file = File::options().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(path)?;
    let kind = file.metadata()?;
    if kind.is_file() {
        return Ok(file);
    }
    Err(Error::other(if kind.is_dir() { "it is a folder, not a file" } else { "it is not a regular file" }))
}

/// Reads a small file whole, links followed; one that is longer than `bytes_max` is refused, however much there is of it.
pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Makes a folder, and those above it, unless it is there.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    step("make_folder", path)?;
    fs::create_dir_all(path)
}

/// Makes a file that is not there yet, under its own name.
pub(crate) fn create(path: &Path) -> Result<Stepped<File>> {
    step("create", path)?;
    File::options().read(true).write(true).create_new(true).open(path).map(Stepped)
}

/// Makes a file under a temporary name next to `target`; dropped, it is gone.
pub(crate) fn draft(target: &Path) -> Result<Stepped<NamedTempFile>> {
    step("create", target)?;
    let folder = target.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Temporary files are private; data sets are read by other accounts too, as far as the umask lets them.
    builder.prefix(TEMPORARY_PREFIX).permissions(Permissions::from_mode(0o666));
    #[cfg(feature = "failpoints")]
    let name = target.file_name().unwrap_or_default().to_owned();
    #[cfg(feature = "failpoints")]
    if sabotaged("in_place") {
        builder.prefix(&name).rand_bytes(0).disable_cleanup(true);
    } else if sabotaged("leave_drafts") {
        builder.disable_cleanup(true);
    }
    builder.tempfile_in(folder).map(Stepped)
}

/// Waits until a file's bytes are on disk.
pub(crate) fn sync(file: &NamedTempFile) -> Result<()> {
    #[cfg(feature = "failpoints")]
    if sabotaged("no_sync") {
        return Ok(());
    }
    step("sync", file.path())?;
    file.as_file().sync_all()
}

/// Gives a draft its name, which nothing may have.
pub(crate) fn rename(file: NamedTempFile, target: &Path) -> Result<()> {
    step("rename", target)?;
    #[cfg(feature = "failpoints")]
    if sabotaged("in_place") {
        return Ok(());
    } else if sabotaged("replace") {
        return file.persist(target).map(drop).map_err(|error| error.error);
    }
    file.persist_noclobber(target).map(drop).map_err(|error| error.error)
}

/// Waits until the names in a folder are on disk: a rename is not, before that.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    step("sync_folder", folder)?;
    File::open(folder)?.sync_all()
}

/// Removes a file, or a folder with all that is in it; nothing is there, nothing is done.
pub(crate) fn remove(path: &Path) -> Result<()> {
    step("remove", path)?;
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
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
