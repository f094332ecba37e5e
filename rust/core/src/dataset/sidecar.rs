//! Stored reference log-probs of a dataset, as far as they can be verified without a model:
//! `zephyr_fast.train.ref_logprobs.store` writes them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::dataset::layout::{Level, Role};
use crate::dataset::manifest::{self, Manifest};
use crate::dataset::verify::{ExpectedFile, Problem};
use crate::disk::{Folder, Kind};
use crate::error::{Error, Result};
use crate::normal::sha256_hex;
use crate::progress::Watch;

/// Their directory in the output directory, with a subdirectory per key.
pub(crate) const FOLDER: &str = "_ref";
/// Hex digits of a key that name its directory.
pub(crate) const KEY_DIGITS: usize = 16;
/// Maximum bytes of their manifest. A part of 2,048 pairs needs 120 bytes.
const BYTES_MAX: usize = 16 << 20;
/// The version of their format.
const SCHEMA: u32 = 1;

#[derive(Deserialize)]
struct Sidecar {
    schema: u32,
    key: BTreeMap<String, Value>,
    splits: BTreeMap<String, Split>,
}

#[derive(Deserialize)]
struct Split {
    pairs: u64,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    file: String,
    sha256: String,
}

/// Returns the files that the finished ones list. Faults of their manifests are added to `damage`.
pub(crate) fn expected_files(
    top: &Folder,
    data: &Manifest,
    watch: &Watch,
    damage: &mut Vec<Problem>,
) -> Result<Vec<ExpectedFile>> {
    let mut expected = Vec::new();
    // Without a directory of that name there are no log-probs. The search for unlisted files
    // reports any other kind of entry.
    let Some(refs) = within(top, FOLDER) else { return Ok(expected) };
    let failed = |error| Error::input(refs.path(), error);
    for entry in refs.entries().map_err(failed)? {
        watch.check()?;
        let (name, _) = entry.map_err(failed)?;
        let Some(name) =
            name.to_str().filter(|name| matches!(Level::Refs.role(name), Role::Folder(_)))
        else {
            continue;
        };
        if let Some(key) = within(&refs, name).filter(is_finished) {
            of_key(&key, name, data, &mut expected, damage)?;
        }
    }
    Ok(expected)
}

/// Whether the log-probs of a key are complete. Their manifest is written last.
pub(crate) fn is_finished(key: &Folder) -> bool {
    !matches!(key.kind(manifest::FILE), Ok(None))
}

fn within(folder: &Folder, name: &str) -> Option<Folder> {
    matches!(folder.kind(name), Ok(Some(Kind::Folder))).then(|| folder.folder(name).ok()).flatten()
}

fn of_key(
    key: &Folder,
    name: &str,
    data: &Manifest,
    expected: &mut Vec<ExpectedFile>,
    damage: &mut Vec<Problem>,
) -> Result<()> {
    let file = format!("{FOLDER}/{name}/{}", manifest::FILE);
    let text = match key.read(manifest::FILE, BYTES_MAX) {
        Ok(text) => text,
        Err(error) => {
            damage.push(Problem::of(&file, format!("cannot be read: {error}")));
            return Ok(());
        }
    };
    let sha256 = sha256_hex(&text);
    expected.push(ExpectedFile {
        file: file.clone(),
        bytes: Some(text.len() as u64),
        sha256,
        batches: Vec::new(),
    });
    match serde_json::from_slice::<Sidecar>(&text) {
        Ok(sidecar) => {
            damage.extend(
                sidecar
                    .contradictions(name, data)?
                    .into_iter()
                    .map(|what| Problem::of(&file, what)),
            );
            expected.extend(sidecar.splits.into_values().flat_map(|split| split.parts).map(
                |part| ExpectedFile {
                    file: format!("{FOLDER}/{name}/{}", part.file),
                    bytes: None,
                    sha256: part.sha256,
                    batches: Vec::new(),
                },
            ));
        }
        Err(error) => damage.push(Problem::of(&file, format!("not a valid manifest: {error}"))),
    }
    Ok(())
}

impl Sidecar {
    /// Returns the inconsistencies with this dataset and with the directory's name.
    fn contradictions(&self, name: &str, data: &Manifest) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if self.schema != SCHEMA {
            let advice =
                if self.schema < SCHEMA { "compute them again" } else { "update zephyr-fast" };
            found.push(format!(
                "schema {} is not supported (this version reads {SCHEMA}); {advice}",
                self.schema
            ));
        }
        if self.digest()?.get(..KEY_DIGITS) != Some(name)
            || self.key.get("shards").and_then(Value::as_str) != Some(data.fingerprint.as_str())
        {
            found.push("its key does not match its directory name or this dataset".to_owned());
        }
        for (split, card) in &self.splits {
            if data.splits.get(split).is_none_or(|whole| whole.examples != card.pairs) {
                found.push(format!(
                    "it has {} pairs for split `{split}`, which differs from the dataset",
                    card.pairs
                ));
            }
        }
        Ok(found)
    }

    /// The key's digest: SHA-256 of its fields as Python's `json.dumps(…, sort_keys=True)` prints
    /// them.
    fn digest(&self) -> Result<String> {
        let field = |(name, value): (&String, &Value)| {
            Ok(format!("{}: {value}", serde_json::to_string(name)?))
        };
        let fields = self.key.iter().map(field).collect::<serde_json::Result<Vec<_>>>();
        let fields = fields.map_err(|error| Error::Internal(error.to_string()))?;
        Ok(sha256_hex(format!("{{{}}}", fields.join(", ")).as_bytes()))
    }
}
