//! Columns that a shape does not read: their names are listed for the manifest, and a row is
//! refused if one of them has a part of the question or the answer that would be lost.
//!
//! A column such as `context` or `solution` is such a part unless the dialogue says it as well, as
//! it does where a source keeps the columns from which its messages were made.

use serde_json::Value;

use super::cursor::Cursor;
use super::deciding::{Level, is_same, may_decide};
use super::role_words::{RoleWord, RoleWords};
use super::unsupported::refused;
use super::{MESSAGES_MAX, Shape};
use crate::dialogue::{Dialogue, Replies, Role};
use crate::stage::Reason;

/// Names that are listed for an input; others are only known to be there.
pub const NAMES_MAX: usize = 64;
/// Characters of a name that are listed.
const NAME_CHARS_MAX: usize = 80;
/// A shorter text may be in a message by chance, so it must be all of the message.
const CONTAINED_BYTES_MIN: usize = 20;
/// Members of an object that do not say what somebody says.
const NOT_SAID: [&str; 3] = ["role", "from", "type"];

/// Which part of a row a column would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Question,
    Answer,
    Dialogue,
}

/// Columns that are parts of what is trained, in rows of the shapes that read them.
const PARTS: [(&str, Part); 20] = [
    ("prompt", Part::Question),
    ("question", Part::Question),
    ("query", Part::Question),
    ("instruction", Part::Question),
    ("input", Part::Question),
    ("context", Part::Question),
    ("passage", Part::Question),
    ("history", Part::Question),
    ("choices", Part::Question),
    ("options", Part::Question),
    ("answer", Part::Answer),
    ("response", Part::Answer),
    ("output", Part::Answer),
    ("completion", Part::Answer),
    ("solution", Part::Answer),
    ("rationale", Part::Answer),
    ("explanation", Part::Answer),
    ("messages", Part::Dialogue),
    ("conversations", Part::Dialogue),
    ("conversation", Part::Dialogue),
];

fn part(name: &str) -> Option<Part> {
    PARTS.iter().find(|(known, _)| is_same(name, known)).map(|(_, part)| *part)
}

/// Whether a value is empty. Lists and objects of empty values count as content.
fn says_nothing(value: &str) -> bool {
    matches!(value, "null" | "\"\"" | "[]" | "{}")
}

/// A column that an earlier row had.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    name: String,
    /// Whether its value matters to nobody.
    is_plain: bool,
}

/// The columns that were not read, of rows that are read one after the other.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unread {
    known: Vec<Known>,
    /// Names that this row has and no earlier one had.
    new: Vec<String>,
    /// The columns of this row that may be lost parts, with their JSON.
    parts: Vec<(String, String)>,
    /// Columns that must be read, and one of them that is not.
    watched: Vec<String>,
    found: Option<String>,
    /// The words for roles, which are listed as well.
    pub(super) role_words: RoleWords,
}

impl Unread {
    /// Begins a row, or an attempt to read it by another shape.
    pub(super) fn begin_as(&mut self, shape: &Shape) {
        self.begin();
        self.role_words.begin(shape.name);
    }

    /// Begins another attempt to read a row.
    pub(super) fn begin(&mut self) {
        self.new.clear();
        self.parts.clear();
        self.found = None;
    }

    /// Passes over the value of a column that the shape does not read; `None` where it may decide
    /// what is trained.
    pub(super) fn pass(&mut self, cursor: &mut Cursor, name: &str) -> Option<()> {
        if self.known.iter().any(|known| known.is_plain && known.name == name) {
            return cursor.skip();
        }
        if cursor.eat_empty() {
            return Some(());
        }
        if part(name).is_some() {
            let value = cursor.value()?;
            self.add(name, value);
        } else {
            cursor.ignore(name, Level::Row)?;
            self.note(name);
        }
        Some(())
    }

    /// Adds the columns that were not read.
    pub(super) fn add_all<'row>(&mut self, columns: impl Iterator<Item = (&'row str, &'row str)>) {
        for (name, value) in columns.filter(|(_, value)| !says_nothing(value)) {
            self.add(name, value);
        }
    }

    fn add(&mut self, name: &str, value: &str) {
        if part(name).is_some() {
            self.parts.push((name.to_owned(), value.to_owned()));
        }
        self.note(name);
    }

    fn note(&mut self, name: &str) {
        if self.watched.iter().any(|watched| watched == name) {
            self.found = Some(name.to_owned());
        }
        let name = head(name, NAME_CHARS_MAX);
        let is_listed = self.known.iter().any(|known| known.name == name)
            || self.new.iter().any(|new| new == name);
        if !is_listed && self.new.len() <= NAMES_MAX {
            self.new.push(name.to_owned());
        }
    }

    /// Refuses a row that would lose a part of what it says.
    pub(super) fn check(&self, shape: &Shape, dialogue: &Dialogue) -> Result<(), Reason> {
        for (name, value) in &self.parts {
            let is_needed = match part(name) {
                Some(Part::Question) => true,
                // Compared rows say themselves what is compared.
                Some(Part::Dialogue) => !shape.compares,
                Some(Part::Answer) => {
                    !(shape.compares || shape.lists_messages() && ends_with_answer(dialogue))
                }
                None => false,
            };
            if is_needed && !is_said(value, dialogue) {
                return Err(refused(
                    name,
                    &format!(
                        "rows of shape `{}` do not use this column, and the dialogue does not say \
                         the same; write it into a message, or list the column in `source.ignore`",
                        shape.name
                    ),
                ));
            }
        }
        Ok(())
    }

    /// For a single row whose unread columns may be one of these.
    pub(super) fn watching(&mut self, names: Vec<String>) -> Unread {
        let role_words = std::mem::take(&mut self.role_words);
        Unread { watched: names, role_words, ..Unread::default() }
    }

    /// Whether a column of a row that is read by itself was not read.
    pub(super) fn has(&self, name: &str) -> bool {
        self.new.iter().any(|new| new == head(name, NAME_CHARS_MAX))
    }

    /// The watched column that the row has and its shape does not read.
    pub(super) fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// Takes over the columns of a row that was read by itself.
    pub(super) fn take_over(&mut self, row: Unread) {
        self.begin();
        row.new.iter().for_each(|name| self.note(name));
        self.role_words = row.role_words;
    }

    /// The words for roles that no earlier row had, once a row is read.
    pub(crate) fn take_new_role_words(&mut self) -> Vec<RoleWord> {
        self.role_words.take_new()
    }

    /// The names that no earlier row had, once a row is read.
    pub(crate) fn take_new(&mut self) -> Vec<String> {
        let room = NAMES_MAX.saturating_sub(self.known.len());
        self.known.extend(self.new.iter().take(room).map(|name| Known {
            is_plain: part(name).is_none() && !may_decide(name, Level::Row),
            name: name.clone(),
        }));
        std::mem::take(&mut self.new)
    }
}

/// The start of a name, which may be of any length.
pub(super) fn head(name: &str, chars_max: usize) -> &str {
    name.char_indices().nth(chars_max).map_or(name, |(end, _)| &name[..end])
}

fn ends_with_answer(dialogue: &Dialogue) -> bool {
    dialogue.turns.last().is_some_and(|turn| turn.role == Role::Assistant)
}

/// Whether every text and number of a value is in the dialogue, too.
fn is_said(json: &str, dialogue: &Dialogue) -> bool {
    let Ok(value) = serde_json::from_str::<Value>(json) else { return false };
    let mut said = Vec::new();
    collect(&value, &mut said);
    said.len() <= MESSAGES_MAX && said.iter().all(|text| is_in(text.trim(), dialogue))
}

fn collect(value: &Value, said: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => said.push(number.to_string()),
        Value::String(text) => said.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|value| collect(value, said)),
        Value::Object(object) => {
            let members = object.iter().filter(|(name, _)| !NOT_SAID.contains(&name.as_str()));
            members.for_each(|(_, value)| collect(value, said));
        }
    }
}

fn is_in(text: &str, dialogue: &Dialogue) -> bool {
    let is_in = |message: &str| {
        message.trim() == text
            || (text.len() >= CONTAINED_BYTES_MIN
                && memchr::memmem::find(message.as_bytes(), text.as_bytes()).is_some())
    };
    let is_answer = match &dialogue.replies {
        Replies::Inline => false,
        Replies::Pair(pair) => is_in(&pair.chosen) || is_in(&pair.rejected),
        Replies::Scored(replies) => replies.iter().any(|reply| is_in(&reply.text)),
    };
    text.is_empty() || is_answer || dialogue.turns.iter().any(|turn| is_in(&turn.text))
}
