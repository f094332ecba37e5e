//! Fields that decide what is trained but that no shape uses. A row with a value in such a field
//! is refused by the field's name: without the field it would say something else.
//!
//! The fast reader asks [`may_decide`] about keys it does not know and leaves a row with such a
//! value to [`check`], which finds the field again, looks at its value and gives the reason.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::stage::{Code, Reason};

/// The kind of object that a field belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// The row itself.
    Row,
    /// A message of a dialogue.
    Message,
    /// A scored answer.
    Answer,
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
    /// 1 or true on an assistant's message, which is trained in any case.
    TrainedAnswer,
    /// The text of the system message that the dialogue begins with.
    SystemMessage,
}

const EVERYWHERE: &[Level] = &[Level::Row, Level::Message, Level::Answer];

const GROUPS: [Group; 9] = [
    Group {
        names: &["tools", "functions"],
        levels: &[Level::Row, Level::Message],
        harmless: Harmless::None,
        advice: "tool definitions are not passed to the template; write them into a system message",
    },
    Group {
        names: &["tool_calls", "function_call", "tool_call_id"],
        levels: &[Level::Message, Level::Answer],
        harmless: Harmless::None,
        advice: "tool calls are not passed to the template; write them into `content`",
    },
    Group {
        names: &["reasoning_content", "reasoning", "thinking"],
        levels: &[Level::Message, Level::Answer],
        harmless: Harmless::None,
        advice: "reasoning is not passed to the template; write it into `content`",
    },
    Group {
        names: &["image", "images", "audio", "audios", "video", "videos"],
        levels: EVERYWHERE,
        harmless: Harmless::None,
        advice: "only text is supported",
    },
    Group {
        names: &["weight", "train", "trained", "training", "loss", "loss_weight", "loss_scale"],
        levels: &[Level::Message],
        harmless: Harmless::TrainedAnswer,
        advice: "messages cannot be weighted or left out of training one by one; only 1 or true \
            on an assistant message is accepted",
    },
    Group {
        names: &["train_detail", "training_detail", "mask"],
        levels: &[Level::Message],
        harmless: Harmless::None,
        advice: "parts of a message cannot be left out of training",
    },
    Group {
        names: &["name", "refusal"],
        levels: &[Level::Message],
        harmless: Harmless::None,
        advice: "it is not passed to the template; write it into `content` or remove it",
    },
    Group {
        names: &["system", "system_prompt", "system_message"],
        levels: &[Level::Row],
        harmless: Harmless::SystemMessage,
        advice: "make it the first message, with role `system`",
    },
    Group {
        names: &["chat_template_kwargs"],
        levels: &[Level::Row],
        harmless: Harmless::None,
        advice: "template arguments per row are not supported; set them in a copy of the template",
    },
];

/// A bit for each length that a name of [`GROUPS`] has.
const LENGTHS: u64 = lengths();

const fn lengths() -> u64 {
    let (mut bits, mut group) = (0, 0);
    while group < GROUPS.len() {
        let (names, mut name) = (GROUPS[group].names, 0);
        while name < names.len() {
            bits |= 1 << names[name].len();
            name += 1;
        }
        group += 1;
    }
    bits
}

/// Whether a key at that level names such a field. Most keys are told by their length alone.
pub(super) fn may_decide(key: &str, level: Level) -> bool {
    key.len() < 64 && LENGTHS >> key.len() & 1 == 1 && is_listed(key, level)
}

#[cold]
fn is_listed(key: &str, level: Level) -> bool {
    groups(level).any(|group| group.names.contains(&key))
}

fn groups(level: Level) -> impl Iterator<Item = &'static Group> {
    GROUPS.iter().filter(move |group| group.levels.contains(&level))
}

type Object<'row> = BTreeMap<String, &'row RawValue>;

fn object(json: &str) -> Option<Object<'_>> {
    serde_json::from_str(json).ok()
}

fn list(json: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(json).ok()
}

fn text(json: &RawValue) -> Option<String> {
    serde_json::from_str(json.get()).ok()
}

/// Refuses a row that has a value in such a field. What is no JSON, or not of the shape, passes:
/// whoever reads it next says so.
pub(super) fn check(row: &str, lists: &[List]) -> Result<(), Reason> {
    let Some(row) = object(row) else { return Ok(()) };
    let of = |key: &str| row.get(key).and_then(|value| list(value.get())).unwrap_or_default();
    let messages = lists.iter().filter(|(_, level)| *level == Level::Message);
    let first = messages.filter_map(|(key, _)| object(of(key).first()?.get())).next();
    check_object("", &row, Level::Row, first.as_ref())?;
    for (key, level) in lists {
        for (index, value) in of(key).iter().enumerate() {
            let Some(object) = object(value.get()) else { continue };
            let path = format!("{key}[{index}].");
            check_object(&path, &object, *level, None)?;
            if *level == Level::Message {
                check_content(&path, &object)?;
            }
        }
    }
    Ok(())
}

fn check_object(
    path: &str,
    object: &Object<'_>,
    level: Level,
    first_message: Option<&Object<'_>>,
) -> Result<(), Reason> {
    for group in groups(level) {
        for name in group.names {
            let Some(value) = object.get(*name).filter(|value| !is_empty(value)) else { continue };
            let is_harmless = match group.harmless {
                Harmless::None => false,
                Harmless::TrainedAnswer => is_one(value) && has_text(object, "role", "assistant"),
                Harmless::SystemMessage => {
                    first_message.is_some_and(|message| is_system_message(message, value))
                }
            };
            if !is_harmless {
                return Err(refused(&format!("{path}{name}"), group.advice));
            }
        }
    }
    Ok(())
}

/// Content in parts may hold more than text, and templates differ in what they make of it.
fn check_content(path: &str, message: &Object<'_>) -> Result<(), Reason> {
    match message.get("content") {
        Some(content) if content.get().starts_with('[') => Err(refused(
            &format!("{path}content"),
            "it is a list of parts; only text is supported: join the parts into one string",
        )),
        _ => Ok(()),
    }
}

pub(super) fn refused(field: &str, advice: &str) -> Reason {
    Reason::found(Code::UnsupportedField, format!("`{field}`: {advice}"))
}

/// Whether a value says nothing: null, an empty text, or a list or object of nothing else.
pub(super) fn is_empty(value: &RawValue) -> bool {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'n') => true,
        Some(b'"') => json == "\"\"",
        Some(b'[') => list(json).is_some_and(|values| values.into_iter().all(is_empty)),
        Some(b'{') => object(json).is_some_and(|fields| fields.into_values().all(is_empty)),
        _ => false,
    }
}

/// Whether a value is 1 or true.
fn is_one(value: &RawValue) -> bool {
    value.get() == "true" || value.get().parse::<f64>().is_ok_and(|number| number == 1.0)
}

fn has_text(object: &Object<'_>, key: &str, wanted: &str) -> bool {
    object.get(key).and_then(|value| text(value)).is_some_and(|text| text == wanted)
}

fn is_system_message(message: &Object<'_>, prompt: &RawValue) -> bool {
    let is_said = |prompt: String| has_text(message, "content", &prompt);
    has_text(message, "role", "system") && text(prompt).is_some_and(is_said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_by_its_length_and_stands_once() {
        let names: Vec<_> = GROUPS.iter().flat_map(|group| group.names).collect();
        for (index, name) in names.iter().enumerate() {
            let level = GROUPS.iter().find(|group| group.names.contains(name)).expect("its group");
            assert!(may_decide(name, level.levels[0]), "{name}");
            assert!(!names[..index].contains(name), "{name} stands twice");
        }
        for key in ["", "content", "models", "correct_answers", &"x".repeat(64), &"x".repeat(69)] {
            assert!(!may_decide(key, Level::Row), "{key}");
        }
    }

    #[test]
    fn empty_is_what_says_nothing_however_deep() {
        let empty = |json: &str| is_empty(&RawValue::from_string(json.to_owned()).expect("JSON"));
        for json in ["null", r#""""#, "[]", "{}", "[ null ]", r#"{"a": null, "b": [{"c": ""}]}"#] {
            assert!(empty(json), "{json}");
        }
        for json in ["0", "false", r#"" ""#, "[0]", r#"{"a": false}"#, r#""[]""#] {
            assert!(!empty(json), "{json}");
        }
    }
}
