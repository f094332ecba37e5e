//! Verifies an output directory: checks every byte of the files that the manifest lists, checks
//! that the counts in the manifest agree, and finds files that it does not list.
//!
//! The directory is untrusted. No link in it is followed. Only regular files are opened, and none
//! is read past the size in the manifest. Only directories that a run writes are searched. If there
//! are very many problems, the rest are only counted.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use crate::dataset::layout::{self, Level, Role};
use crate::dataset::manifest::{self, BatchEntry, Manifest};
use crate::dataset::sidecar;
use crate::disk::{Folder, IS_LINK, Kind, TEMPORARY_PREFIX};
use crate::error::{Error, Result};
use crate::normal::hex;
use crate::progress::Watch;

const BLOCK_BYTES: usize = 1 << 20;
/// Maximum number of problems that a report lists.
const PROBLEMS_MAX: usize = 1_000;
/// The advice for a directory of links, such as the cache of the Hugging Face Hub.
const RESOLVE: &str = "copy the dataset with links resolved (`cp -rL`) and verify the copy";

/// The number of verified files, bytes and batches, and the problems.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Number of files that the manifests list.
    pub files: u64,
    /// Size of these files in bytes.
    pub bytes: u64,
    /// Number of batches in shards.
    pub batches: u64,
    /// Everything that differs from the manifest. Empty if the dataset is intact.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Returns the report as one line of JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

/// A difference from the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file's path in the directory.
    pub file: String,
    /// The batch of the shard, from 0.
    pub batch: Option<usize>,
    /// Offset of the batch in the file.
    pub offset: Option<u64>,
    /// What is wrong, in a sentence.
    pub message: String,
}

impl Problem {
    /// A problem that concerns an entire file.
    pub(crate) fn of(file: &str, message: impl Into<String>) -> Problem {
        Problem { file: file.to_owned(), batch: None, offset: None, message: message.into() }
    }
}

/// A file that must exist.
pub(crate) struct ExpectedFile {
    pub(crate) file: String,
    /// Its size, if the manifest records it.
    pub(crate) bytes: Option<u64>,
    pub(crate) sha256: String,
    pub(crate) batches: Vec<BatchEntry>,
}

/// Verifies a directory. Reads all of it, a few megabytes at a time, and writes nothing.
pub fn verify(folder: &Path, watch: &Watch) -> Result<Report> {
    let not_a_dataset =
        |why: &str| Error::Input(format!("`{}` is not a dataset: {why}", folder.display()));
    let no_manifest = || {
        not_a_dataset(
            "it has no `manifest.json`; if the run did not finish, run the same command again",
        )
    };
    let top = match Folder::open(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(not_a_dataset("no such directory; check the path"));
        }
        top => top.map_err(|error| Error::input(folder, error))?,
    };
    let manifest = read_manifest(&top)?.ok_or_else(no_manifest)?;
    let mut damage: Vec<Problem> = manifest
        .inconsistencies()?
        .into_iter()
        .map(|what| Problem::of(manifest::FILE, what))
        .collect();
    let mut expected = of_manifest(&manifest);
    expected.extend(sidecar::expected_files(&top, &manifest, watch, &mut damage)?);
    let expected = of_one_name_each(expected, &mut damage);
    let (unlisted, more) = unlisted_files(&top, &expected, watch)?;

    let checked =
        expected.par_iter().map(|file| check(&top, file, watch)).collect::<Result<Vec<_>>>()?;
    damage.extend(checked.iter().flat_map(|(_, found)| found.iter().cloned()));
    // These come last, because a damaged file is worse than an unlisted one.
    damage.extend(unlisted);
    Ok(Report {
        files: expected.len() as u64,
        bytes: checked.iter().map(|(bytes, _)| bytes).sum(),
        batches: expected.iter().map(|file| file.batches.len() as u64).sum(),
        problems: cut(damage, more),
    })
}

fn read_manifest(top: &Folder) -> Result<Option<Manifest>> {
    if top
        .kind(manifest::FILE)
        .map_err(|error| Error::input(&top.path_of(manifest::FILE), error))?
        == Some(Kind::Link)
    {
        return Err(Error::Integrity(format!(
            "`{}`: {IS_LINK}; {RESOLVE}",
            top.path_of(manifest::FILE).display()
        )));
    }
    Manifest::read(top)
}

/// Reports files that are listed twice as problems, and keeps each of them once.
fn of_one_name_each(expected: Vec<ExpectedFile>, damage: &mut Vec<Problem>) -> Vec<ExpectedFile> {
    let mut names = BTreeSet::new();
    let mut once = |file: &ExpectedFile| {
        let is_new = names.insert(file.file.clone());
        if !is_new {
            damage.push(Problem::of(&file.file, "listed twice"));
        }
        is_new
    };
    expected.into_iter().filter(|file| once(file)).collect()
}

/// The first problems and the number of the others, including the `more` that were only counted.
fn cut(mut damage: Vec<Problem>, more: usize) -> Vec<Problem> {
    let more = more + damage.len().saturating_sub(PROBLEMS_MAX);
    damage.truncate(PROBLEMS_MAX);
    if more > 0 {
        damage
            .push(Problem::of(".", format!("{more} more files are damaged, missing or unlisted")));
    }
    damage
}

fn of_manifest(manifest: &Manifest) -> Vec<ExpectedFile> {
    let plain = |file: &str, bytes: u64, sha256: &str| ExpectedFile {
        file: file.to_owned(),
        bytes: Some(bytes),
        sha256: sha256.to_owned(),
        batches: Vec::new(),
    };
    let mut expected: Vec<ExpectedFile> =
        manifest.files.iter().map(|card| plain(&card.file, card.bytes, &card.sha256)).collect();
    for split in manifest.splits.values() {
        expected.extend(split.text.iter().map(|card| plain(&card.file, card.bytes, &card.sha256)));
        expected.extend(split.shards.iter().map(|card| ExpectedFile {
            batches: card.batches.clone(),
            ..plain(&card.file, card.bytes, &card.sha256)
        }));
    }
    expected
}

/// The first unlisted files and the number of the others. Names that start with a dot are ignored,
/// because tools such as git use them, except for drafts of this program.
fn unlisted_files(
    top: &Folder,
    expected: &[ExpectedFile],
    watch: &Watch,
) -> Result<(Vec<Problem>, usize)> {
    let named = expected.iter().map(|file| file.file.as_str()).chain([manifest::FILE]).collect();
    let mut strays = UnlistedFiles { named, watch, found: BTreeMap::new(), more: 0 };
    strays.search(top, Level::Top, "")?;
    Ok((strays.found.into_values().collect(), strays.more))
}

/// The search for unlisted files: the first of them by name, and the number of the others.
struct UnlistedFiles<'run> {
    named: BTreeSet<&'run str>,
    watch: &'run Watch,
    found: BTreeMap<String, Problem>,
    more: usize,
}

impl UnlistedFiles<'_> {
    /// Searches a directory that a run writes, and its subdirectories that a run writes, at most
    /// three levels in total.
    fn search(&mut self, folder: &Folder, level: Level, within: &str) -> Result<()> {
        let failed = |error| Error::input(folder.path(), error);
        for entry in folder.entries().map_err(failed)? {
            self.watch.check()?;
            let (entry, kind) = entry.map_err(failed)?;
            let name = entry.to_string_lossy();
            let file = format!("{within}{name}");
            if is_someone_elses(&entry) || self.named.contains(file.as_str()) {
                continue;
            }
            match (kind, level.role(&name)) {
                (Kind::Folder, Role::Folder(level)) => {
                    let below = folder
                        .folder(&name)
                        .map_err(|error| Error::input(&folder.path_of(&entry), error))?;
                    if level != Level::Key || sidecar::is_finished(&below) {
                        self.search(&below, level, &format!("{file}/"))?;
                    }
                }
                (kind, _) => self.add(file, kind),
            }
        }
        Ok(())
    }

    fn add(&mut self, file: String, kind: Kind) {
        let what = match kind {
            Kind::File { .. } => {
                "not listed in the manifest; delete it if it does not belong here".to_owned()
            }
            Kind::Folder => {
                "a directory that zephyr-fast does not write; delete it if it does not belong here"
                    .to_owned()
            }
            Kind::Link => format!("{IS_LINK}; {RESOLVE}"),
            Kind::Special => "neither a file nor a directory; delete it".to_owned(),
        };
        let stray = Problem::of(&file, what);
        self.found.insert(file, stray);
        if self.found.len() > PROBLEMS_MAX {
            self.found.pop_last();
            self.more += 1;
        }
    }
}

fn is_someone_elses(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && !name.starts_with(TEMPORARY_PREFIX.as_bytes())
}

/// Reads one file once. Returns its size and its problems.
fn check(top: &Folder, expected: &ExpectedFile, watch: &Watch) -> Result<(u64, Vec<Problem>)> {
    watch.check()?;
    if !layout::is_file_of_data_set(&expected.file) {
        return Ok((
            0,
            vec![Problem::of(&expected.file, "the manifest lists a path outside the dataset")],
        ));
    }
    let unreadable = |error: std::io::Error| {
        let way_out = if error.to_string().starts_with(IS_LINK) {
            format!("; {RESOLVE}")
        } else {
            String::new()
        };
        vec![Problem::of(&expected.file, format!("cannot be read: {error}{way_out}"))]
    };
    let mut file = match open(top, &expected.file) {
        Ok((file, length)) => Hashing {
            file,
            length,
            sha256: Sha256::new(),
            block: vec![0; BLOCK_BYTES],
            at: 0,
            watch,
        },
        Err(error) => return Ok((0, unreadable(error))),
    };
    match file.read_all(expected) {
        Ok(damage) => Ok((file.at, damage)),
        Err(_) if watch.check().is_err() => Err(Error::Interrupted),
        Err(error) => Ok((file.at, unreadable(error))),
    }
}

/// Opens a file without following any link in its path. Also returns its length.
fn open(folder: &Folder, path: &str) -> std::io::Result<(File, u64)> {
    if let Some((name, within)) = path.split_once('/') {
        return open(&folder.folder(name)?, within);
    }
    let file = folder.file(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// A file that is hashed while it is read.
struct Hashing<'run> {
    file: File,
    /// Its length when it was opened.
    length: u64,
    sha256: Sha256,
    block: Vec<u8>,
    at: u64,
    watch: &'run Watch,
}

impl Hashing<'_> {
    fn read_all(&mut self, expected: &ExpectedFile) -> std::io::Result<Vec<Problem>> {
        let mut damage = Vec::new();
        // Reading one byte more than expected shows that a file is too long. It may be endless.
        let end = expected.bytes.unwrap_or(self.length).saturating_add(1);
        for (number, batch) in expected.batches.iter().enumerate() {
            let mut xxh3 = Xxh3::new();
            self.pass(batch.offset.min(end), &mut Xxh3::new())?;
            let is_in_place = self.at == batch.offset;
            self.pass(batch.offset.saturating_add(batch.bytes).min(end), &mut xxh3)?;
            if !is_in_place || format!("{:016x}", xxh3.digest()) != batch.xxh3 {
                let message = format!("checksum mismatch ({} bytes)", batch.bytes);
                damage.push(Problem {
                    file: expected.file.clone(),
                    batch: Some(number),
                    offset: Some(batch.offset),
                    message,
                });
            }
        }
        self.pass(end, &mut Xxh3::new())?;
        #[cfg(feature = "failpoints")]
        if crate::disk::failpoints::sabotaged("no_digests") {
            return Ok(Vec::new());
        }
        let sha256 = hex(&std::mem::take(&mut self.sha256).finalize());
        if expected.bytes.is_some_and(|bytes| bytes != self.at) {
            let (length, bytes) = (self.length.max(self.at), expected.bytes.unwrap_or_default());
            damage.push(Problem::of(
                &expected.file,
                format!("size is {length} bytes, expected {bytes}"),
            ));
        } else if sha256 != expected.sha256 && damage.is_empty() {
            damage.push(Problem::of(
                &expected.file,
                format!("SHA-256 is {sha256}, expected {}", expected.sha256),
            ));
        }
        Ok(damage)
    }

    /// Reads up to an offset in the file, or to its end.
    fn pass(&mut self, to: u64, xxh3: &mut Xxh3) -> std::io::Result<()> {
        while self.at < to {
            self.watch.check().map_err(std::io::Error::other)?;
            let room = (to - self.at).min(BLOCK_BYTES as u64) as usize;
            let read = self.file.read(&mut self.block[..room])?;
            if read == 0 {
                return Ok(());
            }
            self.sha256.update(&self.block[..read]);
            xxh3.update(&self.block[..read]);
            self.at += read as u64;
        }
        Ok(())
    }
}
