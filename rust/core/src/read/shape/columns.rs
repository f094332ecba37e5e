//! The members of a JSON object, found but not yet read: a row's columns, or a message's fields.
//!
//! Errors name the field and say what it is in JSON's words.

use std::borrow::Cow;
use std::cell::Cell;

use serde_json::value::RawValue;

use super::cursor::{Cursor, whole};
use super::deciding::{Level, may_decide};
use super::raw::{self, Object};
use super::role_words::RoleWords;
use super::unread::Unread;
use super::unsupported::{self, List};
use super::{check_depth, not_of_shape, place, row_text};
use crate::dialogue::{Dialogue, Turn};
use crate::stage::Reason;

/// The members of an object, in their order.
pub(super) struct Columns<'row> {
    /// The object as it is written.
    pub(super) text: &'row str,
    /// Where it is in the row, as `messages[3].`; empty for the row itself.
    path: String,
    members: Vec<(Cow<'row, str>, &'row str)>,
    /// Which members were read; empty for an object within a row.
    read: Vec<Cell<bool>>,
}

/// Reads a row from its columns, and notes those that are not read.
pub(super) fn read(
    row: &[u8],
    unread: &mut Unread,
    read: impl Fn(&Columns<'_>, &mut RoleWords) -> Result<Dialogue, Reason>,
) -> Result<Dialogue, Reason> {
    let columns = Columns::of(row)?;
    let dialogue = read(&columns, &mut unread.role_words)?;
    unread.add_all(columns.unread());
    Ok(dialogue)
}

impl<'row> Columns<'row> {
    /// Finds the columns of a row.
    pub(super) fn of(row: &'row [u8]) -> Result<Columns<'row>, Reason> {
        let text = row_text(row)?;
        let mut columns = match whole(text, members) {
            Some(members) => Columns { text, path: String::new(), members, read: Vec::new() },
            None => {
                check_depth(text)?;
                place::check_object(text)?;
                Columns::slowly(text, String::new())
                    .ok_or_else(|| not_of_shape("the row cannot be read as a JSON object"))?
            }
        };
        columns.read.resize(columns.members.len(), Cell::new(false));
        Ok(columns)
    }

    /// Finds the fields of an object within a row.
    pub(super) fn within(text: &'row str, path: String) -> Option<Columns<'row>> {
        match whole(text, members) {
            Some(members) => Some(Columns { text, path, members, read: Vec::new() }),
            None => Columns::slowly(text, path),
        }
    }

    fn slowly(text: &'row str, path: String) -> Option<Columns<'row>> {
        let members = Object::of(text)?.0.into_iter();
        let members = members.map(|(key, value)| (Cow::Owned(key), value.get())).collect();
        Some(Columns { text, path, members, read: Vec::new() })
    }

    /// The names, as often as they are written.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(name, _)| name.as_ref())
    }

    /// The JSON of a field; `None` if it is missing or null.
    pub(super) fn get(&self, name: &str) -> Result<Option<&'row str>, Reason> {
        let mut found = self.members.iter().enumerate().filter(|(_, (key, _))| key == name);
        let first = found.next();
        if found.next().is_some() {
            return Err(self.wrong(name, "is written twice"));
        }
        let Some((index, (_, value))) = first else { return Ok(None) };
        if let Some(is_read) = self.read.get(index) {
            is_read.set(true);
        }
        Ok(Some(*value).filter(|value| *value != "null"))
    }

    /// Names and values.
    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &'row str)> {
        self.members.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// The columns of a row that were not read.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&str, &'row str)> {
        let members = self.members().zip(&self.read);
        members.filter(|(_, is_read)| !is_read.get()).map(|(member, _)| member)
    }

    /// The JSON of a field that holds something: not null, an empty text, list or object.
    pub(super) fn said(&self, name: &str) -> Result<Option<&'row str>, Reason> {
        Ok(self.get(name)?.filter(|value| !is_empty(value)))
    }

    /// The first of these fields that is there and not null.
    pub(super) fn first_of(&self, names: &[&'static str]) -> Result<Option<&'static str>, Reason> {
        for name in names {
            if self.get(name)?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// A text that must be there.
    pub(super) fn text(&self, name: &str) -> Result<String, Reason> {
        self.required(name)?;
        self.maybe_text(name)?.ok_or_else(|| self.wrong(name, "is null, expected text"))
    }

    /// A text that may be missing or null.
    pub(super) fn maybe_text(&self, name: &str) -> Result<Option<String>, Reason> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        whole(value, Cursor::text)
            .or_else(|| serde_json::from_str(value).ok())
            .map(Some)
            .ok_or_else(|| self.expected(name, value, "text"))
    }

    /// A number, which may be written as text; `None` if the field is missing, null, or a text that
    /// says so.
    pub(super) fn maybe_number(&self, name: &str) -> Result<Option<f64>, Reason> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        if value.starts_with('"') {
            let text = self.maybe_text(name)?.unwrap_or_default();
            return super::score::written(&text).map_err(|why| self.wrong(name, &why));
        }
        match value.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            Ok(_) => Err(self.wrong(name, "is a number out of range")),
            Err(_) => Err(self.expected(name, value, "a number")),
        }
    }

    /// A number that must be there.
    pub(super) fn number(&self, name: &str) -> Result<f64, Reason> {
        self.required(name)?;
        self.maybe_number(name)?.ok_or_else(|| self.wrong(name, "is not a number"))
    }

    /// The elements of a list that must be there, as JSON.
    pub(super) fn list(&self, name: &str) -> Result<Vec<&'row str>, Reason> {
        self.required(name)?;
        let value = self.get(name)?.ok_or_else(|| self.wrong(name, "is null, expected a list"))?;
        elements(value).ok_or_else(|| self.expected(name, value, "a list"))
    }

    /// Where the object is in the row, as `messages[3].`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The elements of a list that begins with a text: texts, all of them. `None` for other lists.
    pub(super) fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Reason> {
        let elements = self.list(name)?;
        if !elements.first().is_some_and(|first| first.starts_with('"')) {
            return Ok(None);
        }
        let texts = elements.into_iter().enumerate().map(|(index, element)| {
            serde_json::from_str(element).map_err(|_| {
                let place = format!("{}{name}[{index}]", self.path);
                not_of_shape(format!("`{place}` is {}, expected text", kind(element)))
            })
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    /// The elements of a list of objects that must be there.
    pub(super) fn objects(&self, name: &str) -> Result<Vec<Columns<'row>>, Reason> {
        let elements = self.list(name)?;
        let objects = elements.into_iter().enumerate().map(|(index, element)| {
            let path = format!("{}{name}[{index}]", self.path);
            Columns::within(element, format!("{path}.")).ok_or_else(|| {
                not_of_shape(format!("`{path}` is {}, expected an object", kind(element)))
            })
        });
        objects.collect()
    }

    /// An object that must be there.
    pub(super) fn object(&self, name: &str) -> Result<Columns<'row>, Reason> {
        self.required(name)?;
        let value =
            self.get(name)?.ok_or_else(|| self.wrong(name, "is null, expected an object"))?;
        Columns::within(value, format!("{}{name}.", self.path))
            .ok_or_else(|| self.expected(name, value, "an object"))
    }

    /// The messages of a list that must be there.
    pub(super) fn messages(&self, name: &str) -> Result<Vec<Turn>, Reason> {
        self.required(name)?;
        let value = self.get(name)?.ok_or_else(|| self.wrong(name, "is null, expected a list"))?;
        let quick = whole(value, |cursor| cursor.list(super::Message::quick));
        let messages = quick.map_or_else(
            || super::object::list(&mut serde_json::Deserializer::from_str(value)),
            Ok,
        );
        let path = format!("{}{name}", self.path);
        let messages = messages
            .map_err(|error: serde_json::Error| not_of_shape(place::told(&error, value, &path)))?;
        let turns = super::turns(messages)?;
        match turns.iter().position(|turn| turn.extras.is_some()) {
            Some(index) => Err(unsupported::refused(
                &format!("{path}[{index}]"),
                "this shape reads role and content alone; write the row as `messages`",
            )),
            None => Ok(turns),
        }
    }

    /// The row's own id, if it is a text or a number.
    pub(super) fn id(&self) -> Result<Option<String>, Reason> {
        let values = [("id", self.get("id")?), ("prompt_id", self.get("prompt_id")?)];
        let found = values.into_iter().find_map(|(name, value)| Some((name, value?)));
        let Some((name, value)) = found else { return Ok(None) };
        let id = serde_json::from_str::<super::Id>(value);
        id.map(|id| Some(id.into())).map_err(|_| self.expected(name, value, "text or a number"))
    }

    /// Where the row comes from, if `source` is a text.
    pub(super) fn source(&self) -> Result<Option<String>, Reason> {
        let text = self.get("source")?.filter(|value| value.starts_with('"'));
        if text.is_none() { Ok(None) } else { self.maybe_text("source") }
    }

    /// Refuses a row that would lose a field which decides what is trained. `used` are columns that
    /// the shape reads; messages are searched in `lists`.
    pub(super) fn check(&self, lists: &[List], used: &[&str]) -> Result<(), Reason> {
        let decides = |name: &str| may_decide(name, Level::Row) && !used.contains(&name);
        let is_list = |name: &str, value: &str| {
            value.starts_with('[') && lists.iter().any(|(list, _)| *list == name)
        };
        if !self.members.iter().any(|(name, value)| decides(name) || is_list(name, value)) {
            return Ok(());
        }
        unsupported::check_other(self.text, lists, used)
    }

    /// As [`Columns::check`], for a row that is one question and its answer: reasoning or tool calls
    /// in a column of the row would be part of the answer.
    pub(super) fn check_flat(&self, used: &[&str]) -> Result<(), Reason> {
        self.check(&[], used)?;
        if self.names().any(|name| may_decide(name, Level::Answer)) {
            return unsupported::check_answer(self.text);
        }
        Ok(())
    }

    fn required(&self, name: &str) -> Result<(), Reason> {
        if self.names().any(|key| key == name) {
            return Ok(());
        }
        Err(self.wrong(name, "is missing"))
    }

    fn expected(&self, name: &str, value: &str, wanted: &str) -> Reason {
        self.wrong(name, &format!("is {}, expected {wanted}", kind(value)))
    }

    /// A reason about a field.
    pub(super) fn wrong(&self, name: &str, why: &str) -> Reason {
        not_of_shape(format!("`{}{name}` {why}", self.path))
    }
}

fn members<'row>(cursor: &mut Cursor<'row>) -> Option<Vec<(Cow<'row, str>, &'row str)>> {
    let mut members = Vec::new();
    cursor.object(|cursor, key| {
        members.push((Cow::Borrowed(key), cursor.value()?));
        Some(())
    })?;
    Some(members)
}

/// The elements of a list, as JSON; `None` where the value is no list.
pub(super) fn elements(value: &str) -> Option<Vec<&str>> {
    if let Some(elements) = whole(value, |cursor| cursor.list(Cursor::value)) {
        return Some(elements);
    }
    let elements: Vec<&RawValue> = serde_json::from_str(value).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
}

/// Whether a value says nothing: null, an empty text, or a list or object of nothing else.
pub(super) fn is_empty(value: &str) -> bool {
    match value.as_bytes() {
        b"null" | b"\"\"" => true,
        [b'[' | b'{', ..] => serde_json::from_str::<&RawValue>(value).is_ok_and(raw::is_empty),
        _ => false,
    }
}

/// Python and JavaScript write such an escape where they cut a text in the middle of an emoji.
const HALF_CHARACTER: &str = "text with half of a character (an escape such as `\\ud83d` alone)";

/// What a value is, in words.
pub(super) fn kind(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'"') if serde_json::from_str::<String>(value).is_err() => HALF_CHARACTER,
        Some(b'"') => "text",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = include_str!("../../../tests/twins/hostile_rows.jsonl");

    #[test]
    fn columns_are_found_as_serde_json_finds_them() {
        let mut found = 0;
        for row in HOSTILE.lines() {
            for end in (0..=row.len()).filter(|end| row.is_char_boundary(*end)) {
                let Some(quick) = whole(&row[..end], members) else { continue };
                let slow = Columns::slowly(&row[..end], String::new()).expect(row);
                assert_eq!(quick, slow.members, "{row}");
                found += 1;
            }
        }
        assert!(found > 50);
    }

    #[test]
    fn a_field_is_read_once_and_said_in_its_own_words() {
        let row = br#"{"a": "x", "a": "y", "b": null, "c": 5, "d": [1], "e": "8.5", "f": "N/A",
            "a2": "2,5"}"#;
        let row = Columns::of(row).expect("is an object");
        let detail = |reason: Reason| reason.detail.unwrap_or_default();
        assert_eq!(row.text("a").map_err(detail), Err("`a` is written twice".to_owned()));
        assert_eq!(row.text("b").map_err(detail), Err("`b` is null, expected text".to_owned()));
        assert_eq!(row.text("c").map_err(detail), Err("`c` is a number, expected text".to_owned()));
        assert_eq!(row.text("z").map_err(detail), Err("`z` is missing".to_owned()));
        assert_eq!(row.maybe_text("z"), Ok(None));
        assert_eq!(row.maybe_number("e"), Ok(Some(8.5)));
        assert_eq!(row.maybe_number("f"), Ok(None));
        assert_eq!(
            row.maybe_number("a2").map_err(detail),
            Err("`a2` is the text `2,5`, expected a number or `N/A`".to_owned())
        );
        assert_eq!(
            row.objects("d").err().map(detail).as_deref(),
            Some("`d[0]` is a number, expected an object")
        );
    }
}
