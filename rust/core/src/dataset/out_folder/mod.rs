//! The out folder: claimed by one run at a time, swept of what a killed run left, never taken from
//! another run unasked.
//!
//! It counts as ours where it holds a manifest or, in `_work`, the note of a run. Then what is
//! swept is what `layout.rs` names, no more: anything else stays, and whatever has one of those
//! names without being what a run writes, a link above all, makes the run refuse.

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

/// Times that another run may end, or be swept, just while this one claims the folder.
const TRIES_MAX: usize = 100;

/// A folder that this run may write to.
#[derive(Debug)]
pub struct OutputDir {
    top: Folder,
    work: Folder,
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
    Free(OutputDir),
}

impl OutputDir {
    /// Claims a folder for a run. `overwrite` gives it up even if another run's data set is in it.
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

    /// The folder itself, where the data set goes.
    #[must_use]
    pub fn top(&self) -> &Folder {
        &self.top
    }

    /// Where spools go.
    #[must_use]
    pub fn work(&self) -> &Folder {
        &self.work
    }

    /// A folder within, made if need be.
    pub fn folder(&self, name: &str) -> Result<Folder> {
        self.top.make_folder(name).map_err(|error| Error::storage(&self.top.path_of(name), error))
    }

    /// Fails if another run has taken the folder, which the lock prevents only where the file
    /// system keeps it.
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

    /// Writes the manifest, which makes the folder a data set, and clears the work folder away.
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

/// One try; `None` where another run ended meanwhile and took its work folder away.
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
        // A run that is behind its last step is still about to take its work folder away.
        Err(Error::Locked(_)) if is_finished(&found) => return finished(found),
        lock => lock?,
    };
    let Some(lock) = lock else { return Ok(None) };
    // Another run may have ended between the look and the lock.
    match look(top, made_from, overwrite, watch)? {
        found @ Found::Finished(_) => {
            // What a run left that was killed behind its last step.
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
    // The note and the lock last: what is left of a folder in which a run was killed just here is
    // still known for ours.
    top.remove_flat(WORK, &[NOTE, LOCK], is_ours)
        .map_err(|error| Error::storage(&top.path_of(WORK), error))
}

/// Puts down what this run is, before anything of an earlier one is swept: so that sweeping, killed
/// half-way, can go on.
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

/// Removes all that an earlier run wrote. The manifest goes first: without it the folder is no data
/// set.
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

/// Removes what a run wrote at a level and below. Where names went, it looks again: a system may
/// pass over others then.
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

/// What sweeping leaves: this run's own lock and note, and the manifest, whose turn is another.
fn stays(level: Level, name: &str) -> bool {
    match level {
        Level::Work => name == LOCK || name == NOTE,
        Level::Top => name == manifest::FILE,
        _ => false,
    }
}
