//! Builds the fast engine from a tokenizer's parts, or names the part it does not support.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;

use super::added::{Added, Content};
use super::classes::Classes;
use super::cuts::{Cuts, SPACE};
use super::lexicon::{Lexicon, MISSING, Spelling};
use super::merges::Merges;
use super::pieces::{Pieces, Prefix};
use super::vocabulary::Vocabulary;
use super::words::{GPT2, LLAMA3, Pattern, QWEN, Words};
use crate::tokenize::fast::{Cutter, Fast};
use crate::tokenize::reference::Reference;

/// How the parts before the model change a text.
struct Front {
    cutter: Option<Pattern>,
    prefix: Prefix,
    content: Content,
    /// A cut before every `▁`.
    splits: bool,
    nfc: bool,
}

/// Builds the fast engine for a tokenizer, or returns the reason why it cannot.
pub(in crate::tokenize) fn build(reference: Arc<Reference>, json: &[u8]) -> Result<Fast, String> {
    let inner = reference.inner();
    let value = |part: serde_json::Result<Value>| part.map_err(|error| error.to_string());
    let normalizer = value(serde_json::to_value(inner.get_normalizer()))?;
    let pre_tokenizer = value(serde_json::to_value(inner.get_pre_tokenizer()))?;
    check_post_processor(&value(serde_json::to_value(inner.get_post_processor()))?)?;
    let ModelWrapper::BPE(model) = inner.get_model().inner() else {
        return Err("the model is not BPE".to_owned());
    };
    check_model(model)?;
    let front = front(&normalizer, &pre_tokenizer)?;
    let mut tokens: Vec<_> = inner.get_added_tokens_decoder().into_iter().collect();
    tokens.sort_by_key(|(id, _)| *id);
    if front.nfc && tokens.iter().any(|(_, token)| token.normalized && !token.content.is_ascii()) {
        return Err("the normalizer changes an added token".to_owned());
    }
    let added = Added::new(&tokens, front.content)?;
    let vocabulary = Vocabulary::new(model, json)?;
    let (cutter, spelling) = match front.cutter {
        Some(pattern) => (
            Cutter::Words(Words { pattern, classes: Classes::new() }),
            byte_spelling(&vocabulary, model)?,
        ),
        None => character_spelling(&vocabulary, model, &front)?,
    };
    let lexicon =
        Lexicon { merges: Merges::new(&vocabulary.merges, spelling.alphabet())?, spelling };
    Ok(Fast { added, cutter, lexicon, nfc: front.nfc, reference, scratches: Mutex::default() })
}

/// Only the post-processor's effect on offsets matters, because no tokens are added around a text
/// here.
fn check_post_processor(value: &Value) -> Result<(), String> {
    match value["type"].as_str() {
        None if value.is_null() => Ok(()),
        Some("TemplateProcessing") => Ok(()),
        Some("ByteLevel") if value["trim_offsets"] == false => Ok(()),
        Some("Sequence") => {
            value["processors"].as_array().into_iter().flatten().try_for_each(check_post_processor)
        }
        name => Err(format!("unsupported post-processor `{}`", name.unwrap_or("?"))),
    }
}

fn check_model(model: &BPE) -> Result<(), String> {
    let is_set = |option: &Option<String>| option.as_ref().is_some_and(|text| !text.is_empty());
    if is_set(&model.continuing_subword_prefix) || is_set(&model.end_of_word_suffix) {
        return Err("the model sets `continuing_subword_prefix` or `end_of_word_suffix`".to_owned());
    }
    Ok(())
}

fn front(normalizer: &Value, pre_tokenizer: &Value) -> Result<Front, String> {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let legacy =
        json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]});
    let pieces =
        |prefix, content| Front { cutter: None, prefix, content, splits: false, nfc: false };
    let normalizer_name = normalizer["type"].as_str().unwrap_or("none");
    if pre_tokenizer.is_null() && *normalizer == legacy {
        return Ok(pieces(Prefix::Fresh, Content::Prefixed));
    }
    if pre_tokenizer.is_null() && *normalizer == replace {
        return Ok(pieces(Prefix::Never, Content::Spaced));
    }
    if pre_tokenizer["type"] == "Metaspace"
        && normalizer.is_null()
        && pre_tokenizer["replacement"] == "▁"
    {
        let prefix = match pre_tokenizer["prepend_scheme"].as_str() {
            Some("always") => Prefix::Unspaced,
            Some("first") => Prefix::UnspacedFirst,
            _ => Prefix::Never,
        };
        return Ok(Front {
            splits: pre_tokenizer["split"] == true,
            ..pieces(prefix, Content::Kept)
        });
    }
    if !(normalizer.is_null() || normalizer_name == "NFC") {
        return Err(format!("unsupported normalizer `{normalizer_name}`"));
    }
    let cutter = Some(pattern(pre_tokenizer)?);
    Ok(Front { cutter, nfc: !normalizer.is_null(), ..pieces(Prefix::Never, Content::Kept) })
}

fn pattern(pre_tokenizer: &Value) -> Result<Pattern, String> {
    let is_plain = |value: &Value, use_regex: bool| {
        value["type"] == "ByteLevel"
            && value["add_prefix_space"] == false
            && value["use_regex"] == use_regex
    };
    if is_plain(pre_tokenizer, true) {
        return Ok(Pattern::Gpt2);
    }
    let unknown = || {
        format!("unsupported pre-tokenizer `{}`", pre_tokenizer["type"].as_str().unwrap_or("none"))
    };
    let Some([first, last]) = pre_tokenizer["pretokenizers"].as_array().map(Vec::as_slice) else {
        return Err(unknown());
    };
    if first["type"] == "Digits" && first["individual_digits"] == true && is_plain(last, true) {
        return Ok(Pattern::DigitsGpt2);
    }
    if first["type"] != "Split"
        || first["behavior"] != "Isolated"
        || first["invert"] != false
        || !is_plain(last, false)
    {
        return Err(unknown());
    }
    match first["pattern"]["Regex"].as_str() {
        Some(GPT2) => Ok(Pattern::Gpt2),
        Some(LLAMA3) => Ok(Pattern::Llama3 { digits_max: 3 }),
        Some(QWEN) => Ok(Pattern::Llama3 { digits_max: 1 }),
        _ => Err("unsupported pre-tokenizer pattern".to_owned()),
    }
}

fn byte_spelling(vocabulary: &Vocabulary, model: &BPE) -> Result<Spelling, String> {
    let ids = vocabulary.alphabet_bytes();
    if ids.contains(&MISSING) && (model.unk_token.is_some() || model.byte_fallback) {
        return Err("the vocabulary lacks a byte".to_owned());
    }
    Ok(Spelling::Bytes { ids, whole: model.ignore_merges.then(|| vocabulary.whole_words()) })
}

fn character_spelling(
    vocabulary: &Vocabulary,
    model: &BPE,
    front: &Front,
) -> Result<(Cutter, Spelling), String> {
    let bytes = vocabulary.fallback_bytes();
    if model.ignore_merges || !model.byte_fallback || bytes.contains(&MISSING) {
        return Err("the model has no complete byte fallback, or ignores merges".to_owned());
    }
    if vocabulary
        .merges
        .iter()
        .any(|(left, right, _)| bytes.contains(left) || bytes.contains(right))
    {
        return Err("some merges join byte-fallback tokens".to_owned());
    }
    let space =
        *vocabulary.ids.get(SPACE.encode_utf8(&mut [0; 4])).ok_or("the vocabulary lacks `▁`")?;
    let single = |piece: &str| {
        let mut characters = piece.chars();
        characters.next().filter(|_| characters.next().is_none())
    };
    let mut ascii = Box::new([MISSING; 128]);
    let mut others = hashbrown::HashMap::new();
    for (character, id) in
        vocabulary.ids.iter().filter_map(|(piece, id)| Some((single(piece)?, *id)))
    {
        match ascii.get_mut(character as usize) {
            Some(slot) => *slot = id,
            None => _ = others.insert(character, id),
        }
    }
    // Normalized texts contain no space, only `▁`.
    ascii[usize::from(b' ')] = space;
    let joined =
        vocabulary.joined.iter().copied().filter(|(_, right)| !front.splits || *right != SPACE);
    let pieces = Pieces { cuts: Cuts::new(joined), prefix: front.prefix, space };
    Ok((Cutter::Pieces(pieces), Spelling::Characters { ascii, others, bytes }))
}
