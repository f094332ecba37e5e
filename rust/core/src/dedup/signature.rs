//! What [`Seen`](super::Seen) compares of a row: the hash of its text, its shingles and their bands.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_128;

use super::minhash::{self, BANDS};
use super::{marked, tokens};
use crate::code;
use crate::dialogue::{Dialogue, Role, Turn};
use crate::recipe::{Compared, Dedup};

/// The part of a dialogue that is compared. Empty if the dialogue lacks the part that the recipe
/// selects.
#[derive(Debug, Default)]
pub struct Signature {
    /// XXH3-128 of the compared text.
    pub(super) exact: Option<u128>,
    /// The near-dedup part, if enabled and the text has words.
    pub(super) near: Option<Near>,
}

#[derive(Debug)]
pub(super) struct Near {
    pub(super) bands: [u32; BANDS],
    /// Hashes of the shingles of words, ascending, each once.
    pub(super) shingles: Vec<u64>,
    /// The record of signs, case and indentation, empty if the row is long.
    pub(super) marked: Vec<u64>,
}

/// Signs a dialogue. The result depends only on the text and the recipe.
#[must_use]
pub fn sign(dialogue: &Dialogue, dedup: &Dedup) -> Signature {
    let turns = compared(dialogue, dedup.of);
    if turns.is_empty() {
        return Signature::default();
    }
    let texts = with_code(texts_of(dialogue, turns, dedup.of));
    Signature {
        exact: dedup.is_exact().then(|| hash_text(&texts)),
        near: if dedup.near { sign_near(&texts) } else { None },
    }
}

/// The near-dedup part of messages, each with whether it has code. `None` if they have no words.
fn sign_near(texts: &[(Cow<'_, str>, bool)]) -> Option<Near> {
    let words = tokens::words(texts.iter().map(|(text, _)| text.as_ref()));
    let shingles = minhash::shingles(&words);
    (!shingles.is_empty()).then(|| Near {
        bands: minhash::bands(&shingles),
        shingles,
        marked: marked::record(words.len(), texts),
    })
}

/// The messages that the recipe compares.
fn compared(dialogue: &Dialogue, of: Compared) -> &[Turn] {
    let turns = &dialogue.turns;
    let index = match of {
        Compared::Dialogue => return turns,
        Compared::Prompt => turns.iter().position(|turn| turn.role == Role::User),
        Compared::LastReply => turns.iter().rposition(|turn| turn.role == Role::Assistant),
    };
    index.map_or(&[], |index| &turns[index..=index])
}

/// The texts of messages, and as JSON what else a template may show: members such as tool calls, and
/// the tools of the dialogue.
fn texts_of<'text>(
    dialogue: &'text Dialogue,
    turns: &'text [Turn],
    of: Compared,
) -> impl Iterator<Item = Cow<'text, str>> {
    let inputs = dialogue.inputs.iter().filter(move |_| of == Compared::Dialogue);
    let inputs = inputs.map(|inputs| Cow::Owned(inputs.json()));
    let of_turn = |turn: &'text Turn| {
        let extras = turn.extras.iter().filter(|extras| !extras.members.is_empty());
        let members = extras
            .map(|extras| Cow::Owned(serde_json::Value::from(extras.members.clone()).to_string()));
        std::iter::once(Cow::Borrowed(turn.text.as_str())).chain(members)
    };
    turns.iter().flat_map(of_turn).chain(inputs)
}

/// Texts, each with whether it has code.
fn with_code<'text>(texts: impl Iterator<Item = Cow<'text, str>>) -> Vec<(Cow<'text, str>, bool)> {
    let with_code = |text: Cow<'text, str>| {
        let has_code = code::is_in(&text);
        (text, has_code)
    };
    texts.map(with_code).collect()
}

fn hash_text(texts: &[(Cow<'_, str>, bool)]) -> u128 {
    let mut key = Vec::with_capacity(texts.iter().map(|(text, _)| text.len() + 2).sum());
    texts.iter().for_each(|(text, has_code)| tokens::append_text(text, *has_code, &mut key));
    xxh3_128(&key)
}

/// The hash of all messages of a dialogue, and of what else a template may show.
#[must_use]
pub fn sign_dialogue(dialogue: &Dialogue) -> u128 {
    hash_text(&with_code(texts_of(dialogue, &dialogue.turns, Compared::Dialogue)))
}

/// Signs a row by its raw bytes, which `binarize` compares.
#[must_use]
pub fn sign_bytes(row: &[u8]) -> Signature {
    Signature { exact: Some(xxh3_128(row.trim_ascii())), near: None }
}
