//! The out folder: claimed by one run at a time, swept of what a killed run left, never taken from another run unasked.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::commit::commit_bytes;
use crate::disk::{self, TEMPORARY_PREFIX};
use crate::error::{Error, Result};
use crate::fingerprint::MadeFrom;
use crate::manifest::{self, Manifest};

/// Where a run keeps its spools, its lock and the note of what it is; gone when the run is done.
const WORK: &str = "_work";
const NOTE: &str = "run.json";
/// Folders and files of ours, beside the shards.
const OURS: [&str; 7] = ["text", "tokenizer", "_ledger", "_quarantine", "_ref", "README.md", manifest::FILE];

/// A folder that this run may write to.
#[derive(Debug)]
pub struct OutFolder {
    path: PathBuf,
    /// Held until the run ends; the system lets go of it even after a kill.
    _lock: File,
    /// The note of what this run is: another run would have put its own in its place.
    note: File,
}

/// What claiming a folder found.
#[derive(Debug)]
pub enum Claim {
    /// The very data set is there already.
    Finished(Box<Manifest>),
    /// The folder is ours to fill.
    Free(OutFolder),
}

impl OutFolder {
    /// Claims a folder for a run. `overwrite` gives it up even if another run's data set is in it.
    pub fn claim(path: &Path, made_from: &MadeFrom, overwrite: bool) -> Result<Claim> {
        let is_new = !path.exists();
        disk::make_folder(path).map_err(|error| Error::storage(path, error))?;
        if is_new {
            let above = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
            above.map_or(Ok(()), |above| disk::sync_folder(&above)).map_err(|error| Error::storage(path, error))?;
        }
        let work = path.join(WORK);
        if let Some(manifest) = standing(path, made_from, overwrite)? {
            // A run that was killed behind its last step leaves its work folder, unless it is still about to take it away.
            if work.exists() && lock(path).is_ok() {
                disk::remove(&work).map_err(|error| Error::storage(&work, error))?;
            }
            return Ok(Claim::Finished(Box::new(manifest)));
        }
        disk::make_folder(&work).map_err(|error| Error::storage(&work, error))?;
        let lock = match lock(path) {
            // The run that had it has just ended and taken its work folder away.
            Err(_) if !work.exists() => return OutFolder::claim(path, made_from, overwrite),
            lock => lock?,
        };
        // Another run may have ended between the look and the lock.
        if let Some(manifest) = standing(path, made_from, overwrite)? {
            disk::remove(&work).map_err(|error| Error::storage(&work, error))?;
            return Ok(Claim::Finished(Box::new(manifest)));
        }
        sweep(path)?;
        let text = serde_json::to_vec_pretty(made_from).map_err(|error| Error::Internal(error.to_string()))?;
        let note = work.join(NOTE);
        commit_bytes(&note, &text)?;
        let note = File::open(&note).map_err(|error| Error::storage(&note, error))?;
        Ok(Claim::Free(OutFolder { path: path.to_owned(), _lock: lock, note }))
    }

    /// Where the data set goes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where spools go.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path.join(WORK)
    }

    /// A folder within, made if need be.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path.join(name);
        disk::make_folder(&folder).map_err(|error| Error::storage(&folder, error))?;
        Ok(folder)
    }

    /// Fails if another run has taken the folder, which the lock prevents only where the file system keeps it.
    fn check_still_ours(&self) -> Result<()> {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let (held, there) = (self.note.metadata(), fs::metadata(self.work().join(NOTE)));
        match (held.map(identity), there.map(identity)) {
            (Ok(held), Ok(there)) if held == there => Ok(()),
            _ => Err(Error::Locked(format!("`{}` was taken by another run while this one wrote; wait for that one", self.path.display()))),
        }
    }

    /// Writes the manifest, which makes the folder a data set, and clears the work folder away.
    pub fn finish(self, manifest: &Manifest) -> Result<()> {
        self.check_still_ours()?;
        #[cfg(feature = "failpoints")]
        if crate::failpoints::sabotaged("manifest_first") {
            return Ok(());
        }
        commit_bytes(&self.path.join(manifest::FILE), manifest.print()?.as_bytes())?;
        let work = self.work();
        disk::remove(&work).map_err(|error| Error::storage(&work, error))
    }
}

/// Removes all that an earlier run wrote. The manifest goes first: without it the folder is no data set.
fn sweep(path: &Path) -> Result<()> {
    let mut ours: Vec<PathBuf> = vec![path.join(manifest::FILE)];
    #[cfg(feature = "failpoints")]
    if crate::failpoints::sabotaged("stale_manifest") {
        ours.clear();
    }
    for entry in fs::read_dir(path).map_err(|error| Error::storage(path, error))? {
        let entry = entry.map_err(|error| Error::storage(path, error))?;
        if is_ours(&entry.file_name().to_string_lossy()) {
            ours.push(entry.path());
        }
    }
    for entry in fs::read_dir(path.join(WORK)).into_iter().flatten().flatten() {
        if entry.file_name() != "lock" {
            ours.push(entry.path());
        }
    }
    for path in ours {
        disk::remove(&path).map_err(|error| Error::storage(&path, error))?;
    }
    Ok(())
}

/// The finished data set of this very run, if the folder holds it; an error if it holds anything that must not be swept away.
fn standing(path: &Path, made_from: &MadeFrom, overwrite: bool) -> Result<Option<Manifest>> {
    let manifest = match Manifest::read(path) {
        // What is to be replaced need not be whole.
        Err(Error::Integrity(_)) if overwrite => return Ok(None),
        Err(Error::Integrity(what)) => return Err(Error::Integrity(format!("{what}; make the data set again with --overwrite"))),
        read => read?,
    };
    if let Some(manifest) = manifest {
        if manifest.made_from == *made_from {
            return Ok(Some(manifest));
        }
        refuse_unless(overwrite, path, "holds another run", &made_from.differences(&manifest.made_from))?;
    } else if let Some(note) = read_note(path)? {
        if note != *made_from {
            refuse_unless(overwrite, path, "holds another, unfinished run", &made_from.differences(&note))?;
        }
    } else if let Some(stranger) = stranger(path)? {
        return Err(Error::OtherRun(format!("`{}` is not empty and not ours (it has `{stranger}`); name a new folder", path.display())));
    }
    Ok(None)
}

fn refuse_unless(overwrite: bool, path: &Path, what: &str, differences: &[&str]) -> Result<()> {
    if overwrite {
        return Ok(());
    }
    Err(Error::OtherRun(format!(
        "`{}` {what}; it differs in: {}. Name another folder, or replace it with --overwrite",
        path.display(),
        differences.join(", ")
    )))
}

/// Takes the lock, or says who has it.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(WORK).join("lock");
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(|error| Error::storage(&path, error))?;
    #[cfg(feature = "failpoints")]
    if crate::failpoints::sabotaged("no_lock") {
        return Ok(file);
    }
    match file.try_lock() {
        Ok(()) => {
            let named = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
            named.map_err(|error| Error::storage(&path, error))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
            Err(Error::Locked(format!("`{}` is being written by {holder}; wait for it, or name another folder", folder.display())))
        }
        Err(TryLockError::Error(error)) => Err(Error::storage(&path, error)),
    }
}

fn read_note(folder: &Path) -> Result<Option<MadeFrom>> {
    let path = folder.join(WORK).join(NOTE);
    match fs::read(&path) {
        Ok(note) => serde_json::from_slice(&note).map(Some).map_err(|error| Error::input(&path, error)),
        Err(_) => Ok(None),
    }
}

/// Something in the folder that no run of ours made. Where one was killed while it swept, what it had yet to sweep is ours.
fn stranger(folder: &Path) -> Result<Option<String>> {
    let was_swept = folder.join(WORK).join("lock").exists();
    let entries = fs::read_dir(folder).map_err(|error| Error::storage(folder, error))?;
    let mut names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names.into_iter().find(|name| name != WORK && !(if was_swept { is_ours(name) } else { name.starts_with(TEMPORARY_PREFIX) })))
}

fn is_ours(name: &str) -> bool {
    let is_shard = (name.starts_with("train-") || name.starts_with("test-")) && name.ends_with(".arrow");
    is_shard || name.starts_with(TEMPORARY_PREFIX) || OURS.contains(&name)
}
