//! The files next to `tokenizer.json`: special tokens by name, and the tokenizer's own chat template.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::disk;
use crate::error::{Error, Result};

/// Maximum size of each of these files in bytes.
const CONFIG_BYTES_MAX: usize = 16 << 20;

/// The usual names of special tokens, in the order of `transformers`.
pub(super) const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The key with the list of special tokens that have no name, or a table of some with names.
pub(super) const EXTRA: &str = "extra_special_tokens";
/// The former name of that key.
pub(super) const FORMERLY_EXTRA: &str = "additional_special_tokens";
/// The key with the table of special tokens whose names only this tokenizer has.
pub(super) const OWN_NAMES: &str = "model_specific_special_tokens";

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
    /// The tokens that a config names, as `transformers` reads it: those with the usual names, and
    /// [`others`].
    pub(super) fn from_config(config: &Map<String, Value>) -> SpecialTokens {
        let others = others(config);
        let usual = NAMES.iter().filter_map(|name| Some(((*name).to_owned(), config.get(*name)?)));
        let mut named: BTreeMap<String, String> = usual
            .chain(others.iter().map(|(name, token)| (name.clone(), token)))
            .filter_map(|(name, token)| Some((name, content(token)?)))
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

/// The tokens with names that only this tokenizer has, such as `image_token`: the keys that end in
/// `_token`, and over them those of the table that [`config`] makes.
pub(super) fn others(config: &Map<String, Value>) -> Map<String, Value> {
    let own = config.iter().filter(|(name, token)| is_own(name) && content(token).is_some());
    let table = config.get(OWN_NAMES).and_then(Value::as_object).into_iter().flatten();
    own.chain(table).map(|(name, token)| (name.clone(), token.clone())).collect()
}

fn is_own(name: &str) -> bool {
    name.ends_with("_token") && !NAMES.contains(&name)
}

/// Collects the tokens of a config with names of its own in one table, which they replace.
fn collect_own(config: &mut Map<String, Value>) {
    let own = |name: &str, token: &Value| is_own(name) && token.is_string();
    let mut found: Map<String, Value> = config
        .iter()
        .filter(|(name, token)| own(name, token))
        .map(|(name, token)| (name.clone(), token.clone()))
        .collect();
    config.retain(|name, token| !own(name, token));
    if let Some(Value::Object(extra)) = config.get(EXTRA) {
        found.extend(extra.clone());
        config.shift_remove(EXTRA);
    }
    if !found.is_empty() {
        config.insert(OWN_NAMES.to_owned(), Value::Object(found));
    }
}

/// Reads `tokenizer_config.json`, and over it `special_tokens_map.json` as `transformers` does: only
/// if the former does not describe its added tokens. Returns an empty table if neither exists.
pub(super) fn config(folder: &Path) -> Result<Map<String, Value>> {
    let mut config = table(&folder.join("tokenizer_config.json"))?;
    let is_unset = |value: &Value| value.as_array().is_some_and(Vec::is_empty) || value.is_null();
    if config.get(EXTRA).is_none_or(is_unset)
        && let Some(list) = config.shift_remove(FORMERLY_EXTRA)
    {
        config.insert(EXTRA.to_owned(), list);
    }
    collect_own(&mut config);
    if !config.contains_key("added_tokens_decoder") {
        for (name, value) in table(&folder.join("special_tokens_map.json"))? {
            lay_over(&mut config, name, value);
        }
    }
    if let Some(Value::Object(extra)) = config.get(EXTRA).cloned() {
        config.shift_remove(EXTRA);
        if let Some(table) = config.entry(OWN_NAMES).or_insert_with(|| json!({})).as_object_mut() {
            table.extend(extra);
        }
    }
    config.retain(|_, value| !value.is_null());
    Ok(config)
}

/// Sets an entry of `special_tokens_map.json`: a token with properties is special, and a list of
/// tokens is appended.
fn lay_over(config: &mut Map<String, Value>, name: String, mut value: Value) {
    let is_list = name == EXTRA;
    if let (false, Some(token)) = (is_list, value.as_object_mut()) {
        token.insert("special".to_owned(), Value::Bool(true));
    }
    match (config.get_mut(&name), value) {
        (Some(Value::Array(listed)), Value::Array(more)) if is_list => {
            more.into_iter().for_each(|token| {
                if !listed.contains(&token) {
                    listed.push(token);
                }
            });
        }
        (_, value) => _ = config.insert(name, value),
    }
}

/// Reads `added_tokens.json`, an older form of the config's `added_tokens_decoder`: ids by token.
/// It counts only without the latter.
pub(super) fn legacy(folder: &Path, config: &Map<String, Value>) -> Result<Map<String, Value>> {
    if config.contains_key("added_tokens_decoder") {
        return Ok(Map::new());
    }
    table(&folder.join("added_tokens.json"))
}

fn table(path: &Path) -> Result<Map<String, Value>> {
    match optional(path)? {
        None => Ok(Map::new()),
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::input(path, error)),
    }
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
