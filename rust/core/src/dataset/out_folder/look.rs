//! Inspects an output directory: its contents, and whether they may be removed. Changes no file.

use std::path::Path;

use crate::dataset::fingerprint::MadeFrom;
use crate::dataset::layout::{LOCK, Level, NOTE, Role, WORK};
use crate::dataset::ledger;
use crate::dataset::manifest::{self, Manifest};
use crate::disk::{Folder, Kind, TEMPORARY_PREFIX};
use crate::error::{Error, Result};
use crate::progress::Watch;

/// Maximum size of a run record. They normally have a few hundred bytes.
const NOTE_BYTES_MAX: usize = 64 << 10;

/// The state of a directory that may be claimed.
pub(super) enum Found {
    /// The finished dataset of the same run.
    Finished(Box<Manifest>),
    /// This run may delete the contents.
    Free {
        /// Whether an unfinished run left its record.
        has_note: bool,
    },
}

/// Inspects the directory. Fails if its contents must not be removed. Changes no file.
pub(super) fn look(
    top: &Folder,
    made_from: &MadeFrom,
    overwrite: bool,
    watch: &Watch,
) -> Result<Found> {
    let note = read_note(top)?;
    let manifest = match read_manifest(top)? {
        // A dataset that is replaced may be damaged.
        Earlier::Damaged(_) if overwrite => {
            check_names(top, Level::Top, watch)?;
            return Ok(Found::Free { has_note: note.is_some() });
        }
        Earlier::Damaged(what) => {
            return Err(Error::Integrity(format!("{what}; pass --overwrite to replace it")));
        }
        Earlier::None => None,
        Earlier::Whole(manifest) => Some(*manifest),
    };
    let is_ours = manifest.is_some() || note.is_some();
    let has_note = note.is_some();
    match (manifest, note) {
        (Some(manifest), _) if manifest.made_from == *made_from => {
            if let Some(found) = if_whole(top, manifest, overwrite, watch)? {
                return Ok(found);
            }
        }
        (Some(manifest), _) => {
            refuse_unless(overwrite, top, &made_from.differences(&manifest.made_from))?;
        }
        // An unfinished run, of whatever kind, has no data to protect. Its lock shows if it still
        // runs.
        (None, _) => {}
    }
    let checked =
        if is_ours { check_names(top, Level::Top, watch) } else { check_empty(top, watch) };
    match checked {
        // Another run has just begun: the lock names it.
        Err(Error::OutputExists(_)) if !is_ours && read_note(top)?.is_some() => {}
        checked => checked?,
    }
    Ok(Found::Free { has_note })
}

/// Returns the finished dataset if all its files exist with the right size. Otherwise fails, unless
/// it is to be replaced.
fn if_whole(
    top: &Folder,
    manifest: Manifest,
    overwrite: bool,
    watch: &Watch,
) -> Result<Option<Found>> {
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
        "`{}` is missing or has the wrong size, so the dataset is damaged; rebuild it with --overwrite",
        path.display()
    )))
}

fn refuse_unless(overwrite: bool, top: &Folder, differences: &[&str]) -> Result<()> {
    if overwrite {
        return Ok(());
    }
    Err(Error::OutputExists(format!(
        "`{}` already holds a dataset from a different run (different: {}); choose another \
         directory, or pass --overwrite",
        top.path().display(),
        differences.join(", ")
    )))
}

/// Fails if a known name is not the kind of entry that a run writes there, or if the work directory
/// contains a foreign file.
fn check_names(folder: &Folder, level: Level, watch: &Watch) -> Result<()> {
    let failed = |error| Error::storage(folder.path(), error);
    for entry in folder.entries().map_err(failed)? {
        watch.check()?;
        let (entry, kind) = entry.map_err(failed)?;
        match (entry.to_str().map_or(Role::Strange, |name| level.role(name)), kind) {
            (Role::Folder(within), Kind::Folder) => {
                match folder.folder(&entry.to_string_lossy()) {
                    // A run that ends removes its work directory.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    within_it => check_names(&within_it.map_err(failed)?, within, watch)?,
                }
            }
            (Role::File, Kind::File { .. }) => {}
            (Role::Strange, _) if level != Level::Work => {}
            (_, kind) => return Err(foreign_file(&folder.path_of(&entry), kind)),
        }
    }
    Ok(())
}

/// Fails for a directory that is neither a dataset nor an unfinished run, unless it is empty or
/// contains only the first files of a starting run.
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
        return Err(Error::OutputExists(format!(
            "`{path}` contains files that zephyr-fast did not write (e.g. `{name}`); choose an empty \
             directory"
        )));
    }
    let Some(work) = work_of(top)? else { return Ok(()) };
    for entry in work.entries().map_err(failed)? {
        let (entry, kind) = entry.map_err(failed)?;
        let is_first =
            entry.to_str().is_some_and(|name| name == LOCK || name.starts_with(TEMPORARY_PREFIX));
        if !is_first || !matches!(kind, Kind::File { .. }) {
            return Err(foreign_file(&work.path_of(&entry), kind));
        }
    }
    Ok(())
}

pub(super) fn foreign_file(path: &Path, kind: Kind) -> Error {
    Error::OutputExists(format!(
        "`{}` is {}, which zephyr-fast did not write; nothing was removed. Choose another directory, \
         or move it away",
        path.display(),
        kind.words()
    ))
}

/// The work directory, if there is one.
fn work_of(top: &Folder) -> Result<Option<Folder>> {
    let path = top.path_of(WORK);
    match top.kind(WORK).map_err(|error| Error::storage(&path, error))? {
        None => Ok(None),
        Some(Kind::Folder) => match top.folder(WORK) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            work => work.map(Some).map_err(|error| Error::storage(&path, error)),
        },
        Some(kind) => Err(foreign_file(&path, kind)),
    }
}

/// Reads the record of an unfinished run, if there is one.
fn read_note(top: &Folder) -> Result<Option<MadeFrom>> {
    let Some(work) = work_of(top)? else { return Ok(None) };
    let path = work.path_of(NOTE);
    match work.kind(NOTE).map_err(|error| Error::storage(&path, error))? {
        None => return Ok(None),
        Some(Kind::File { .. }) => {}
        Some(kind) => return Err(foreign_file(&path, kind)),
    }
    let text = match work.read(NOTE, NOTE_BYTES_MAX) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| Error::input(&path, error))?,
    };
    let read = serde_json::from_slice(&text).map(Some);
    read.map_err(|error| {
        Error::OutputExists(format!(
            "`{}` is not a valid run record ({error}); choose another directory",
            path.display()
        ))
    })
}

/// The manifest of an earlier run.
enum Earlier {
    /// The directory has no manifest.
    None,
    /// It is intact.
    Whole(Box<Manifest>),
    /// This program wrote it, but it is invalid for this reason.
    Damaged(String),
}

fn read_manifest(top: &Folder) -> Result<Earlier> {
    let path = top.path_of(manifest::FILE);
    match top.kind(manifest::FILE).map_err(|error| Error::storage(&path, error))? {
        None => return Ok(Earlier::None),
        Some(Kind::File { .. }) => {}
        Some(kind) => return Err(foreign_file(&path, kind)),
    }
    match Manifest::read(top) {
        Err(Error::Integrity(what)) if is_damaged_one_of_ours(top) => Ok(Earlier::Damaged(what)),
        Err(Error::Integrity(what)) => Err(Error::OutputExists(format!(
            "{what}, and zephyr-fast did not write this directory; choose another one"
        ))),
        read => Ok(read?.map_or(Earlier::None, |manifest| Earlier::Whole(Box::new(manifest)))),
    }
}

/// Whether zephyr-fast wrote a damaged manifest. Other programs write a `manifest.json` too, and
/// their directories must not be cleared.
fn is_damaged_one_of_ours(top: &Folder) -> bool {
    let ledger = || top.folder(ledger::FOLDER).and_then(|ledger| ledger.kind(ledger::FILE_NAME));
    let is_signed =
        |text: Vec<u8>| String::from_utf8_lossy(&text).contains("\"engine\": \"zephyr-fast ");
    matches!(ledger(), Ok(Some(Kind::File { .. })))
        || top.read(manifest::FILE, manifest::BYTES_MAX).is_ok_and(is_signed)
}
