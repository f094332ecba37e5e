//! Fields that decide what is trained but that no shape uses. A row with a value in such a field
//! is refused by the field's name: without the field it would say something else.
//!
//! The fast reader asks [`super::deciding::may_decide`] about keys it does not know and leaves a row with such a
//! value to [`check`], which finds the field again, looks at its value and gives the reason.

use serde_json::value::RawValue;

use super::deciding::{Harmless, Level, group, is_flag};
use super::message::text_of_part;
use super::raw::{Object, is_empty, text};
use super::{inputs, members};
use crate::stage::{Code, Reason};

/// Whether a shape reads the columns of [`super::inputs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    WithInputs,
    WithoutInputs,
}

/// A list of objects within a row: its key, and what its objects are.
pub(super) type List = (&'static str, Level);

/// The name by which [`members::misplaced`] calls any flag.
pub(super) const FLAG: &str = "weight";
/// The role whose messages are trained.
pub(super) const ASSISTANT: &str = "assistant";

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
    let messages = lists
        .iter()
        .filter(|(_, level)| matches!(level, Level::Message | Level::Spoken | Level::Turn));
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
                Level::Spoken => {
                    let mut extras = None;
                    let read = |key: &str, value: &RawValue| {
                        let flag =
                            members::member(key).filter(|it| *it == members::Member::Flag)?;
                        Some(members::add(&mut extras, key, flag, value).err())
                    };
                    check_object(&path, &object, *level, read, None)?;
                    check_content(&path, &object, |_| false)?;
                }
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
            Harmless::Absent => matches!(value.get(), "0" | "false"),
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
