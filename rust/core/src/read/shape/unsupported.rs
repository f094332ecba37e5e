//! Fields that decide what is trained but that no shape uses. A row with a value in such a field
//! is refused by the field's name: without the field it would say something else.
//!
//! The fast reader asks [`may_decide`] about keys it does not know and leaves a row with such a
//! value to [`check`], which finds the field again, looks at its value and gives the reason.

use serde_json::value::RawValue;

use super::message::text_of_part;
use super::raw::{Object, is_empty, text};
use super::{inputs, members};
use crate::stage::{Code, Reason};

/// The kind of object that a field belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The row itself.
    Row,
    /// A message of which only role and content are read.
    Message,
    /// A message with the members of [`super::members`].
    Turn,
    /// A scored answer.
    Answer,
}

/// Whether a shape reads the columns of [`super::inputs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    WithInputs,
    WithoutInputs,
}

/// A list of objects within a row: its key, and what its objects are.
pub(super) type List = (&'static str, Level);

/// Fields that are refused for one reason.
struct Group {
    names: &'static [&'static str],
    levels: &'static [Level],
    /// Which values change nothing, besides empty ones.
    harmless: Harmless,
    /// Why the fields are refused, and the way out.
    advice: &'static str,
}

/// Values of a field under which a row means the same without it.
#[derive(PartialEq, Eq)]
enum Harmless {
    None,
    /// 1 or true on a row or on an assistant's message, which is trained in any case.
    Trained,
    /// The text of the system message that the dialogue begins with.
    SystemMessage,
}

/// The name by which [`members::misplaced`] calls any flag.
pub(super) const FLAG: &str = "weight";
/// The role whose messages are trained.
pub(super) const ASSISTANT: &str = "assistant";

const EVERYWHERE: &[Level] = &[Level::Row, Level::Message, Level::Answer];
const NOT_OF_ANSWERS: &[Level] = &[Level::Row, Level::Message];
const NOT_OF_ROWS: &[Level] = &[Level::Message, Level::Answer];

const CALL_ADVICE: &str = "only `tool_calls`, `tool_call_id` and `tool_plan` of a message are \
    passed to the template: use these names, or write it into `content`";
const WEIGHT_ADVICE: &str = "a row cannot be weighted, and a message is trained or not: only 0, 1, \
    true and false are supported, on messages, and 1 and true on a row";
const MASK_ADVICE: &str = "messages and parts of them cannot be left out of training; if \
    everything is to be trained, remove the field";

/// The fields, as most sources spell them, see [`is_same`].
const GROUPS: [Group; 13] = [
    Group {
        names: &["tools", "functions", "available_tools", "tool_definitions"],
        levels: NOT_OF_ANSWERS,
        harmless: Harmless::None,
        advice: "the definitions of tools must be in the column `tools` of a row with `messages` or \
            `chosen`, as a list of objects",
    },
    Group {
        names: &["documents"],
        levels: NOT_OF_ANSWERS,
        harmless: Harmless::None,
        advice: "documents are not passed to the template; write them into a message",
    },
    Group {
        names: &["tool_calls", "function_calls"],
        levels: EVERYWHERE,
        harmless: Harmless::None,
        advice: CALL_ADVICE,
    },
    Group {
        names: &["tool_call", "function_call", "tool_call_id", "tool_plan", "tool_results"],
        levels: NOT_OF_ROWS,
        harmless: Harmless::None,
        advice: CALL_ADVICE,
    },
    Group {
        names: &[
            "reasoning_content",
            "reasoning_details",
            "reasoning",
            "thinking_content",
            "thinking",
            "thoughts",
            "thought",
        ],
        levels: NOT_OF_ROWS,
        harmless: Harmless::None,
        advice: "rename it to the member that the template reads, such as `reasoning_content`",
    },
    Group {
        names: &[
            "image",
            "images",
            "image_url",
            "audio",
            "audios",
            "input_audio",
            "video",
            "videos",
        ],
        levels: EVERYWHERE,
        harmless: Harmless::None,
        advice: "only text is supported",
    },
    Group {
        names: &["weight", "loss_weight", "loss_scale", "train", "trained", "trainable"],
        levels: NOT_OF_ANSWERS,
        harmless: Harmless::Trained,
        advice: WEIGHT_ADVICE,
    },
    // On a row, these are often what a trainer measured.
    Group {
        names: &["training", "loss"],
        levels: &[Level::Message],
        harmless: Harmless::Trained,
        advice: WEIGHT_ADVICE,
    },
    Group {
        names: &["mask", "masked"],
        levels: NOT_OF_ANSWERS,
        harmless: Harmless::None,
        advice: MASK_ADVICE,
    },
    Group {
        names: &["ignore", "train_detail", "training_detail"],
        levels: &[Level::Message],
        harmless: Harmless::None,
        advice: MASK_ADVICE,
    },
    Group {
        names: &["name", "refusal"],
        levels: &[Level::Message],
        harmless: Harmless::None,
        advice: "it is not passed to the template; write it into `content` or remove it",
    },
    Group {
        names: &["system", "system_prompt", "system_message", "system_instruction", "developer"],
        levels: &[Level::Row],
        harmless: Harmless::SystemMessage,
        advice: "make it the first message, with role `system`",
    },
    Group {
        names: &["chat_template_kwargs"],
        levels: &[Level::Row],
        harmless: Harmless::None,
        advice: "template arguments are only read from rows with `messages` or `chosen`",
    },
];

/// More letters than a name has.
const LETTERS_MAX: usize = 24;

/// By the number of letters of a name, a bit for each letter that one begins with.
const FIRST_LETTERS: [u32; LETTERS_MAX] = first_letters();

const fn first_letters() -> [u32; LETTERS_MAX] {
    let (mut bits, mut group) = ([0; LETTERS_MAX], 0);
    while group < GROUPS.len() {
        let (names, mut name) = (GROUPS[group].names, 0);
        while name < names.len() {
            let (bytes, mut at, mut letters) = (names[name].as_bytes(), 0, 0);
            while at < bytes.len() {
                letters += !is_separator(bytes[at]) as usize;
                at += 1;
            }
            bits[letters] |= letter_bit(bytes[0]);
            name += 1;
        }
        group += 1;
    }
    bits
}

/// Capitals have the bits of their small letters.
const fn letter_bit(letter: u8) -> u32 {
    1 << (letter & 31)
}

const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'_' | b'-')
}

/// The letters of a key, small, without what separates its words.
fn letters(key: &str) -> impl Iterator<Item = u8> {
    key.bytes().filter(|byte| !is_separator(*byte)).map(|byte| byte.to_ascii_lowercase())
}

/// Whether two keys are spellings of one name: `tool_calls`, `toolCalls`, `Tool-Calls`.
fn is_same(key: &str, name: &str) -> bool {
    letters(key).eq(letters(name))
}

/// Whether a key at that level names such a field. Most keys are told by the number of their
/// letters and by their first.
pub(super) fn may_decide(key: &str, level: Level) -> bool {
    let mut bytes = key.bytes().filter(|byte| !is_separator(*byte));
    let Some(first) = bytes.next() else { return false };
    let firsts = FIRST_LETTERS.get(1 + bytes.count()).copied().unwrap_or_default();
    firsts & letter_bit(first) != 0 && group(key, level).is_some()
}

/// Whether a key at that level is one which says whether this is trained.
pub(super) fn is_flag(key: &str, level: Level) -> bool {
    group(key, level).is_some_and(|group| group.harmless == Harmless::Trained)
}

/// The group of a key at that level.
#[cold]
fn group(key: &str, level: Level) -> Option<&'static Group> {
    let level = if level == Level::Turn { Level::Message } else { level };
    GROUPS.iter().find(|group| {
        group.levels.contains(&level) && group.names.iter().any(|name| is_same(key, name))
    })
}

/// Refuses a row that has a value in such a field, or a value that cannot be used in a field that
/// is read. What is no JSON, or not of the shape, passes: whoever reads it next says so.
pub(super) fn check(row: &str, kind: Row, lists: &[List]) -> Result<(), Reason> {
    check_row(row, kind, lists, &[])
}

/// As [`check`], but passes columns of the row that its shape uses.
pub(super) fn check_other(row: &str, lists: &[List], used: &[&str]) -> Result<(), Reason> {
    check_row(row, Row::WithoutInputs, lists, used)
}

fn check_row(row: &str, kind: Row, lists: &[List], used: &[&str]) -> Result<(), Reason> {
    let Some(row) = Object::of(row) else { return Ok(()) };
    let messages = lists.iter().filter(|(_, level)| matches!(level, Level::Message | Level::Turn));
    let first = messages
        .flat_map(|(key, _)| row.lists(key))
        .find_map(|messages| Object::of(messages.first()?.get()));
    let columns = row.0.iter().filter(|(key, _)| !used.contains(&key.as_str()));
    let columns = Object(columns.map(|(key, value)| (key.clone(), *value)).collect());
    let read = |key: &str, value: &RawValue| {
        (kind == Row::WithInputs && inputs::COLUMNS.contains(&key))
            .then(|| inputs::column(key, value).err())
    };
    check_object("", &columns, Level::Row, read, first.as_ref())?;
    for (key, level) in lists {
        for (index, value) in row.lists(key).flat_map(|list| list.into_iter().enumerate()) {
            let Some(object) = Object::of(value.get()) else { continue };
            let path = format!("{key}[{index}].");
            match level {
                Level::Turn => check_turn(&path, &object)?,
                Level::Message => {
                    check_object(&path, &object, *level, unread, None)?;
                    check_content(&path, &object, |_| false)?;
                }
                Level::Row | Level::Answer => check_object(&path, &object, *level, unread, None)?,
            }
        }
    }
    Ok(())
}

/// As [`check`], for a row whose columns are those of an answer.
pub(super) fn check_answer(row: &str) -> Result<(), Reason> {
    Object::of(row).map_or(Ok(()), |row| check_object("", &row, Level::Answer, unread, None))
}

/// Says of no field that it is read.
fn unread(_: &str, _: &RawValue) -> Option<Option<&'static str>> {
    None
}

fn check_turn(path: &str, message: &Object<'_>) -> Result<(), Reason> {
    let mut extras = None;
    let read = |key: &str, value: &RawValue| {
        let member = members::member(key)?;
        Some(members::add(&mut extras, key, member, value).err())
    };
    check_object(path, message, Level::Turn, read, None)?;
    let role = message.all("role").find_map(text).unwrap_or_default();
    if let Some((key, advice)) = members::misplaced(&role, extras.as_deref()) {
        let is_it = |key_of: &&(String, &RawValue)| match members::member(&key_of.0) {
            Some(members::Member::Flag) => key == FLAG && is_one(key_of.1),
            _ => key_of.0 == key,
        };
        let key = message.0.iter().find(is_it).map_or(key, |(key, _)| key);
        return Err(refused(&format!("{path}{key}"), advice));
    }
    check_content(path, message, is_one_text)
}

/// Whether a content is a list with one part, a text.
fn is_one_text(content: &RawValue) -> bool {
    let parts: Vec<&RawValue> = serde_json::from_str(content.get()).unwrap_or_default();
    matches!(parts[..], [part] if text_of_part(part).is_some())
}

/// Refuses the fields of an object. `read` says of a field that it is read, and what is wrong with
/// its value.
fn check_object(
    path: &str,
    object: &Object<'_>,
    level: Level,
    mut read: impl FnMut(&str, &RawValue) -> Option<Option<&'static str>>,
    first_message: Option<&Object<'_>>,
) -> Result<(), Reason> {
    for (key, value) in &object.0 {
        match read(key, value) {
            Some(None) => continue,
            Some(Some(why)) => return Err(refused(&format!("{path}{key}"), why)),
            None => {}
        }
        let Some(group) = group(key, level) else { continue };
        let is_harmless = match group.harmless {
            Harmless::None => false,
            Harmless::Trained => is_one(value) && (level == Level::Row || is_of_assistant(object)),
            Harmless::SystemMessage => {
                first_message.is_some_and(|message| is_system_message(message, value))
            }
        };
        if !is_harmless && !is_empty(value) {
            return Err(refused(&format!("{path}{key}"), group.advice));
        }
    }
    Ok(())
}

fn is_of_assistant(message: &Object<'_>) -> bool {
    message.has_text("role", ASSISTANT) || message.has_text("from", "gpt")
}

/// Content in parts may hold more than text, and templates differ in what they make of it.
fn check_content(
    path: &str,
    message: &Object<'_>,
    is_fine: impl Fn(&RawValue) -> bool,
) -> Result<(), Reason> {
    for content in message.all("content").filter(|content| content.get().starts_with('[')) {
        if !is_fine(content) {
            return Err(refused(
                &format!("{path}content"),
                "it is a list of parts; only text is supported: join the parts into one string",
            ));
        }
    }
    Ok(())
}

/// The key of the flag by which the last message of a list is not trained.
#[cold]
pub(super) fn flag_of_last(row: &[u8], list: &str) -> Option<String> {
    let row = Object::of(std::str::from_utf8(row).ok()?)?;
    let last = row.lists(list).find_map(|list| Object::of(list.last()?.get()))?;
    let mut flags = last.0.into_iter().filter(|(key, _)| is_flag(key, Level::Message));
    flags.find(|(_, value)| !is_empty(value) && !is_one(value)).map(|(key, _)| key)
}

pub(super) fn refused(field: &str, advice: &str) -> Reason {
    Reason::found(Code::UnsupportedField, format!("`{field}`: {advice}"))
}

/// Whether a value is 1 or true.
fn is_one(value: &RawValue) -> bool {
    value.get() == "true" || value.get().parse::<f64>().is_ok_and(|number| number == 1.0)
}

fn is_system_message(message: &Object<'_>, prompt: &RawValue) -> bool {
    let is_said = |prompt: String| message.has_text("content", &prompt);
    message.has_text("role", "system") && text(prompt).is_some_and(is_said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_every_spelling_and_stands_once() {
        let names: Vec<_> = GROUPS
            .iter()
            .flat_map(|group| group.names.iter().map(|name| (*name, group.levels[0])))
            .collect();
        for (index, (name, level)) in names.iter().enumerate() {
            for key in [
                (*name).to_owned(),
                name.replace('_', ""),
                name.replace('_', "-"),
                format!("_{}__", name.to_uppercase()),
            ] {
                assert!(may_decide(&key, *level), "{key}");
            }
            assert!(names[..index].iter().all(|(other, _)| !is_same(other, name)), "{name}");
        }
        let others = ["", "_", "content", "models", "correct_answers", "tool", "system_", "\u{e9}"];
        for key in others.into_iter().chain([&*"x".repeat(64), &*"tools".repeat(9)]) {
            assert!(!may_decide(key, Level::Answer), "{key}");
        }
    }

    #[test]
    fn flags_are_known_where_they_may_be() {
        assert!(is_flag("weight", Level::Row) && is_flag("Weight", Level::Message));
        assert!(is_flag("loss", Level::Message) && !is_flag("loss", Level::Row));
        assert!(!is_flag("mask", Level::Message) && !is_flag("weight", Level::Answer));
    }
}
