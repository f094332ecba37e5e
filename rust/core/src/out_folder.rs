//! The out folder: claimed by one run at a time, swept of what a killed run left, never taken from another run unasked.
//!
//! It counts as ours where it holds a manifest or, in `_work`, the note of a run. Then what is swept is what `layout.rs` names, no more:
//! anything else stays, and whatever has one of those names without being what a run writes, a link above all, makes the run refuse.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::commit::{Draft, commit_bytes};
use crate::disk::{Folder, Kind};
use crate::error::{Error, Result};
use crate::fingerprint::MadeFrom;
use crate::layout::{LOCK, Level, NOTE, Role, WORK};
use crate::ledger;
use crate::manifest::{self, Manifest};
use crate::watch::Watch;

/// Bytes that the note of a run may have; it has some hundreds.
const NOTE_BYTES_MAX: usize = 64 << 10;
/// What the lock says of its holder, before the number of the process.
const HOLDER: &str = "process ";
/// Bytes that this takes at most.
const HOLDER_BYTES_MAX: u64 = 32;
/// Times that another run may end, or be swept, just while this one claims the folder.
const TRIES_MAX: usize = 100;

/// A folder that this run may write to.
#[derive(Debug)]
pub struct OutFolder {
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
    Free(OutFolder),
}

/// What a folder holds that may be claimed.
enum Found {
    /// The finished data set of this very run.
    Finished(Box<Manifest>),
    /// Whatever there is, this run may take its place.
    Free {
        /// Whether an unfinished run left its note.
        has_note: bool,
    },
}

impl OutFolder {
    /// Claims a folder for a run. `overwrite` gives it up even if another run's data set is in it.
    pub fn claim(path: &Path, made_from: &MadeFrom, overwrite: bool, watch: &Watch) -> Result<Claim> {
        let top = Folder::open_or_make(path).map_err(|error| Error::storage(path, error))?;
        for _ in 0..TRIES_MAX {
            watch.check()?;
            if let Some(claim) = try_to_claim(&top, made_from, overwrite, watch)? {
                return Ok(claim);
            }
        }
        Err(Error::Locked(format!("other runs come and go in `{}`; wait for them, or name another folder", path.display())))
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

    /// Fails if another run has taken the folder, which the lock prevents only where the file system keeps it.
    fn check_still_ours(&self) -> Result<()> {
        let is_ours = self.top.folder(WORK).and_then(|work| work.names(NOTE, &self.note));
        if is_ours.is_ok_and(|is_ours| is_ours) {
            return Ok(());
        }
        let path = self.top.path().display();
        Err(Error::Locked(format!("`{path}` was taken by another run while this one wrote; wait for that one")))
    }

    /// Writes the manifest, which makes the folder a data set, and clears the work folder away.
    pub fn finish(self, manifest: &Manifest) -> Result<()> {
        self.check_still_ours()?;
        #[cfg(feature = "failpoints")]
        if crate::failpoints::sabotaged("manifest_first") {
            return Ok(());
        }
        commit_bytes(&self.top, manifest::FILE, manifest.print()?.as_bytes())?;
        remove_work(&self.top)
    }
}

/// One try; `None` where another run ended meanwhile and took its work folder away.
fn try_to_claim(top: &Folder, made_from: &MadeFrom, overwrite: bool, watch: &Watch) -> Result<Option<Claim>> {
    let is_finished = |found: &Found| matches!(found, Found::Finished(_));
    let found = look(top, made_from, overwrite, watch)?;
    let has_work = top.kind(WORK).map_err(|error| Error::storage(&top.path_of(WORK), error))?.is_some();
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
            Ok(Some(Claim::Free(OutFolder { top: top.clone(), work, _lock: lock, note })))
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
    // The note and the lock last: what is left of a folder in which a run was killed just here is still known for ours.
    top.remove_flat(WORK, &[NOTE, LOCK], is_ours).map_err(|error| Error::storage(&top.path_of(WORK), error))
}

/// Puts down what this run is, before anything of an earlier one is swept: so that sweeping, killed half-way, can go on.
fn write_note(work: &Folder, made_from: &MadeFrom, replaces: bool) -> Result<File> {
    let text = serde_json::to_vec_pretty(made_from).map_err(|error| Error::Internal(error.to_string()))?;
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

/// Removes all that an earlier run wrote. The manifest goes first: without it the folder is no data set.
fn sweep(top: &Folder, watch: &Watch) -> Result<()> {
    let remove_manifest = || top.remove(manifest::FILE).map_err(|error| Error::storage(&top.path_of(manifest::FILE), error));
    #[cfg(feature = "failpoints")]
    if crate::failpoints::sabotaged("stale_manifest") {
        sweep_level(top, Level::Top, watch)?;
        return remove_manifest();
    }
    remove_manifest()?;
    sweep_level(top, Level::Top, watch)
}

/// Removes what a run wrote at a level and below. Where names went, it looks again: a system may pass over others then.
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

/// What the folder holds; an error if that must not be swept away. Changes nothing.
fn look(top: &Folder, made_from: &MadeFrom, overwrite: bool, watch: &Watch) -> Result<Found> {
    let note = read_note(top)?;
    let manifest = match read_manifest(top)? {
        // What is to be replaced need not be whole.
        Err(_) if overwrite => {
            check_names(top, Level::Top, watch)?;
            return Ok(Found::Free { has_note: note.is_some() });
        }
        Err(what) => return Err(Error::Integrity(format!("{what}; make the data set again with --overwrite"))),
        Ok(manifest) => manifest,
    };
    let is_ours = manifest.is_some() || note.is_some();
    let has_note = note.is_some();
    match (manifest, note) {
        (Some(manifest), _) if manifest.made_from == *made_from => {
            if let Some(found) = if_whole(top, manifest, overwrite, watch)? {
                return Ok(found);
            }
        }
        (Some(manifest), _) => refuse_unless(overwrite, top, "holds another run", &made_from.differences(&manifest.made_from))?,
        (None, Some(note)) if note != *made_from => {
            refuse_unless(overwrite, top, "holds another, unfinished run", &made_from.differences(&note))?;
        }
        (None, _) => {}
    }
    if is_ours {
        check_names(top, Level::Top, watch)?
    } else {
        check_empty(top, watch)?
    }
    Ok(Found::Free { has_note })
}

/// The finished data set, if each of its files is there in its size; otherwise an error, unless it is to be made again.
fn if_whole(top: &Folder, manifest: Manifest, overwrite: bool, watch: &Watch) -> Result<Option<Found>> {
    let Some(file) = manifest.missing(top) else {
        if let Some(work) = work_of(top)? {
            check_names(&work, Level::Work, watch)?;
        }
        return Ok(Some(Found::Finished(Box::new(manifest))));
    };
    if overwrite {
        return Ok(None);
    }
    let path = top.path_of(file);
    Err(Error::Integrity(format!(
        "`{}` is missing or is not the file that was written, though the data set was finished; make it again with --overwrite",
        path.display()
    )))
}

fn refuse_unless(overwrite: bool, top: &Folder, what: &str, differences: &[&str]) -> Result<()> {
    if overwrite {
        return Ok(());
    }
    Err(Error::OtherRun(format!(
        "`{}` {what}; it differs in: {}. Name another folder, or replace it with --overwrite",
        top.path().display(),
        differences.join(", ")
    )))
}

/// Refuses a folder in which a name of ours is not what a run writes there, or whose work folder holds anything else.
fn check_names(folder: &Folder, level: Level, watch: &Watch) -> Result<()> {
    let failed = |error| Error::storage(folder.path(), error);
    for entry in folder.entries().map_err(failed)? {
        watch.check()?;
        let (entry, kind) = entry.map_err(failed)?;
        match (entry.to_str().map_or(Role::Strange, |name| level.role(name)), kind) {
            (Role::Folder(within), Kind::Folder) => {
                let within_it = folder.folder(&entry.to_string_lossy()).map_err(failed)?;
                check_names(&within_it, within, watch)?;
            }
            (Role::File, Kind::File { .. }) => {}
            (Role::Strange, _) if level != Level::Work => {}
            (_, kind) => return Err(stranger(&folder.path_of(&entry), kind)),
        }
    }
    Ok(())
}

/// Refuses a folder that is neither a data set nor an unfinished run, unless nothing is in it but what a run makes first.
fn check_empty(top: &Folder, watch: &Watch) -> Result<()> {
    let failed = |error| Error::storage(top.path(), error);
    let mut first = None;
    for entry in top.entries().map_err(failed)? {
        watch.check()?;
        let (entry, _) = entry.map_err(failed)?;
        let name = entry.to_string_lossy().into_owned();
        if entry != WORK && first.as_ref().is_none_or(|first| name < *first) {
            first = Some(name);
        }
    }
    if let Some(name) = first {
        let path = top.path().display();
        return Err(Error::OtherRun(format!("`{path}` is not empty and not ours (it has `{name}`); name a new folder")));
    }
    let Some(work) = work_of(top)? else { return Ok(()) };
    for entry in work.entries().map_err(failed)? {
        let (entry, kind) = entry.map_err(failed)?;
        let is_first = entry.to_str().is_some_and(|name| name == LOCK || name.starts_with(crate::disk::TEMPORARY_PREFIX));
        if !is_first || !matches!(kind, Kind::File { .. }) {
            return Err(stranger(&work.path_of(&entry), kind));
        }
    }
    Ok(())
}

fn stranger(path: &Path, kind: Kind) -> Error {
    Error::OtherRun(format!(
        "`{}` is {}, which no run put there; nothing was removed. Name a new folder, or move it away",
        path.display(),
        kind.words()
    ))
}

/// The work folder, if there is one.
fn work_of(top: &Folder) -> Result<Option<Folder>> {
    let path = top.path_of(WORK);
    match top.kind(WORK).map_err(|error| Error::storage(&path, error))? {
        None => Ok(None),
        Some(Kind::Folder) => match top.folder(WORK) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            work => work.map(Some).map_err(|error| Error::storage(&path, error)),
        },
        Some(kind) => Err(stranger(&path, kind)),
    }
}

/// The note of an unfinished run, if there is one.
fn read_note(top: &Folder) -> Result<Option<MadeFrom>> {
    let Some(work) = work_of(top)? else { return Ok(None) };
    let path = work.path_of(NOTE);
    match work.kind(NOTE).map_err(|error| Error::storage(&path, error))? {
        None => return Ok(None),
        Some(Kind::File { .. }) => {}
        Some(kind) => return Err(stranger(&path, kind)),
    }
    let text = match work.read(NOTE, NOTE_BYTES_MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| Error::input(&path, error))?,
    };
    let read = serde_json::from_slice(&text).map(Some);
    read.map_err(|error| Error::OtherRun(format!("`{}` is not the note of a run ({error}); name a new folder", path.display())))
}

/// The manifest, if there is one; or what is wrong with it, where it is one of ours all the same.
fn read_manifest(top: &Folder) -> Result<std::result::Result<Option<Manifest>, String>> {
    let path = top.path_of(manifest::FILE);
    match top.kind(manifest::FILE).map_err(|error| Error::storage(&path, error))? {
        None => return Ok(Ok(None)),
        Some(Kind::File { .. }) => {}
        Some(kind) => return Err(stranger(&path, kind)),
    }
    match Manifest::read(top) {
        Err(Error::Integrity(what)) if is_damaged_one_of_ours(top) => Ok(Err(what)),
        Err(Error::Integrity(what)) => Err(Error::OtherRun(format!("{what}, and the folder is not ours; name a new folder"))),
        read => read.map(Ok),
    }
}

/// Whether a manifest that is damaged was ours: other programs have a `manifest.json` too, and their folders are not to be swept.
fn is_damaged_one_of_ours(top: &Folder) -> bool {
    let ledger = || top.folder(ledger::FOLDER).and_then(|ledger| ledger.kind(ledger::FILE_NAME));
    let is_signed = |text: Vec<u8>| String::from_utf8_lossy(&text).contains("\"engine\": \"zephyr-fast ");
    matches!(ledger(), Ok(Some(Kind::File { .. }))) || top.read(manifest::FILE, manifest::BYTES_MAX).is_ok_and(is_signed)
}

/// Takes the lock, or says who has it; `None` where the run that had it has just ended and taken its work folder away.
fn take_lock(top: &Folder, work: &Folder) -> Result<Option<File>> {
    let path = work.path_of(LOCK);
    let failed = |error| Error::storage(&path, error);
    if let Some(kind @ (Kind::Folder | Kind::Link | Kind::Special)) = work.kind(LOCK).map_err(failed)? {
        return Err(stranger(&path, kind));
    }
    let mut file = match work.file_or_new(LOCK) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    #[cfg(feature = "failpoints")]
    if crate::failpoints::sabotaged("no_lock") {
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
    // Under a second name this may be anybody's file, which is not to be written over.
    if !file.metadata().is_ok_and(|found| found.is_file() && found.nlink() == 1) || holder(&file).is_none() {
        return Err(Error::OtherRun(format!("`{}` is not the lock of a run; nothing was removed. Name a new folder", path.display())));
    }
    let named = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{HOLDER}{}", std::process::id()));
    named.map_err(failed)?;
    Ok(Some(file))
}

fn locked(top: &Folder, lock: &File) -> Error {
    let holder = holder(lock).filter(|holder| !holder.is_empty()).unwrap_or_else(|| "another process".to_owned());
    Error::Locked(format!("`{}` is being written by {holder}; wait for it, or name another folder", top.path().display()))
}

/// What a lock says of its holder, which may be nothing yet; `None` if it holds anything else.
fn holder(lock: &File) -> Option<String> {
    let mut text = String::new();
    lock.take(HOLDER_BYTES_MAX).read_to_string(&mut text).ok()?;
    let is_number = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    (HOLDER.starts_with(&text) || text.strip_prefix(HOLDER).is_some_and(is_number)).then_some(text)
}
