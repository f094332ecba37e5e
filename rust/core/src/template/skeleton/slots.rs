//! The slots of a dialogue's texts in a rendering: first the contents of the messages, then the
//! texts within their other members, such as the arguments of calls. Everything else is the
//! sequence, for which a text is kept.
//!
//! An example (`the_example_at_the_head_has_these_slots`): the slots are shown as digits.
//!
//! ```text
//! dialogue  user "Why?", then assistant "" with these calls
//!           [{"type": "function", "name": "look", "arguments": {"n": 2, "at": "a"}}]
//! slots     user 0, then assistant "" with
//!           [{"type": "function", "name": 1, "arguments": {"n": 2, "at": 2}}]
//! ```

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::Wanted;
use crate::dialogue::{Content, Role, Script, Turn};
use crate::template::marks::has_parts;
use crate::template::python::is_space;

/// Longer dialogues are rendered with Jinja, and so are those with more slots.
pub(super) const MESSAGES_MAX: usize = 32;
pub(super) const SLOTS_MAX: usize = 256;
/// The placeholder of the first slot, which those of the others follow: private characters.
pub(super) const FIRST: char = '\u{F0000}';
pub(super) const PLACEHOLDER_BYTES: usize = FIRST.len_utf8();
/// The member for the type of a value. Templates compare it.
const TYPE: &str = "type";

/// The sequence of a dialogue. Usual are questions and answers in turn, after a system message or
/// none, without anything but roles and texts. Of all others there are too many to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) wanted: Wanted,
    pub(super) has_system: bool,
    pub(super) messages: usize,
    /// Unless it is usual, SHA-256 of everything outside the slots. A weaker hash could be the same
    /// for two sequences, and then a dialogue would get the text of another.
    pub(super) unusual: Option<[u8; 32]>,
}

/// A text of a dialogue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot<'row> {
    pub(super) text: &'row str,
    /// The index of its message.
    pub(super) message: usize,
    pub(super) is_content: bool,
    /// Whether it must not have white space at its ends, because marks leave that outside.
    pub(super) is_bare: bool,
}

impl Key {
    /// The sequence of a dialogue, and its slots.
    pub(super) fn of(script: Script<'_>, wanted: Wanted) -> Option<(Key, Vec<Slot<'_>>)> {
        let turns = script.turns;
        let has_system = turns.first()?.role == Role::System;
        let rest = &turns[usize::from(has_system)..];
        let role = |index| if index % 2 == 0 { Role::User } else { Role::Assistant };
        let has_extras = script.inputs.is_some() || turns.iter().any(|turn| turn.extras.is_some());
        let is_usual = || rest.iter().enumerate().all(|(index, turn)| turn.role == role(index));
        // The start of an answer that comes first is not proven by what is written before it.
        let starts_with_answer = || rest.first().is_some_and(|turn| turn.role == Role::Assistant);
        if turns.len() > MESSAGES_MAX || if has_extras { starts_with_answer() } else { !is_usual() }
        {
            return None;
        }
        let slots = slots(turns);
        let is_complete = has_extras || slots.len() == turns.len();
        (is_complete && slots.len() <= SLOTS_MAX).then(|| {
            let unusual = has_extras.then(|| Sha256::digest(sequence(script)).into());
            (Key { wanted, has_system, messages: turns.len(), unusual }, slots)
        })
    }
}

/// The slots of messages in order, first those of all contents.
pub(super) fn slots(turns: &[Turn]) -> Vec<Slot<'_>> {
    let turns = || turns.iter().enumerate();
    let contents = turns().filter(|(_, turn)| has_slot(turn)).map(|(message, turn)| Slot {
        text: &turn.text,
        message,
        is_content: true,
        is_bare: has_parts(turn),
    });
    let mut slots: Vec<Slot<'_>> = contents.collect();
    for (message, extras) in
        turns().filter_map(|(message, turn)| Some((message, turn.extras.as_ref()?)))
    {
        let slot = |text| Slot { text, message, is_content: false, is_bare: true };
        each_of_members(&extras.members, &mut |text| slots.push(slot(text)));
    }
    slots
}

/// The messages with a placeholder in each slot.
pub(super) fn with_placeholders(turns: &[Turn]) -> Vec<Turn> {
    let mut turns = turns.to_vec();
    let mut letters = FIRST..;
    let mut next = || letters.next().map(String::from).unwrap_or_default();
    for turn in turns.iter_mut().filter(|turn| has_slot(turn)) {
        turn.text = next();
    }
    replace_in_members(&mut turns, &mut |_| next());
    turns
}

/// Replaces the text in each slot but those of contents.
pub(super) fn replace_in_members(turns: &mut [Turn], replaced: &mut impl FnMut(&str) -> String) {
    for extras in turns.iter_mut().filter_map(|turn| turn.extras.as_mut()) {
        replace_each(&mut extras.members, replaced);
    }
}

/// Whether a character is a placeholder.
pub(super) fn is_placeholder(letter: char) -> bool {
    number(letter).is_some()
}

/// The number of the slot that a placeholder stands for.
pub(super) fn number(letter: char) -> Option<usize> {
    (letter as usize).checked_sub(FIRST as usize).filter(|number| *number < SLOTS_MAX)
}

fn has_slot(turn: &Turn) -> bool {
    matches!(turn.content(), Content::Text | Content::Part) && !is_blank(&turn.text)
}

fn is_blank(text: &str) -> bool {
    text.chars().all(is_space)
}

/// Whether a text within a member is a slot.
fn is_open(name: Option<&str>, text: &str) -> bool {
    name != Some(TYPE) && !is_blank(text)
}

fn each_of_members<'row>(members: &'row Map<String, Value>, see: &mut impl FnMut(&'row str)) {
    members.iter().for_each(|(name, value)| each(Some(name), value, see));
}

fn each<'row>(name: Option<&str>, value: &'row Value, see: &mut impl FnMut(&'row str)) {
    match value {
        Value::String(text) if is_open(name, text) => see(text),
        Value::Array(values) => values.iter().for_each(|value| each(None, value, see)),
        Value::Object(members) => each_of_members(members, see),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn replace_each(members: &mut Map<String, Value>, replaced: &mut impl FnMut(&str) -> String) {
    members.iter_mut().for_each(|(name, value)| replace(Some(name), value, replaced));
}

fn replace(name: Option<&str>, value: &mut Value, replaced: &mut impl FnMut(&str) -> String) {
    match value {
        Value::String(text) if is_open(name, text) => *text = replaced(text),
        Value::Array(values) => values.iter_mut().for_each(|value| replace(None, value, replaced)),
        Value::Object(members) => replace_each(members, replaced),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Everything of a dialogue outside its slots: its inputs, and its messages with placeholders. No text
/// outside a slot is a placeholder, except that of a type.
fn sequence(script: Script<'_>) -> String {
    let mut written = script.inputs.map_or_else(String::new, |inputs| inputs.json());
    for turn in with_placeholders(script.turns) {
        let members = turn.extras.as_ref().map(|extras| &extras.members);
        let kind = format!("{:?}", turn.content());
        let message = (turn.role.name(), kind, turn.is_trained(), &turn.text, members);
        written.push('\n');
        written += &serde_json::to_string(&message).expect("JSON can be written");
    }
    written
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialogue::{CALLS, Extras};

    #[test]
    fn the_example_at_the_head_has_these_slots() {
        let calls = json!([{"type": "function", "name": "look", "arguments": {"n": 2, "at": "a"}}]);
        let members = [(CALLS.to_owned(), calls)].into_iter().collect();
        let extras = Some(Box::new(Extras { members, ..Extras::default() }));
        let turns =
            [Turn::new(Role::User, "Why?"), Turn { extras, ..Turn::new(Role::Assistant, "") }];
        let found: Vec<(&str, usize)> =
            slots(&turns).iter().map(|slot| (slot.text, slot.message)).collect();
        assert_eq!(found, [("Why?", 0), ("look", 1), ("a", 1)]);
        let [question, name, argument] = [FIRST, '\u{F0001}', '\u{F0002}'];
        let expected = format!(
            "\n[\"user\",\"Text\",false,\"{question}\",null]\
            \n[\"assistant\",\"Text\",true,\"\",{{\"tool_calls\":[{{\"type\":\"function\",\
            \"name\":\"{name}\",\"arguments\":{{\"n\":2,\"at\":\"{argument}\"}}}}]}}]"
        );
        assert_eq!(sequence((&turns).into()), expected);
    }
}
