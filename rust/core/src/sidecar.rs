//! The stored reference log-probs beside a data set, as far as they can be verified without a model: `zephyr_fast.train.sidecar` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::manifest::{self, Manifest};
use crate::text::sha256_hex;
use crate::verify::{Damage, Wanted};

/// Where they lie in the out folder, in a folder for each key.
const FOLDER: &str = "_ref";
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

/// The files that the finished ones name. What is wrong with their manifests goes to `damage`.
pub(crate) fn wanted(folder: &Path, data: &Manifest, damage: &mut Vec<Damage>) -> Result<Vec<Wanted>> {
    let mut wanted = Vec::new();
    let Ok(keys) = fs::read_dir(folder.join(FOLDER)) else { return Ok(wanted) };
    for key in keys.flatten() {
        let name = key.file_name().to_string_lossy().into_owned();
        let file = format!("{FOLDER}/{name}/{}", manifest::FILE);
        let Ok(text) = fs::read(folder.join(&file)) else { continue };
        let sha256 = sha256_hex(&text);
        wanted.push(Wanted { file: file.clone(), bytes: Some(text.len() as u64), sha256, batches: Vec::new() });
        match serde_json::from_slice::<Sidecar>(&text) {
            Ok(sidecar) => {
                damage.extend(sidecar.contradictions(&name, data)?.into_iter().map(|what| Damage::of(&file, what)));
                wanted.extend(sidecar.splits.into_values().flat_map(|split| split.parts).map(|part| Wanted {
                    file: format!("{FOLDER}/{name}/{}", part.file),
                    bytes: None,
                    sha256: part.sha256,
                    batches: Vec::new(),
                }));
            }
            Err(error) => damage.push(Damage::of(&file, format!("it is damaged: {error}"))),
        }
    }
    Ok(wanted)
}

/// Whether a path is that of a key which a run is still at: its manifest comes last.
pub(crate) fn is_unfinished(folder: &Path, file: &str) -> bool {
    let mut parts = file.split('/');
    let (Some(FOLDER), Some(key), None) = (parts.next(), parts.next(), parts.next()) else { return false };
    !folder.join(FOLDER).join(key).join(manifest::FILE).exists()
}

impl Sidecar {
    /// What cannot be true of log-probs of this data set in a folder of this name.
    fn contradictions(&self, name: &str, data: &Manifest) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if self.schema != SCHEMA {
            found.push(format!("it has schema {}, this version reads {SCHEMA}", self.schema));
        }
        if !self.digest()?.starts_with(name) || self.key.get("shards").and_then(Value::as_str) != Some(data.fingerprint.as_str()) {
            found.push("its key is not that of its folder and of this data set".to_owned());
        }
        for (split, card) in &self.splits {
            if data.splits.get(split).is_none_or(|whole| whole.samples != card.pairs) {
                found.push(format!("it has {} pairs of `{split}`, not those of the data set", card.pairs));
            }
        }
        Ok(found)
    }

    /// The key's digest: SHA-256 of its fields as Python's `json.dumps(…, sort_keys=True)` prints them.
    fn digest(&self) -> Result<String> {
        let field = |(name, value): (&String, &Value)| Ok(format!("{}: {value}", serde_json::to_string(name)?));
        let fields = self.key.iter().map(field).collect::<serde_json::Result<Vec<_>>>();
        let fields = fields.map_err(|error| Error::Internal(error.to_string()))?;
        Ok(sha256_hex(format!("{{{}}}", fields.join(", ")).as_bytes()))
    }
}
