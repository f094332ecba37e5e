//! Shapes of rows: how one source's JSON object becomes a [`Dialogue`]. A new shape is a file here
//! and a line in [`SHAPES`].

mod alternating;
mod completions;
mod cursor;
mod messages;
mod object;
mod pair;
mod prompt;
mod raw;
mod unsupported;

use cursor::{Cursor, once, whole};
use serde::Deserialize;
use unsupported::{ASSISTANT, Level, List};

use crate::dialogue::{Dialogue, Role, Turn};
use crate::error::{Error, Result};
use crate::stage::{Code, Reason};

/// Messages in one row; more is damage or an attack.
pub const MESSAGES_MAX: usize = 1024;
/// Arrays and objects within each other; no source comes near it.
pub const DEPTH_MAX: usize = 64;

fn not_of_shape(detail: impl Into<String>) -> Reason {
    Reason::found(Code::InvalidRow, detail)
}

/// One way a source writes its rows.
pub struct Shape {
    /// Its name in recipes.
    pub name: &'static str,
    /// The field that only rows of this shape have.
    key: &'static str,
    /// Whether its rows compare answers (`binarize`) or are plain dialogues (`prep`).
    pub compares: bool,
    /// Reads one row.
    pub parse: fn(&[u8]) -> std::result::Result<Dialogue, Reason>,
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

/// All shapes. Of two that fit a row, the earlier one is meant.
pub const SHAPES: [Shape; 4] = [
    Shape { name: "completions", key: "completions", compares: true, parse: completions::parse },
    Shape { name: "pair", key: "chosen", compares: true, parse: pair::parse },
    Shape { name: "messages", key: "messages", compares: false, parse: messages::parse },
    Shape { name: "alternating", key: "data", compares: false, parse: alternating::parse },
];

/// The names of all shapes.
#[must_use]
pub fn names() -> Vec<&'static str> {
    SHAPES.iter().map(|shape| shape.name).collect()
}

/// The shape of that name.
pub fn named(name: &str) -> Result<&'static Shape> {
    SHAPES.iter().find(|shape| shape.name == name).ok_or_else(|| {
        Error::Config(format!("unknown shape `{name}`; known: auto, {}", names().join(", ")))
    })
}

/// The shape of rows none of which can be told: what a command was first made for.
#[must_use]
pub fn default_of(compares: bool) -> &'static Shape {
    let name = if compares { "pair" } else { "alternating" };
    SHAPES.iter().find(|shape| shape.name == name).expect("a default is one of the shapes")
}

/// The shape that a row's fields tell, among those that fit the command; `None` where the row is no
/// JSON object or no known field is there.
#[must_use]
pub fn detect(row: &[u8], compares: bool) -> Option<&'static Shape> {
    let fields: std::collections::HashMap<String, serde::de::IgnoredAny> =
        serde_json::from_slice(row).ok()?;
    SHAPES.iter().find(|shape| shape.compares == compares && fields.contains_key(shape.key))
}

/// One message as most sources write it.
#[derive(Deserialize)]
struct Message {
    role: String,
    content: String,
}

impl Message {
    fn quick(cursor: &mut Cursor) -> Option<Message> {
        let (mut role, mut content, mut is_flagged) = (None, None, false);
        cursor.object(|cursor, key| match key {
            "role" => once(&mut role, cursor.text()),
            "content" => once(&mut content, cursor.text()),
            _ => cursor.ignore_or_flag(key, Level::Message).map(|flag| is_flagged |= flag),
        })?;
        let message = Message { role: role?, content: content? };
        (!is_flagged || message.role == ASSISTANT).then_some(message)
    }

    /// Whether no member says anything.
    fn is_empty(&self) -> bool {
        self.role.is_empty() && self.content.is_empty()
    }
}

fn turns(messages: Vec<Message>) -> std::result::Result<Vec<Turn>, Reason> {
    check_count(messages.len())?;
    Ok(messages
        .into_iter()
        .map(|message| Turn::new(Role::named(message.role), message.content))
        .collect())
}

fn check_count(messages: usize) -> std::result::Result<(), Reason> {
    if messages > MESSAGES_MAX {
        return Err(Reason::found(
            Code::TooManyMessages,
            format!("{messages} messages in one row; at most {MESSAGES_MAX}"),
        ));
    }
    Ok(())
}

/// Parses JSON into a shape's own fields, telling broken JSON from JSON of another shape: by
/// `quick` where that is sure of them, else by serde_json. Refuses a row that would lose a field
/// which decides what is trained; such fields are searched in the row and in the objects of
/// `lists`.
fn fields<'row, T>(
    row: &'row [u8],
    lists: &[List],
    quick: impl FnOnce(&mut Cursor<'row>) -> Option<T>,
) -> std::result::Result<T, Reason>
where
    T: Deserialize<'row>,
{
    let text = simdutf8::basic::from_utf8(row).or_else(|_| std::str::from_utf8(row));
    let text = text.map_err(|error| {
        Reason::found(
            Code::InvalidUtf8,
            format!("not UTF-8 at byte {} of the row", error.valid_up_to()),
        )
    })?;
    if let Some(fields) = whole(text, quick) {
        return Ok(fields);
    }
    let depth = depth(text.as_bytes());
    if depth > DEPTH_MAX {
        return Err(Reason::found(
            Code::TooDeep,
            format!("arrays and objects {depth} deep; at most {DEPTH_MAX}"),
        ));
    }
    let malformed = |error: serde_json::Error| {
        let code = if error.is_data() { Code::InvalidRow } else { Code::InvalidJson };
        Reason::found(code, error.to_string())
    };
    // serde would take the places of an array for the fields in their order.
    if !text.trim_ascii_start().starts_with('{') {
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(malformed)?;
        return Err(not_of_shape("not a JSON object"));
    }
    unsupported::check(text, lists)?;
    serde_json::from_str(text).map_err(malformed)
}

/// How deep arrays and objects lie within each other; of broken JSON, as far as its strings can be
/// told.
fn depth(row: &[u8]) -> usize {
    let (mut depth, mut deepest, mut rest) = (0_usize, 0, row);
    while let Some(place) =
        rest.iter().position(|byte| matches!(byte, b'"' | b'[' | b'{' | b']' | b'}'))
    {
        let after = &rest[place + 1..];
        rest = match rest[place] {
            b'"' => behind_text(after),
            opening_or_closing => {
                depth = if matches!(opening_or_closing, b'[' | b'{') {
                    depth + 1
                } else {
                    depth.saturating_sub(1)
                };
                deepest = deepest.max(depth);
                after
            }
        };
    }
    deepest
}

/// What follows a string whose opening quote has been read.
fn behind_text(mut rest: &[u8]) -> &[u8] {
    while let Some(place) = memchr::memchr2(b'"', b'\\', rest) {
        if rest[place] == b'"' {
            return &rest[place + 1..];
        }
        rest = rest.get(place + 2..).unwrap_or_default();
    }
    &[]
}

/// Ids come as strings and as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(serde_json::Number),
}

impl Id {
    fn quick(cursor: &mut Cursor) -> Option<Id> {
        if cursor.peek()? == b'"' {
            return cursor.text().map(Id::Text);
        }
        cursor.digits()?.parse::<u64>().ok().map(|number| Id::Number(number.into()))
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        match id {
            Id::Text(text) => text,
            Id::Number(number) => number.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_is_a_row_and_broken_json_is_told_from_another_shape() {
        let parse = named("alternating").expect("is a shape").parse;
        let code =
            |row: &str| parse(row.as_bytes()).map_or_else(|reason| reason.code.word(), |_| "row");
        assert_eq!(code(r#" {"id": "a", "data": ["q", "r"]}"#), "row");
        for row in [r#"["a", ["q", "r"]]"#, "7", "null", r#""text""#, r#"{"data": "q"}"#, "{}"] {
            assert_eq!(code(row), "invalid_row", "{row}");
        }
        for row in [r#"["a", ["q", "r"]"#, r#"{"data": ["q", "r"]"#, "hello", "NaN"] {
            assert_eq!(code(row), "invalid_json", "{row}");
        }
    }
}
