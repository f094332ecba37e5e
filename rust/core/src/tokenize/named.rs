//! Added tokens that a config names and `tokenizer.json` lacks or describes differently. They are
//! added as `transformers` 5 adds them when it loads a tokenizer, so that both give the same ids.
//!
//! Example: `tokenizer.json` has 2,048 tokens and no `<|im_end|>`, and the config has
//! `"eos_token": "<|im_end|>"`. `transformers` appends the token with id 2,048. Without it, the
//! tokenizer would split the text into several ids, and a model would learn another end of an
//! answer than the one at which it is stopped.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::file::{added_tokens, with_added_tokens};
use super::reference::Inner;
use super::special::{EXTRA, FORMERLY_EXTRA, NAMES};

/// Added tokens by id.
type Added = BTreeMap<u32, AddedToken>;

/// A token as a config has it: only its text, or with properties.
#[derive(Debug, Clone, PartialEq)]
enum Named {
    Text(String),
    Full(Properties),
}

/// Properties of a token. If `normalized` is not set, it is the opposite of `special`.
#[derive(Debug, Clone)]
struct Properties {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: Option<bool>,
    special: bool,
}

impl Properties {
    fn from_json(token: &Value) -> Option<Properties> {
        let flag = |name: &str| token.get(name).and_then(Value::as_bool);
        Some(Properties {
            content: token.get("content")?.as_str()?.to_owned(),
            single_word: flag("single_word").unwrap_or(false),
            lstrip: flag("lstrip").unwrap_or(false),
            rstrip: flag("rstrip").unwrap_or(false),
            normalized: flag("normalized"),
            special: flag("special").unwrap_or(false),
        })
    }

    fn added(&self) -> AddedToken {
        AddedToken {
            content: self.content.clone(),
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            normalized: self.normalized.unwrap_or(!self.special),
            special: self.special,
        }
    }
}

impl PartialEq for Properties {
    fn eq(&self, other: &Properties) -> bool {
        self.added() == other.added()
    }
}

impl Named {
    fn from_json(token: &Value) -> Option<Named> {
        match token {
            Value::String(text) => Some(Named::Text(text.clone())),
            _ => Properties::from_json(token).map(Named::Full),
        }
    }

    fn content(&self) -> &str {
        match self {
            Named::Text(text) => text,
            Named::Full(token) => &token.content,
        }
    }

    /// As a token to add. It becomes special if it has no properties, or if `special` is set.
    fn added(&self, special: bool) -> AddedToken {
        match self {
            Named::Text(text) => AddedToken::from(text.clone(), true),
            Named::Full(token) => {
                Properties { special: token.special || special, ..token.clone() }.added()
            }
        }
    }
}

/// Adds the tokens of a config and of `added_tokens.json` to a tokenizer. Returns its
/// `tokenizer.json` with the tokens that are new or changed, or `None` if there are no such tokens.
pub(super) fn complete(
    inner: &mut Inner,
    json: &[u8],
    config: &Map<String, Value>,
    legacy: &Map<String, Value>,
) -> Result<Option<Vec<u8>>, String> {
    let before: Added = inner.get_added_tokens_decoder().into_iter().collect();
    let decoder = decoder(json, config, legacy);
    let named = named(config, &decoder);
    let extra = extra(config);
    inner
        .add_tokens(missing(&before, &decoder, &named, &extra))
        .map_err(|error| error.to_string())?;
    let after: Added = inner.get_added_tokens_decoder().into_iter().collect();
    if after == before {
        return Ok(None);
    }
    with_added_tokens(json, &after).map(Some)
}

/// The added tokens that the files describe, by id: those of the config, else those of
/// `added_tokens.json` and `tokenizer.json`.
fn decoder(
    json: &[u8],
    config: &Map<String, Value>,
    legacy: &Map<String, Value>,
) -> BTreeMap<u64, Properties> {
    if let Some(listed) = config.get("added_tokens_decoder").and_then(Value::as_object) {
        return listed
            .iter()
            .filter_map(|(id, token)| Some((id.parse().ok()?, Properties::from_json(token)?)))
            .collect();
    }
    // `transformers` compares the text of a typed object, so its token does not count as special.
    let extra = config.get(EXTRA).and_then(Value::as_array).into_iter().flatten();
    let special: BTreeSet<String> = NAMES
        .iter()
        .filter_map(|name| config.get(*name))
        .chain(extra)
        .filter(|token| token.get("__type").is_none())
        .filter_map(|token| Some(Named::from_json(token)?.content().to_owned()))
        .collect();
    let legacy = legacy.iter().filter_map(|(content, id)| {
        let special = special.contains(content);
        let flags = (false, false, false, Some(!special));
        let (single_word, lstrip, rstrip, normalized) = flags;
        let content = content.clone();
        let token = Properties { content, single_word, lstrip, rstrip, normalized, special };
        Some((id.as_u64()?, token))
    });
    // With the ids of the file, which the tokenizer need not have kept.
    let listed = added_tokens(json);
    let own = listed
        .iter()
        .filter_map(|token| Some((token.get("id")?.as_u64()?, Properties::from_json(token)?)));
    legacy.chain(own).collect()
}

/// The tokens with a name, in the order in which they are added: the usual names first.
fn named(config: &Map<String, Value>, decoder: &BTreeMap<u64, Properties>) -> Vec<Named> {
    let described: HashMap<&str, &Properties> =
        decoder.values().map(|token| (token.content.as_str(), token)).collect();
    let usual = NAMES.iter().filter_map(|name| Named::from_json(config.get(*name)?)).map(|token| {
        described.get(token.content()).map_or(token.clone(), |token| Named::Full((*token).clone()))
    });
    let others = super::special::others(config);
    usual.chain(others.values().filter_map(Named::from_json)).collect()
}

/// The tokens in the list `extra_special_tokens`, or in the one with its former name.
fn extra(config: &Map<String, Value>) -> Vec<Named> {
    let list = config.get(EXTRA).or_else(|| config.get(FORMERLY_EXTRA));
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Named::from_json).collect()
}

/// The tokens that are added because they are not there with these properties.
fn missing(
    before: &Added,
    decoder: &BTreeMap<u64, Properties>,
    named: &[Named],
    extra: &[Named],
) -> Vec<AddedToken> {
    let there: HashMap<&str, &AddedToken> =
        before.values().map(|token| (token.content.as_str(), token)).collect();
    let mut missing: Vec<Named> = decoder
        .values()
        .filter(|token| there.get(token.content.as_str()) != Some(&&token.added()))
        .map(|token| Named::Full(token.clone()))
        .collect();
    let known: BTreeSet<String> = there
        .keys()
        .map(|content| (*content).to_owned())
        .chain(missing.iter().map(|token| token.content().to_owned()))
        .collect();
    // By content, since an untrusted list may be long.
    let mut seen: HashMap<&str, Vec<&Named>> = HashMap::new();
    for token in named.iter().chain(extra) {
        let alike = seen.entry(token.content()).or_default();
        if !known.contains(token.content()) && !alike.contains(&token) {
            alike.push(token);
            missing.push(token.clone());
        }
    }
    let names: BTreeSet<&str> = named.iter().map(Named::content).collect();
    missing.iter().map(|token| token.added(names.contains(token.content()))).collect()
}
