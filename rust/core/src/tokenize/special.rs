//! The files next to `tokenizer.json`: special tokens by name, and the tokenizer's own chat template.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::disk;
use crate::error::{Error, Result};

/// Maximum size of each of these files in bytes.
const CONFIG_BYTES_MAX: usize = 16 << 20;

/// A tokenizer's own chat template, or why the one that exists cannot be used.
pub type OwnTemplate = Option<std::result::Result<String, String>>;

/// The tokens a tokenizer's config names. Templates see them as `bos_token`, `eos_token`, …
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<String>,
    /// Ends a message or a text.
    pub eos: Option<String>,
    /// Fills a batch.
    pub pad: Option<String>,
    /// Stands for the unknown.
    pub unk: Option<String>,
    /// All others, by the names that templates use: `sep_token`, `image_token`, …
    #[serde(default)]
    pub named: BTreeMap<String, String>,
}

impl SpecialTokens {
    /// The tokens that a config names, as `transformers` reads it: the keys that end in `_token`,
    /// and the entries of `extra_special_tokens` and `model_specific_special_tokens` if those are
    /// tables.
    pub(super) fn from_config(config: &Map<String, Value>) -> SpecialTokens {
        let tables = ["extra_special_tokens", "model_specific_special_tokens"]
            .into_iter()
            .filter_map(|table| config.get(table)?.as_object())
            .flatten();
        let mut named: BTreeMap<String, String> = config
            .iter()
            .filter(|(name, _)| name.ends_with("_token"))
            .chain(tables)
            .filter_map(|(name, token)| Some((name.clone(), content(token)?)))
            .collect();
        let mut take = |name: &str| named.remove(name);
        SpecialTokens {
            bos: take("bos_token"),
            eos: take("eos_token"),
            pad: take("pad_token"),
            unk: take("unk_token"),
            named,
        }
    }

    /// The tokens that are set, with their names in templates.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&str, String)> {
        let four = [
            ("bos_token", &self.bos),
            ("eos_token", &self.eos),
            ("pad_token", &self.pad),
            ("unk_token", &self.unk),
        ];
        four.into_iter()
            .filter_map(|(name, token)| Some((name, token.clone()?)))
            .chain(self.named.iter().map(|(name, token)| (name.as_str(), token.clone())))
            .collect()
    }
}

/// Tokens are strings or objects such as `{"content": …}`.
fn content(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

/// Reads `tokenizer_config.json`, completed by `special_tokens_map.json`. Returns an empty table if
/// neither exists.
pub(super) fn config(folder: &Path) -> Result<Map<String, Value>> {
    let mut config = Map::new();
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        let path = folder.join(name);
        if let Some(bytes) = optional(&path)? {
            let table: Map<String, Value> =
                serde_json::from_slice(&bytes).map_err(|error| Error::input(&path, error))?;
            config.extend(table.into_iter().filter(|(_, value)| !value.is_null()));
        }
    }
    Ok(config)
}

/// Rejects a config that makes `transformers` split special tokens. Here each is one token, as in
/// `tokenizer.json`, so a model would be served with other ids than those it was trained on.
pub(super) fn check_whole(config: &Map<String, Value>, folder: &Path) -> Result<()> {
    match config.get("split_special_tokens") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(()),
        Some(set) => Err(Error::Config(format!(
            "the tokenizer `{}` sets `split_special_tokens` to {set}, with which transformers \
                splits special tokens into several, and a model could not learn to stop at one; \
                set it to false in tokenizer_config.json and special_tokens_map.json",
            folder.display()
        ))),
    }
}

/// The tokenizer's own chat template: a file next to it, or the one in its config. A config may
/// list several by name. `transformers` uses `default` unless the caller selects another one. The
/// inner error is the reason why an existing template cannot be used.
pub(super) fn chat_template(folder: &Path, config: &Map<String, Value>) -> Result<OwnTemplate> {
    let path = folder.join("chat_template.jinja");
    if let Some(bytes) = optional(&path)? {
        let text = String::from_utf8(bytes).map_err(|error| Error::input(&path, error))?;
        return Ok(Some(Ok(text)));
    }
    Ok(config.get("chat_template").map(|template| {
        let text = match template.as_array() {
            None => template.as_str(),
            Some(list) => list
                .iter()
                .rfind(|entry| entry.get("name").is_some_and(|name| name == "default"))
                .and_then(|default| default.get("template")?.as_str()),
        };
        text.map(str::to_owned).ok_or_else(|| {
            "`chat_template` in its tokenizer_config.json has no template named `default`"
                .to_owned()
        })
    }))
}

/// Reads a file in the tokenizer's directory. Returns `None` if it does not exist.
fn optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match disk::read(path, CONFIG_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::input(path, error)),
    }
}
