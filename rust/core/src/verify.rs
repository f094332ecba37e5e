//! Verifies an out folder: every file that the manifest names byte by byte, its own sums, and that nothing lies there besides.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::manifest::{self, BatchCard, Manifest};
use crate::sidecar;
use crate::text::hex;
use crate::watch::Watch;

const BLOCK_BYTES: usize = 1 << 20;

/// What was looked at, and what is wrong with it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Files that the manifests name.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Batches of shards.
    pub batches: u64,
    /// Everything that is not as it was written; empty where all is well.
    pub damage: Vec<Damage>,
}

impl Report {
    /// The report as one line of JSON.
    pub fn print(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

/// One thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file's path in the folder.
    pub file: String,
    /// The batch of the shard, from 0.
    pub batch: Option<usize>,
    /// Where the batch starts in the file.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Damage {
    /// Damage of a file as a whole.
    pub(crate) fn of(file: &str, what: impl Into<String>) -> Damage {
        Damage { file: file.to_owned(), batch: None, offset: None, what: what.into() }
    }
}

/// A file that must be there.
pub(crate) struct Wanted {
    pub(crate) file: String,
    /// Its size, where the manifest says it.
    pub(crate) bytes: Option<u64>,
    pub(crate) sha256: String,
    pub(crate) batches: Vec<BatchCard>,
}

/// Verifies a folder. Reads all of it, a few megabytes at a time; writes nothing.
pub fn verify(folder: &Path, watch: &Watch) -> Result<Report> {
    let manifest = Manifest::read(folder)?.ok_or_else(|| {
        Error::Input(format!("`{}` is not a data set: no `{}` in it; an unfinished run has none", folder.display(), manifest::FILE))
    })?;
    let mut damage: Vec<Damage> = manifest.contradictions()?.into_iter().map(|what| Damage::of(manifest::FILE, what)).collect();
    let mut wanted = of_manifest(&manifest);
    wanted.extend(sidecar::wanted(folder, &manifest, &mut damage)?);
    damage.extend(strays(folder, &wanted)?);
    let checked = wanted.par_iter().map(|file| check(folder, file, watch)).collect::<Result<Vec<_>>>()?;
    damage.extend(checked.iter().flat_map(|(_, found)| found.iter().cloned()));
    Ok(Report {
        files: wanted.len() as u64,
        bytes: checked.iter().map(|(bytes, _)| bytes).sum(),
        batches: wanted.iter().map(|file| file.batches.len() as u64).sum(),
        damage,
    })
}

fn of_manifest(manifest: &Manifest) -> Vec<Wanted> {
    let plain = |file: &str, bytes: u64, sha256: &str| Wanted {
        file: file.to_owned(),
        bytes: Some(bytes),
        sha256: sha256.to_owned(),
        batches: Vec::new(),
    };
    let mut wanted: Vec<Wanted> = manifest.files.iter().map(|card| plain(&card.file, card.bytes, &card.sha256)).collect();
    for split in manifest.splits.values() {
        wanted.extend(split.text.iter().map(|card| plain(&card.file, card.bytes, &card.sha256)));
        wanted.extend(
            split.shards.iter().map(|card| Wanted { batches: card.batches.clone(), ..plain(&card.file, card.bytes, &card.sha256) }),
        );
    }
    wanted
}

/// Files that no manifest names. Names that start with a dot are left to whoever keeps books here, as git does, but drafts are ours.
fn strays(folder: &Path, wanted: &[Wanted]) -> Result<Vec<Damage>> {
    let named: BTreeSet<&str> = wanted.iter().map(|file| file.file.as_str()).chain([manifest::FILE]).collect();
    let mut found = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(within) = folders.pop() {
        let path = folder.join(&within);
        for entry in fs::read_dir(&path).map_err(|error| Error::input(&path, error))? {
            let entry = entry.map_err(|error| Error::input(&path, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let file = if within.is_empty() { name.clone() } else { format!("{within}/{name}") };
            if name.starts_with('.') && !name.starts_with(crate::disk::TEMPORARY_PREFIX) || sidecar::is_unfinished(folder, &file) {
                continue;
            }
            if entry.path().is_dir() {
                folders.push(file);
            } else if !named.contains(file.as_str()) {
                found.insert(file.clone(), Damage::of(&file, "no manifest names it; take it away"));
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Reads one file, once; gives its size and what is wrong with it.
fn check(folder: &Path, wanted: &Wanted, watch: &Watch) -> Result<(u64, Vec<Damage>)> {
    if Path::new(&wanted.file).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Ok((0, vec![Damage::of(&wanted.file, "the manifest names it, but it is no file of this folder")]));
    }
    let mut file = match File::open(folder.join(&wanted.file)) {
        Ok(file) => Hashing { file, sha256: Sha256::new(), block: vec![0; BLOCK_BYTES], at: 0, watch },
        Err(error) => return Ok((0, vec![Damage::of(&wanted.file, format!("cannot be read: {error}"))])),
    };
    match file.read_all(wanted) {
        Ok(damage) => Ok((file.at, damage)),
        Err(_) if watch.check().is_err() => Err(Error::Interrupted),
        Err(error) => Ok((file.at, vec![Damage::of(&wanted.file, format!("cannot be read: {error}"))])),
    }
}

/// A file that is hashed while it is read.
struct Hashing<'run> {
    file: File,
    sha256: Sha256,
    block: Vec<u8>,
    at: u64,
    watch: &'run Watch,
}

impl Hashing<'_> {
    fn read_all(&mut self, wanted: &Wanted) -> std::io::Result<Vec<Damage>> {
        let mut damage = Vec::new();
        for (number, batch) in wanted.batches.iter().enumerate() {
            let mut xxh3 = Xxh3::new();
            self.pass(batch.offset, &mut Xxh3::new())?;
            let is_in_place = self.at == batch.offset;
            self.pass(batch.offset.saturating_add(batch.bytes), &mut xxh3)?;
            if !is_in_place || format!("{:016x}", xxh3.digest()) != batch.xxh3 {
                let what = format!("these {} bytes are not what was written", batch.bytes);
                damage.push(Damage { file: wanted.file.clone(), batch: Some(number), offset: Some(batch.offset), what });
            }
        }
        self.pass(u64::MAX, &mut Xxh3::new())?;
        #[cfg(feature = "failpoints")]
        if crate::failpoints::sabotaged("no_digests") {
            return Ok(Vec::new());
        }
        let sha256 = hex(&std::mem::take(&mut self.sha256).finalize());
        if wanted.bytes.is_some_and(|bytes| bytes != self.at) {
            damage.push(Damage::of(&wanted.file, format!("it has {} bytes, not {}", self.at, wanted.bytes.unwrap_or_default())));
        } else if sha256 != wanted.sha256 && damage.is_empty() {
            damage.push(Damage::of(&wanted.file, format!("its SHA-256 is {sha256}, not {}", wanted.sha256)));
        }
        Ok(damage)
    }

    /// Reads up to a place in the file, or to its end.
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
