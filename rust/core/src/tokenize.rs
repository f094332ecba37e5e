//! Token ids and masks: the ids that HF `tokenizers` gives, BOS in front exactly once, and a label for every trained character.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer as HfTokenizer;

use crate::error::{Error, Result};
use crate::recipe::TrainOn;
use crate::sample::Sample;
use crate::template::Rendered;
use crate::text::sha256_hex;

/// The version of the rules for BOS and labels.
pub const VERSION: u32 = 1;

/// The tokens a tokenizer's config names. Templates see them as `bos_token`, `eos_token`, …
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<String>,
    /// Ends a turn or a text.
    pub eos: Option<String>,
    /// Fills a batch.
    pub pad: Option<String>,
    /// Stands for the unknown.
    pub unk: Option<String>,
}

impl SpecialTokens {
    /// Those that are set, under the names that templates use.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let named = [("bos_token", &self.bos), ("eos_token", &self.eos), ("pad_token", &self.pad), ("unk_token", &self.unk)];
        named.into_iter().filter_map(|(name, token)| Some((name, token.clone()?))).collect()
    }
}

/// A tokenizer with what its folder says of it.
#[derive(Debug)]
pub struct Tokenizer {
    inner: HfTokenizer,
    /// Ids that the tokenizer puts in front of every text.
    lead: Vec<u32>,
    /// Its special tokens by use.
    pub special: SpecialTokens,
    /// The chat template its folder brings along.
    pub chat_template: Option<String>,
    /// SHA-256 of `tokenizer.json` and of the special tokens, hex.
    pub sha256: String,
    json: Vec<u8>,
    config: Map<String, Value>,
}

impl Tokenizer {
    /// Loads a folder with `tokenizer.json` (and `tokenizer_config.json`, `chat_template.jinja`), or a `tokenizer.json` itself.
    pub fn load(path: &Path) -> Result<Tokenizer> {
        let (folder, file) =
            if path.is_dir() { (path, path.join("tokenizer.json")) } else { (path.parent().unwrap_or(path), path.to_owned()) };
        let json = std::fs::read(&file).map_err(|error| {
            Error::Input(format!(
                "cannot read the tokenizer `{}`: {error}; name a folder with a tokenizer.json, or such a file",
                file.display()
            ))
        })?;
        let mut inner = HfTokenizer::from_bytes(&json).map_err(|error| Error::input(&file, error))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::input(&file, error))?;
        let config = config(folder)?;
        let special = special_tokens(&config);
        let chat_template = match std::fs::read_to_string(folder.join("chat_template.jinja")) {
            Ok(text) => Some(text),
            Err(_) => config.get("chat_template").and_then(Value::as_str).map(str::to_owned),
        };
        let lead = lead(&inner).map_err(|error| Error::input(&file, error))?;
        let sha256 = sha256_hex(format!("{}{:?}", sha256_hex(&json), special.pairs()).as_bytes());
        Ok(Tokenizer { inner, lead, special, chat_template, sha256, json, config })
    }

    /// Entries of the vocabulary, added tokens included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The text of every special token: what must not stand in content.
    #[must_use]
    pub fn special_texts(&self) -> Vec<String> {
        let added: BTreeMap<_, _> = self.inner.get_added_tokens_decoder().into_iter().collect();
        added.into_values().filter(|token| token.special).map(|token| token.content).collect()
    }

    /// The ids of a text, BOS in front.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(failed)?;
        Ok(self.led(encoding.get_ids()).0)
    }

    /// The ids of a rendered dialogue, with the trained ranges of its text as ranges of ids: a token is trained if it holds any
    /// trained character, as in `transformers`' assistant masks.
    pub fn sample(&self, rendered: &Rendered, train_on: TrainOn) -> Result<Sample> {
        let encoding = self.inner.encode(rendered.text.as_str(), false).map_err(failed)?;
        let (ids, shift) = self.led(encoding.get_ids());
        let offsets = encoding.get_offsets();
        let trained = match train_on {
            TrainOn::All => std::iter::once(0..ids.len() as u32).collect(),
            TrainOn::Assistant => rendered
                .trained
                .iter()
                .map(|range| {
                    let start = offsets.partition_point(|(_, end)| *end <= range.start);
                    let end = offsets.partition_point(|(start, _)| *start < range.end);
                    (start + shift) as u32..(end + shift) as u32
                })
                .filter(|range| !range.is_empty())
                .collect(),
        };
        Ok(Sample { ids, trained: joined(trained) })
    }

    /// The ids with what the tokenizer puts in front, unless the text wrote it itself; and how far that moved them.
    fn led(&self, ids: &[u32]) -> (Vec<u32>, usize) {
        let lead: &[u32] = if ids.starts_with(&self.lead) { &[] } else { &self.lead };
        ([lead, ids].concat(), lead.len())
    }

    /// The files of a folder from which `transformers` loads this tokenizer with this template: name and bytes.
    pub fn files(&self, template: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let mut config = self.config.clone();
        for key in ["added_tokens_decoder", "sp_model_kwargs", "legacy", "add_bos_token", "add_eos_token", "auto_map"] {
            config.remove(key);
        }
        for (name, token) in self.special.pairs() {
            config.insert(name.to_owned(), json!(token));
        }
        if let (None, Some(eos)) = (&self.special.pad, &self.special.eos) {
            config.insert("pad_token".to_owned(), json!(eos));
        }
        // Any other class rebuilds the tokenizer from its parts and gives other ids.
        config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
        config.insert("chat_template".to_owned(), json!(template));
        let config = serde_json::to_vec_pretty(&config).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(vec![("tokenizer.json", self.json.clone()), ("tokenizer_config.json", config)])
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Internal(format!("the tokenizer failed on a text: {error}"))
}

/// Ranges that touch or overlap, as one.
fn joined(ranges: Vec<std::ops::Range<u32>>) -> Vec<std::ops::Range<u32>> {
    let mut joined: Vec<std::ops::Range<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// What the tokenizer's post-processor puts in front of a text.
fn lead(tokenizer: &HfTokenizer) -> tokenizers::Result<Vec<u32>> {
    let with = tokenizer.encode_fast("a", true)?;
    let without = tokenizer.encode_fast("a", false)?;
    let (with, without) = (with.get_ids(), without.get_ids());
    let place = with.windows(without.len().max(1)).position(|window| window == without).unwrap_or(0);
    Ok(with[..place].to_vec())
}

/// `tokenizer_config.json`, completed by `special_tokens_map.json`; empty where neither is there.
fn config(folder: &Path) -> Result<Map<String, Value>> {
    let mut config = Map::new();
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        let path = folder.join(name);
        if let Ok(bytes) = std::fs::read(&path) {
            let table: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| Error::input(&path, error))?;
            config.extend(table.into_iter().filter(|(_, value)| !value.is_null()));
        }
    }
    Ok(config)
}

/// Tokens stand as strings or as `{"content": …}`.
fn special_tokens(config: &Map<String, Value>) -> SpecialTokens {
    let token = |name: &str| {
        let value = config.get(name)?;
        value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
    };
    SpecialTokens { bos: token("bos_token"), eos: token("eos_token"), pad: token("pad_token"), unk: token("unk_token") }
}
