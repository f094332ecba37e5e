//! What a message may have besides role and content: which members are passed to the template,
//! which say whether the message is trained, and the JSON that a value must be.
//!
//! Values reach the template as `json.loads` would return them. What it would read differently is
//! refused: an integer with more digits than a 64-bit number holds, and `-0`.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::deciding::{Level, is_flag};
use super::raw::is_empty;
use super::unsupported::{ASSISTANT, FLAG};
use crate::dialogue::Extras;

/// Members that are passed to the template as text.
const TEXTS: [&str; 7] =
    ["reasoning_content", "reasoning", "thinking", "thought", "tool_plan", "tool_call_id", "name"];
/// The member that holds an assistant's calls.
const CALLS: &str = "tool_calls";
/// The member of a result that names its call.
const ID: &str = "tool_call_id";
/// Digits that every 64-bit integer has room for.
const DIGITS_MAX: usize = 18;

/// What a member of a message is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Text,
    Calls,
    Flag,
}

/// How a member of that name is read; `None` if it is not read. A template finds a member by its
/// exact name, so other spellings are not read, except those of flags.
pub(super) fn member(key: &str) -> Option<Member> {
    match key {
        CALLS => Some(Member::Calls),
        _ if TEXTS.contains(&key) => Some(Member::Text),
        _ if is_flag(key, Level::Message) => Some(Member::Flag),
        _ => None,
    }
}

/// Adds a member to what a message has. A value that says nothing adds nothing, as if the member
/// were missing: datasets in columns have every member in every message. But an empty text is a
/// text. The error is the advice of the refusal.
pub(super) fn add(
    extras: &mut Option<Box<Extras>>,
    key: &str,
    member: Member,
    json: &RawValue,
) -> Result<(), &'static str> {
    let is_text = member == Member::Text && json.get() == "\"\"";
    let json = if !is_text && is_empty(json) { "null" } else { json.get() };
    if extras.as_ref().is_some_and(|extras| extras.members.contains_key(key)) {
        return Err("it is in the message twice");
    }
    if json == "null" {
        return Ok(());
    }
    if member == Member::Flag {
        let flag = flag(json)?;
        let known = extras.get_or_insert_default().trained.replace(flag);
        return match known {
            Some(known) if known != flag => Err("another member of the message says the opposite"),
            _ => Ok(()),
        };
    }
    let value = value(json)?;
    match (member, &value) {
        (Member::Text, Value::String(_)) => {}
        (Member::Text, _) => return Err("it must be a string"),
        (_, Value::Array(calls)) if calls.iter().all(Value::is_object) => {}
        _ => return Err("it must be a list of objects"),
    }
    extras.get_or_insert_default().members.insert(key.to_owned(), value);
    Ok(())
}

/// Whether a flag says that the message is trained.
fn flag(json: &str) -> Result<bool, &'static str> {
    match json {
        "true" => return Ok(true),
        "false" => return Ok(false),
        _ => {}
    }
    match json.parse::<f64>() {
        Ok(1.0) => Ok(true),
        Ok(0.0) => Ok(false),
        _ => Err("a message is trained or not, so only 0, 1, true and false are supported"),
    }
}

/// Why a message cannot have these members, and which of them.
pub(super) fn misplaced(
    role: &str,
    extras: Option<&Extras>,
) -> Option<(&'static str, &'static str)> {
    let extras = extras?;
    if extras.members.get(ID).is_some_and(|id| id != "")
        && matches!(role, "system" | "developer" | "user" | ASSISTANT)
    {
        return Some((ID, "it belongs to the result of a call, in a message of role `tool`"));
    }
    if role == ASSISTANT {
        return None;
    }
    if extras.members.contains_key(CALLS) {
        return Some((CALLS, "only an assistant message can have calls"));
    }
    let advice = "only assistant messages are trained; remove it";
    (extras.trained == Some(true)).then_some((FLAG, advice))
}

/// Whether a message needs no content: an assistant's, if it has calls or reasoning instead.
pub(super) fn may_lack_content(role: &str, extras: Option<&Extras>) -> bool {
    role == ASSISTANT && extras.is_some_and(|extras| says(&extras.members))
}

/// Whether an assistant says anything besides its content.
fn says(members: &Map<String, Value>) -> bool {
    members.iter().any(|(name, value)| match value {
        Value::String(text) => {
            !matches!(name.as_str(), "name" | "tool_call_id") && !text.is_empty()
        }
        Value::Array(calls) => !calls.is_empty(),
        _ => false,
    })
}

/// A value as `json.loads` reads it. Of a repeated key, the last value counts.
pub(super) fn value(json: &str) -> Result<Value, &'static str> {
    if !is_faithful(json) {
        return Err("it contains a number that cannot be passed on exactly; write it as a string");
    }
    serde_json::from_str(json).map_err(|_| "it cannot be read")
}

/// As [`value`], of JSON within a string if it is one, as `datasets` needs it for tools with
/// different parameters.
pub(super) fn value_or_text(json: &str) -> Result<Value, &'static str> {
    match value(json)? {
        Value::String(text) if text.trim().is_empty() => Ok(Value::Null),
        Value::String(text) => {
            serde_json::from_str::<&RawValue>(&text).map_err(|_| "the text in it is not JSON")?;
            value(&text)
        }
        value => Ok(value),
    }
}

/// Whether every number is the same for Python.
fn is_faithful(json: &str) -> bool {
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = bytes.len() - super::fields::behind_text(&bytes[at..]).len(),
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..]
                    .iter()
                    .position(|byte| {
                        !matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
                    })
                    .unwrap_or(bytes.len() - at);
                let number = &json[at - 1..at + length];
                at += length;
                let is_integer = number.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
                if is_integer && (number.len() > DIGITS_MAX || number == "-0") {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_python_reads_differently_are_refused() {
        for json in ["-0", "[1, -0]", "1234567890123456789", r#"{"a": [12345678901234567890]}"#] {
            assert!(value(json).is_err(), "{json}");
        }
        for json in ["-0.0", "0", "123456789012345678", r#""12345678901234567890""#, "1e20"] {
            assert!(value(json).is_ok(), "{json}");
        }
        let text = r#"{"a": "\\\"-0", "b": 1.50, "a": null}"#;
        assert_eq!(value(text).expect("reads").to_string(), r#"{"a":null,"b":1.5}"#);
    }

    #[test]
    fn a_flag_is_yes_or_no_and_never_both() {
        for (json, wanted) in [("1", true), ("0.0", false), ("false", false), ("true", true)] {
            assert_eq!(flag(json), Ok(wanted), "{json}");
        }
        for json in ["0.5", "2", "-1", r#""0""#, "[]", "{}"] {
            assert!(flag(json).is_err(), "{json}");
        }
        let mut extras = None;
        let mut add = |key, json: &str| {
            let json = RawValue::from_string(json.to_owned()).expect("JSON");
            add(&mut extras, key, Member::Flag, &json)
        };
        add("weight", "0").expect("is a flag");
        add("train", "false").expect("says the same");
        add("trained", "[null]").expect("says nothing");
        assert!(add("loss", "1").is_err());
    }
}
