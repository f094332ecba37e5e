//! The slots of a dialogue in a rendering: first the contents of the messages, then the texts and
//! sealed values within their other members, then sealed tools. Everything else is the sequence, for
//! which a text is kept.
//!
//! An example (`the_example_at_the_head_has_these_slots`): the slots are shown as digits.
//!
//! ```text
//! dialogue  user "Why?", then assistant "" with these calls
//!           [{"type": "function", "name": "look", "arguments": {"n": 2, "at": "a"}}]
//! slots     user 0, then assistant "" with
//!           [{"type": "function", "name": 1, "arguments": {"n": 2, "at": 2}}]
//! sealed    [{"type": "function", "name": 1, "arguments": 2}]
//! ```

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::Wanted;
use super::sealed::{Seals, is_of_stand_in, stand_in};
use crate::dialogue::{Content, Role, Script, TemplateInputs, Turn};
use crate::template::marks::has_parts;
use crate::template::python::is_space;

/// Longer dialogues are rendered with Jinja, and so are those with more slots.
pub(super) const MESSAGES_MAX: usize = 32;
pub(super) const SLOTS_MAX: usize = 256;
/// The placeholder of the first slot, which those of the others follow: private characters.
pub(super) const FIRST: char = '\u{F0000}';
/// The member for the type of a value. Templates compare it.
const TYPE: &str = "type";
/// The member of a call that may be sealed.
const ARGUMENTS: &str = "arguments";

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
    /// What is sealed if it is unusual.
    pub(super) seals: Seals,
}

/// A text or a sealed value of a dialogue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot<'row> {
    /// The text. That of a sealed value is empty until it is written as JSON.
    pub(super) text: &'row str,
    pub(super) sealed: Option<&'row Value>,
    /// The index of its message, unless it is a tool.
    pub(super) message: Option<usize>,
    pub(super) is_content: bool,
    /// Whether it must not have white space at its ends, because marks leave that outside.
    pub(super) is_bare: bool,
}

impl Key {
    /// The sequence of a dialogue, and its slots.
    pub(super) fn of(
        script: Script<'_>,
        wanted: Wanted,
        seals: Seals,
    ) -> Option<(Key, Vec<Slot<'_>>)> {
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
        let seals = if has_extras { seals } else { Seals::default() };
        let slots = slots(script, seals);
        let is_complete = has_extras || slots.len() == turns.len();
        (is_complete && slots.len() <= SLOTS_MAX).then(|| {
            let unusual = has_extras.then(|| Sha256::digest(sequence(script, seals)).into());
            (Key { wanted, has_system, messages: turns.len(), unusual, seals }, slots)
        })
    }
}

impl<'row> Slot<'row> {
    /// The slot of a value that is not a content.
    fn of(value: &'row Value, message: Option<usize>) -> Slot<'row> {
        Slot {
            text: value.as_str().unwrap_or_default(),
            sealed: Some(value).filter(|value| value.is_object()),
            message,
            is_content: false,
            is_bare: true,
        }
    }
}

/// The slots of a dialogue in order, first those of all contents.
pub(super) fn slots(script: Script<'_>, seals: Seals) -> Vec<Slot<'_>> {
    let turns = || script.turns.iter().enumerate();
    let contents = turns().filter(|(_, turn)| has_slot(turn)).map(|(message, turn)| Slot {
        text: &turn.text,
        sealed: None,
        message: Some(message),
        is_content: true,
        is_bare: has_parts(turn),
    });
    let mut slots: Vec<Slot<'_>> = contents.collect();
    for (message, extras) in
        turns().filter_map(|(message, turn)| Some((message, turn.extras.as_ref()?)))
    {
        each_of(&extras.members, seals, &mut |value| slots.push(Slot::of(value, Some(message))));
    }
    let tools = script.inputs.and_then(|inputs| inputs.tools.as_ref()?.as_array());
    let tools = tools.into_iter().flatten().filter(|tool| is_sealed(tool, seals));
    slots.extend(tools.map(|tool| Slot::of(tool, None)));
    slots
}

/// The messages and inputs with a placeholder in each slot.
pub(super) fn with_placeholders(
    script: Script<'_>,
    seals: Seals,
) -> (Vec<Turn>, Option<TemplateInputs>) {
    let (mut turns, mut inputs) = (script.turns.to_vec(), script.inputs.cloned());
    let mut letters = FIRST..;
    let mut next = || letters.next().map(String::from).unwrap_or_default();
    for turn in turns.iter_mut().filter(|turn| has_slot(turn)) {
        turn.text = next();
    }
    let mut replaced = |value: &Value| {
        if value.is_object() { stand_in(next()) } else { next().into() }
    };
    replace_in_members(&mut turns, seals, &mut replaced);
    let tools = inputs.as_mut().and_then(|inputs| inputs.tools.as_mut()?.as_array_mut());
    for tool in tools.into_iter().flatten().filter(|tool| is_sealed(tool, seals)) {
        *tool = replaced(tool);
    }
    (turns, inputs)
}

/// Replaces the value in each slot but those of contents and tools.
pub(super) fn replace_in_members(
    turns: &mut [Turn],
    seals: Seals,
    replaced: &mut impl FnMut(&Value) -> Value,
) {
    for extras in turns.iter_mut().filter_map(|turn| turn.extras.as_mut()) {
        replace_each(&mut extras.members, seals, replaced);
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

/// Whether a value within a member is a slot.
fn is_open(name: Option<&str>, value: &Value, seals: Seals) -> bool {
    match value {
        Value::String(text) => {
            name != Some(TYPE) && !name.is_some_and(is_of_stand_in) && !is_blank(text)
        }
        _ => seals.arguments && name == Some(ARGUMENTS) && value.is_object() && has_text(value),
    }
}

fn is_sealed(tool: &Value, seals: Seals) -> bool {
    seals.tools && tool.as_object().is_some_and(|members| !members.is_empty())
}

/// Whether a value is or holds a text that marks go around. An answer may end with its mark.
fn has_text(value: &Value) -> bool {
    match value {
        Value::String(text) => !is_blank(text),
        Value::Array(values) => values.iter().any(has_text),
        Value::Object(members) => members.values().any(has_text),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn each_of<'row>(
    members: &'row Map<String, Value>,
    seals: Seals,
    see: &mut impl FnMut(&'row Value),
) {
    members.iter().for_each(|(name, value)| each(Some(name), value, seals, see));
}

fn each<'row>(
    name: Option<&str>,
    value: &'row Value,
    seals: Seals,
    see: &mut impl FnMut(&'row Value),
) {
    match value {
        _ if is_open(name, value, seals) => see(value),
        Value::Array(values) => values.iter().for_each(|value| each(None, value, seals, see)),
        Value::Object(members) => each_of(members, seals, see),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn replace_each(
    members: &mut Map<String, Value>,
    seals: Seals,
    replaced: &mut impl FnMut(&Value) -> Value,
) {
    members.iter_mut().for_each(|(name, value)| replace(Some(name), value, seals, replaced));
}

fn replace(
    name: Option<&str>,
    value: &mut Value,
    seals: Seals,
    replaced: &mut impl FnMut(&Value) -> Value,
) {
    match value {
        _ if is_open(name, value, seals) => *value = replaced(value),
        Value::Array(values) => {
            values.iter_mut().for_each(|value| replace(None, value, seals, replaced));
        }
        Value::Object(members) => replace_each(members, seals, replaced),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Everything of a dialogue outside its slots: its inputs and messages with placeholders. No text
/// outside a slot is a placeholder, except that of a type.
fn sequence(script: Script<'_>, seals: Seals) -> String {
    let (turns, inputs) = with_placeholders(script, seals);
    let mut written = inputs.map_or_else(String::new, |inputs| inputs.json());
    for turn in turns {
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
        let seals = Seals { tools: true, arguments: true };
        let found = |seals| {
            let slots = slots((&turns).into(), seals);
            slots.iter().map(|slot| slot.text.to_owned()).collect::<Vec<String>>()
        };
        assert_eq!(found(Seals::default()), ["Why?", "look", "a"]);
        assert_eq!(found(seals), ["Why?", "look", ""]);
        let [question, name, argument] = [FIRST, '\u{F0001}', '\u{F0002}'];
        let expected = |arguments: String| {
            format!(
                "\n[\"user\",\"Text\",false,\"{question}\",null]\
                \n[\"assistant\",\"Text\",true,\"\",{{\"tool_calls\":[{{\"type\":\"function\",\
                \"name\":\"{name}\",\"arguments\":{arguments}}}]}}]"
            )
        };
        let open = expected(format!("{{\"n\":2,\"at\":\"{argument}\"}}"));
        assert_eq!(sequence((&turns).into(), Seals::default()), open);
        assert_eq!(sequence((&turns).into(), seals), expected(format!("{{\"{argument}\":\"a\"}}")));
    }
}
