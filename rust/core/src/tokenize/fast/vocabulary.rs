//! The vocabulary and merges of a byte-pair model in its `tokenizer.json`.

use std::borrow::Cow;

use hashbrown::HashMap;
use serde::Deserialize;
use tokenizers::Model;
use tokenizers::models::bpe::BPE;

use super::cache::{SHORT_MAX, key};
use super::lexicon::MISSING;

/// The parts of a byte-pair model.
pub(super) struct Vocabulary {
    /// Ids of pieces.
    pub ids: HashMap<String, u32>,
    /// Left, right and new id, first merge first.
    pub merges: Vec<(u32, u32, u32)>,
    /// For each merge the last character of its left piece and the first of its right.
    pub joined: Vec<(char, char)>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    model: Merging<'a>,
}

#[derive(Deserialize)]
struct Merging<'a> {
    #[serde(borrow)]
    merges: Vec<Merge<'a>>,
}

/// A merge, written as a line or as a pair.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Line(#[serde(borrow)] Cow<'a, str>),
    Pair(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>),
}

impl Vocabulary {
    /// Reads the merges from the file. The crate has already read the rest.
    pub(super) fn new(model: &BPE, json: &[u8]) -> Result<Vocabulary, String> {
        let ids: HashMap<String, u32> = Model::get_vocab(model).into_iter().collect();
        let file: File = serde_json::from_slice(json)
            .map_err(|error| format!("cannot read the merges: {error}"))?;
        let mut vocabulary = Vocabulary { ids, merges: Vec::new(), joined: Vec::new() };
        let mut whole = String::new();
        for merge in &file.model.merges {
            let (left, right) = match merge {
                Merge::Line(line) if line.starts_with("#version") => continue,
                Merge::Line(line) => line.split_once(' ').ok_or("a merge is not a pair")?,
                Merge::Pair(left, right) => (left.as_ref(), right.as_ref()),
            };
            vocabulary
                .add(left, right, &mut whole)
                .ok_or("a merge refers to a token that is not in the vocabulary")?;
        }
        Ok(vocabulary)
    }

    fn add(&mut self, left: &str, right: &str, whole: &mut String) -> Option<()> {
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        self.merges.push((
            *self.ids.get(left)?,
            *self.ids.get(right)?,
            *self.ids.get(whole.as_str())?,
        ));
        self.joined.push((left.chars().next_back()?, right.chars().next()?));
        Some(())
    }

    /// The ids of `<0x00>` to `<0xFF>`, with [`MISSING`] for missing ones.
    pub(super) fn fallback_bytes(&self) -> Box<[u32; 256]> {
        Box::new(std::array::from_fn(|byte| {
            self.ids.get(&format!("<{byte:#04X}>")).copied().unwrap_or(MISSING)
        }))
    }

    /// The ids of bytes in the byte alphabet, with [`MISSING`] for missing ones.
    pub(super) fn alphabet_bytes(&self) -> Box<[u32; 256]> {
        let mut bytes = Box::new([MISSING; 256]);
        for (character, byte) in alphabet() {
            bytes[usize::from(byte)] =
                self.ids.get(character.encode_utf8(&mut [0; 4])).copied().unwrap_or(MISSING);
        }
        bytes
    }

    /// All pieces spelled in the byte alphabet, as bytes.
    pub(super) fn whole_words(&self) -> WholeWords {
        let alphabet: HashMap<char, u8> = alphabet().collect();
        let mut words = WholeWords { short: HashMap::new(), long: HashMap::new() };
        for (piece, id) in &self.ids {
            let bytes = piece
                .chars()
                .map(|character| alphabet.get(&character).copied())
                .collect::<Option<Box<[u8]>>>();
            match bytes {
                Some(word) if word.len() <= SHORT_MAX => {
                    _ = words.short.insert(key(&word, 0, word.len()), *id)
                }
                Some(word) => _ = words.long.insert(word, *id),
                None => {}
            }
        }
        words
    }
}

/// Tokens by their bytes. Short ones use the cache's key, which is stored in the table itself,
/// because a lookup mostly waits for memory.
pub(super) struct WholeWords {
    short: HashMap<u128, u32>,
    long: HashMap<Box<[u8]>, u32>,
}

impl WholeWords {
    /// The token that equals this word.
    pub(super) fn get(&self, word: &[u8]) -> Option<u32> {
        let id = if word.len() <= SHORT_MAX {
            self.short.get(&key(word, 0, word.len()))
        } else {
            self.long.get(word)
        };
        id.copied()
    }
}

/// GPT-2's byte alphabet: printable bytes stand for themselves, the others for the characters from
/// U+0100 on.
fn alphabet() -> impl Iterator<Item = (char, u8)> {
    let mut next = 0x100;
    (0..=255_u8).map(move |byte| {
        let character = match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => u32::from(byte),
            _ => {
                next += 1;
                next - 1
            }
        };
        (char::from_u32(character).unwrap_or_default(), byte)
    })
}
