//! The output directory: claimed and locked by one run at a time, cleared of the files of a failed
//! run, and never taken from a finished run without `--overwrite`.
//!
//! It belongs to zephyr-fast if it contains a manifest or, in `_work`, a run record. Only entries
//! that `layout.rs` lists are removed. If one of those names is another kind of entry, above all a
//! link, the run fails.

mod lock;
mod look;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::dataset::fingerprint::MadeFrom;
use crate::dataset::layout::{LOCK, Level, NOTE, Role, WORK};
use crate::dataset::manifest::{self, Manifest};
use crate::disk::commit::{Draft, commit_bytes};
use crate::disk::{Folder, Kind};
use crate::error::{Error, Result};
use crate::progress::Watch;
use lock::take_lock;
use look::{Found, look};

/// How often another run may end or be cleared while this one claims the directory.
const TRIES_MAX: usize = 100;

/// A directory that this run may write to.
#[derive(Debug)]
pub struct OutputDir {
    top: Folder,
    work: Folder,
    /// Held until the run ends. The system releases it even if the process is killed.
    _lock: File,
    /// The record of this run. Another run would have replaced it.
    note: File,
}

/// The result of claiming a directory.
#[derive(Debug)]
pub enum Claim {
    /// The same dataset is already there.
    Finished(Box<Manifest>),
    /// The directory, which this run may now write to.
    Free(OutputDir),
}

impl OutputDir {
    /// Claims a directory for a run. With `overwrite`, the dataset of another run in it is deleted.
    pub fn claim(
        path: &Path,
        made_from: &MadeFrom,
        overwrite: bool,
        watch: &Watch,
    ) -> Result<Claim> {
        let top = Folder::open_or_make(path).map_err(|error| Error::storage(path, error))?;
        for _ in 0..TRIES_MAX {
            watch.check()?;
            if let Some(claim) = try_to_claim(&top, made_from, overwrite, watch)? {
                return Ok(claim);
            }
        }
        Err(Error::Locked(format!(
            "other runs keep using `{}`; wait for them, or choose another directory",
            path.display()
        )))
    }

    /// The directory of the dataset.
    #[must_use]
    pub fn top(&self) -> &Folder {
        &self.top
    }

    /// The directory of spool files.
    #[must_use]
    pub fn work(&self) -> &Folder {
        &self.work
    }

    /// Opens a subdirectory, and creates it if missing.
    pub fn folder(&self, name: &str) -> Result<Folder> {
        self.top.make_folder(name).map_err(|error| Error::storage(&self.top.path_of(name), error))
    }

    /// Fails if another run has claimed the directory. The lock prevents this only if the file
    /// system supports locks.
    fn check_still_ours(&self) -> Result<()> {
        let is_ours = self.top.folder(WORK).and_then(|work| work.names(NOTE, &self.note));
        if is_ours.is_ok_and(|is_ours| is_ours) {
            return Ok(());
        }
        let path = self.top.path().display();
        Err(Error::Locked(format!(
            "`{path}` was claimed by another run in the meantime; wait for it to finish"
        )))
    }

    /// Writes the manifest, which completes the dataset, and removes the work directory.
    pub fn finish(self, manifest: &Manifest) -> Result<()> {
        self.check_still_ours()?;
        #[cfg(feature = "failpoints")]
        if crate::disk::failpoints::sabotaged("manifest_first") {
            return Ok(());
        }
        commit_bytes(&self.top, manifest::FILE, manifest.to_json()?.as_bytes())?;
        remove_work(&self.top)
    }
}

/// Tries once. `None` if another run ended meanwhile and removed its work directory.
fn try_to_claim(
    top: &Folder,
    made_from: &MadeFrom,
    overwrite: bool,
    watch: &Watch,
) -> Result<Option<Claim>> {
    let is_finished = |found: &Found| matches!(found, Found::Finished(_));
    let found = look(top, made_from, overwrite, watch)?;
    let has_work =
        top.kind(WORK).map_err(|error| Error::storage(&top.path_of(WORK), error))?.is_some();
    if let (Found::Finished(manifest), false) = (&found, has_work) {
        return Ok(Some(Claim::Finished(manifest.clone())));
    }
    let work = top.make_folder(WORK).map_err(|error| Error::storage(&top.path_of(WORK), error))?;
    let lock = match take_lock(top, &work) {
        // A run that has written its manifest may still be removing its work directory.
        Err(Error::Locked(_)) if is_finished(&found) => return finished(found),
        lock => lock?,
    };
    let Some(lock) = lock else { return Ok(None) };
    // Another run may have ended between the look and the lock.
    match look(top, made_from, overwrite, watch)? {
        found @ Found::Finished(_) => {
            // Left by a run that was killed after it wrote its manifest.
            remove_work(top)?;
            finished(found)
        }
        Found::Free { has_note } => {
            let note = write_note(&work, made_from, has_note)?;
            top.sync().map_err(|error| Error::storage(top.path(), error))?;
            sweep(top, watch)?;
            Ok(Some(Claim::Free(OutputDir { top: top.clone(), work, _lock: lock, note })))
        }
    }
}

fn finished(found: Found) -> Result<Option<Claim>> {
    match found {
        Found::Finished(manifest) => Ok(Some(Claim::Finished(manifest))),
        Found::Free { .. } => Ok(None),
    }
}

fn remove_work(top: &Folder) -> Result<()> {
    let is_ours = |name: &str| Level::Work.role(name) == Role::File;
    // The record and the lock go last, so a directory in which a run was killed here is still
    // recognized.
    top.remove_flat(WORK, &[NOTE, LOCK], is_ours)
        .map_err(|error| Error::storage(&top.path_of(WORK), error))
}

/// Writes the record of this run before any file of an earlier one is removed, so a removal that is
/// killed half-way can continue.
fn write_note(work: &Folder, made_from: &MadeFrom, replaces: bool) -> Result<File> {
    let text =
        serde_json::to_vec_pretty(made_from).map_err(|error| Error::Internal(error.to_string()))?;
    let failed = |error| Error::storage(&work.path_of(NOTE), error);
    let mut draft = Draft::create(work, NOTE)?;
    draft.write_all(&text).map_err(failed)?;
    if replaces {
        draft.replace()?
    } else {
        draft.commit()?
    };
    work.file(NOTE).map_err(failed)
}

/// Removes all files of an earlier run. The manifest goes first: without it the directory is not a
/// dataset.
fn sweep(top: &Folder, watch: &Watch) -> Result<()> {
    let remove_manifest = || {
        top.remove(manifest::FILE)
            .map_err(|error| Error::storage(&top.path_of(manifest::FILE), error))
    };
    #[cfg(feature = "failpoints")]
    if crate::disk::failpoints::sabotaged("stale_manifest") {
        sweep_level(top, Level::Top, watch)?;
        return remove_manifest();
    }
    remove_manifest()?;
    sweep_level(top, Level::Top, watch)
}

/// Removes the files of a run at a level and below. After a removal it lists the directory again,
/// since systems may skip entries then.
fn sweep_level(folder: &Folder, level: Level, watch: &Watch) -> Result<()> {
    let failed = |error| Error::storage(folder.path(), error);
    loop {
        let mut is_clean = true;
        for entry in folder.entries().map_err(failed)? {
            watch.check()?;
            let (name, kind) = entry.map_err(failed)?;
            let Some(name) = name.to_str() else { continue };
            let failed = |error| Error::storage(&folder.path_of(name), error);
            match (level.role(name), kind) {
                (Role::File, Kind::File { .. }) if !stays(level, name) => {
                    folder.remove(name).map_err(failed)?;
                    is_clean = false;
                }
                (Role::Folder(within), Kind::Folder) => {
                    sweep_level(&folder.folder(name).map_err(failed)?, within, watch)?;
                    if within != Level::Work {
                        folder.remove_if_empty(name).map_err(failed)?;
                    }
                }
                _ => {}
            }
        }
        if is_clean {
            return Ok(());
        }
    }
}

/// Entries that are not removed here: this run's lock and record, and the manifest, which `sweep`
/// removes.
fn stays(level: Level, name: &str) -> bool {
    match level {
        Level::Work => name == LOCK || name == NOTE,
        Level::Top => name == manifest::FILE,
        _ => false,
    }
}
