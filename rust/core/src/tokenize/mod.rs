//! Tokenization and labels: the same ids as Hugging Face `tokenizers`, exactly one BOS at the
//! start, and a label for every character that contributes to the loss.
//!
//! Two engines produce the ids: `reference` is the `tokenizers` crate, and `fast` is a faster
//! implementation for tokenizers whose parts `plan` supports. The fast engine is used only if it
//! agrees with the crate on difficult texts (`probe`).

mod bounded;
mod counted;
mod encode;
mod fast;
mod file;
mod models;
mod named;
mod probe;
mod reference;
mod special;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

pub use encode::{Encode, Span};
use reference::Reference;
pub use special::{OwnTemplate, SpecialTokens};

use crate::disk;
use crate::error::{Error, Result};
use crate::normal::sha256_hex;
use crate::sample::Sample;
use crate::stage::{Code, Reason};

/// The version of the rules for BOS and labels.
pub const VERSION: u32 = 2;

/// Maximum size of a `tokenizer.json` in bytes. The largest published ones have 35 MB.
const TOKENIZER_BYTES_MAX: usize = 256 << 20;

/// The engine that tokenizes text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// The fast engine.
    Fast,
    /// The `tokenizers` crate, and why: half a sentence.
    Reference(String),
}

/// The tokenizer that was loaded last.
static LAST: Mutex<Option<Tokenizer>> = Mutex::new(None);

/// A tokenizer and the configuration in its directory. Its copies share their memory.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    reference: Arc<Reference>,
    encoder: Arc<dyn Encode>,
    engine: Engine,
    /// Ids that the tokenizer puts in front of every text.
    lead: Vec<u32>,
    /// Its special tokens by use.
    pub special: SpecialTokens,
    /// The chat template in its directory.
    pub chat_template: OwnTemplate,
    /// SHA-256 of `tokenizer.json` and of the special tokens, hex.
    pub sha256: String,
    /// Its `tokenizer.json` with the tokens that only its config has, if there are any.
    completed: Option<Arc<Vec<u8>>>,
    files: Arc<Files>,
}

/// The files of a tokenizer.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    json: Vec<u8>,
    config: Map<String, Value>,
    /// `added_tokens.json`.
    legacy: Map<String, Value>,
    chat_template: OwnTemplate,
}

impl Files {
    /// Reads the files of a directory.
    fn read(folder: &Path, file: &Path) -> Result<Files> {
        let json = disk::read(file, TOKENIZER_BYTES_MAX).map_err(|error| {
            Error::Input(format!(
                "cannot read tokenizer `{}`: {error}; expected a directory with a tokenizer.json, \
                    or a tokenizer.json file",
                file.display()
            ))
        })?;
        let config = special::config(folder)?;
        special::check_whole(&config, folder)?;
        let chat_template = special::chat_template(folder, &config)?;
        let legacy = special::legacy(folder, &config)?;
        Ok(Files { json, config, legacy, chat_template })
    }
}

impl Tokenizer {
    /// Loads a directory with `tokenizer.json` (and `tokenizer_config.json`,
    /// `chat_template.jinja`), or a `tokenizer.json` file. Uses the fast engine if it supports all
    /// parts of the tokenizer and passes its self-check, else the `tokenizers` crate. The one that
    /// was loaded last is kept, and returned again if no byte of its files has changed.
    pub fn load(path: &Path) -> Result<Tokenizer> {
        let (folder, file) = folder_and_file(path);
        let files = Files::read(folder, &file)?;
        let last = || LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let same = last().as_ref().filter(|last| *last.files == files).cloned();
        if let Some(same) = same {
            return Ok(same);
        }
        let mut tokenizer = Tokenizer::with_reference(files, &file)?;
        match fast::build(Arc::clone(&tokenizer.reference), tokenizer.json()) {
            Err(reason) => tokenizer.engine = Engine::Reference(reason),
            Ok(fast) => match probe::difference(
                &fast,
                tokenizer.reference.as_ref(),
                &tokenizer.added_texts(),
            ) {
                Ok(Some(difference)) => tokenizer.engine = Engine::Reference(difference),
                Ok(None) => (tokenizer.encoder, tokenizer.engine) = (Arc::new(fast), Engine::Fast),
                Err(reason) => {
                    tokenizer.engine = Engine::Reference(reason.detail.unwrap_or_default())
                }
            },
        }
        *last() = Some(tokenizer.clone());
        Ok(tokenizer)
    }

    /// Reads only the chat template of the tokenizer at a path.
    pub fn own_template(path: &Path) -> Result<OwnTemplate> {
        let (folder, _) = folder_and_file(path);
        special::chat_template(folder, &special::config(folder)?)
    }

    /// Loads a tokenizer with the `tokenizers` crate as its engine. [`Tokenizer::load`] must
    /// produce equal results.
    pub fn load_reference(path: &Path) -> Result<Tokenizer> {
        let (folder, file) = folder_and_file(path);
        Tokenizer::with_reference(Files::read(folder, &file)?, &file)
    }

    fn with_reference(files: Files, path: &Path) -> Result<Tokenizer> {
        let Files { json, legacy, chat_template, .. } = &files;
        let mut config = files.config.clone();
        if let (None, Some(pad)) = (config.get("pad_token"), file::pad_token(json)) {
            config.insert("pad_token".to_owned(), json!(pad));
        }
        let mut reference = Reference::new(json, path)?;
        let completed = named::complete(reference.inner_mut(), json, &config, legacy)
            .map_err(|error| Error::input(path, error))?;
        if let Some(json) = &completed {
            reference = Reference::new(json, path)?;
        }
        let (reference, completed) = (Arc::new(reference), completed.map(Arc::new));
        let json = completed.as_deref().unwrap_or(json);
        let special = SpecialTokens::from_config(&config);
        let lead = reference
            .lead()
            .map_err(|reason| Error::input(path, reason.detail.unwrap_or_default()))?;
        let sha256 = sha256_hex(format!("{}{:?}", sha256_hex(json), special.pairs()).as_bytes());
        Ok(Tokenizer {
            encoder: reference.clone(),
            reference,
            engine: Engine::Reference("requested explicitly".to_owned()),
            lead,
            special,
            chat_template: chat_template.clone(),
            sha256,
            completed: completed.clone(),
            files: Arc::new(files),
        })
    }

    /// The bytes of its `tokenizer.json`, with the tokens that only its config has.
    fn json(&self) -> &[u8] {
        self.completed.as_deref().unwrap_or(&self.files.json)
    }

    /// The engine in use.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Entries of the vocabulary, added tokens included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.reference.inner().get_vocab_size(true)
    }

    /// The id of EOS, if the tokenizer has one.
    #[must_use]
    pub fn eos_id(&self) -> Option<u32> {
        self.reference.inner().token_to_id(self.special.eos.as_deref()?)
    }

    /// The text of every special token. Content must not contain them.
    #[must_use]
    pub fn special_texts(&self) -> Vec<String> {
        let added: BTreeMap<_, _> =
            self.reference.inner().get_added_tokens_decoder().into_iter().collect();
        added.into_values().filter(|token| token.special).map(|token| token.content).collect()
    }

    /// The text of every added token, special or not.
    #[must_use]
    pub fn added_texts(&self) -> Vec<String> {
        let added: BTreeMap<_, _> =
            self.reference.inner().get_added_tokens_decoder().into_iter().collect();
        added.into_values().map(|token| token.content).collect()
    }

    /// Tokenizes a text, with BOS first. If the tokenizer fails, returns the reason to quarantine
    /// the row.
    pub fn ids(&self, text: &str) -> std::result::Result<Vec<u32>, Reason> {
        let mut ids = self.room(text);
        self.encoder.ids(text, &mut ids)?;
        check_ids(&ids)?;
        self.lead_once(&mut ids);
        ids.shrink_to_fit();
        Ok(ids)
    }

    /// Tokenizes a text and labels every token.
    pub fn sample_of_all(&self, text: &str) -> std::result::Result<Sample, Reason> {
        let ids = self.ids(text)?;
        Ok(Sample { trained: joined(std::iter::once(0..ids.len() as u32).collect()), ids })
    }

    /// Tokenizes a rendered dialogue and converts the ranges of its text that contribute to the
    /// loss into ranges of ids. A token counts if it contains any such character, as in the
    /// assistant masks of `transformers`.
    pub fn sample(
        &self,
        text: &str,
        trained: &[Range<usize>],
    ) -> std::result::Result<Sample, Reason> {
        let Sample { mut ids, mut trained } = self.sample_of_text(text, trained)?;
        if !ids.starts_with(&self.lead) {
            let shift = self.lead.len() as u32;
            ids.splice(..0, self.lead.iter().copied());
            trained.iter_mut().for_each(|range| *range = range.start + shift..range.end + shift);
        }
        Ok(Sample { ids, trained })
    }

    /// Like [`Tokenizer::sample`], but adds nothing in front of the text.
    pub fn sample_of_text(
        &self,
        text: &str,
        trained: &[Range<usize>],
    ) -> std::result::Result<Sample, Reason> {
        let mut ids = Vec::with_capacity(self.lead.len() + text.len() / 3 + 8);
        let mut spans = Vec::with_capacity(ids.capacity());
        self.encoder.spans(text, &mut ids, &mut spans)?;
        check_ids(&ids)?;
        ids.shrink_to(ids.len() + self.lead.len());
        let trained = trained.iter().map(|range| {
            let range = whole_characters(text, range);
            let start = spans.partition_point(|span| span.end as usize <= range.start);
            let end = spans.partition_point(|span| (span.start as usize) < range.end);
            start as u32..end as u32
        });
        Ok(Sample { trained: joined(trained.filter(|range| !range.is_empty()).collect()), ids })
    }

    /// The id of a text that is one entry of the vocabulary.
    #[must_use]
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.reference.inner().token_to_id(token)
    }

    /// Returns the ids that the tokenizer adds at the start, with capacity for those of the text.
    /// Dialogues have three to four bytes per token.
    fn room(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(self.lead.len() + text.len() / 3 + 8);
        ids.extend_from_slice(&self.lead);
        ids
    }

    /// Removes the ids that the tokenizer adds at the start if the text already starts with them.
    fn lead_once(&self, ids: &mut Vec<u32>) {
        let lead = self.lead.len();
        if ids[lead..].starts_with(&self.lead) {
            ids.drain(..lead);
        }
    }

    /// The files from which `transformers` loads this tokenizer with this template, as names and
    /// bytes.
    pub fn files(&self, template: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let mut config = self.files.config.clone();
        for key in [
            "added_tokens_decoder",
            "sp_model_kwargs",
            "legacy",
            "add_bos_token",
            "add_eos_token",
            "auto_map",
            special::OWN_NAMES,
        ] {
            config.remove(key);
        }
        for (name, token) in self.special.pairs() {
            config.insert(name.to_owned(), json!(token));
        }
        if let (None, Some(eos)) = (&self.special.pad, &self.special.eos) {
            config.insert("pad_token".to_owned(), json!(eos));
        }
        // Any other class rebuilds the tokenizer from its parts and produces other ids.
        config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
        config.insert("chat_template".to_owned(), json!(template));
        let config = serde_json::to_vec_pretty(&config)
            .map_err(|error| Error::Internal(error.to_string()))?;
        Ok(vec![("tokenizer.json", self.json().to_owned()), ("tokenizer_config.json", config)])
    }
}

/// Checks that ids fit into the 31 bits that shards store.
fn check_ids(ids: &[u32]) -> std::result::Result<(), Reason> {
    match ids.iter().max() {
        Some(id) if i32::try_from(*id).is_err() => {
            Err(Reason::found(Code::Tokenizer, format!("token id {id} does not fit into 31 bits")))
        }
        _ => Ok(()),
    }
}

/// The range, extended to full characters.
fn whole_characters(text: &str, range: &Range<usize>) -> Range<usize> {
    let boundary = |at: &usize| text.is_char_boundary(*at);
    let start = (0..=range.start.min(text.len())).rev().find(boundary).unwrap_or(0);
    start..(range.end..text.len()).find(boundary).unwrap_or(text.len())
}

/// Ranges that touch or overlap, as one.
fn joined(ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    let mut joined: Vec<Range<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// The directory of a tokenizer's files and its `tokenizer.json`, for the path of either.
fn folder_and_file(path: &Path) -> (&Path, PathBuf) {
    if path.is_dir() {
        (path, path.join("tokenizer.json"))
    } else {
        (path.parent().unwrap_or(path), path.to_owned())
    }
}
