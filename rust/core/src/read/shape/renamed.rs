//! Names of one's own: `[source]` says how the rows call the columns, the fields of messages and the
//! roles, and which columns to ignore. A row is rewritten before its shape is told, so every shape
//! reads such rows.
//!
//! An example:
//!
//! ```
//! # use zephyr_core::read::shape::renamed::Renaming;
//! # use zephyr_core::recipe::Source;
//! let source: Source = toml::from_str(
//!     r#"
//!     ignore = ["length"]
//!     columns = { messages = "dialog", role = "speaker", content = "said" }
//!     roles = { bot = "assistant" }
//!     "#,
//! )?;
//! let renaming = Renaming::of(&source)?.expect("it renames");
//! let row = br#"{"length": 1, "dialog": [{"speaker": "bot", "said": "Hi."}]}"#;
//! let read = renaming.apply(row).expect("is renamed");
//! assert_eq!(&*read, br#"{"messages":[{"role":"assistant","content":"Hi."}]}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Shape;
use super::columns::{Columns, elements};
use super::members::member;
use super::unread::Unread;
use super::unsupported::refused;
use crate::dialogue::Dialogue;
use crate::error::{Error, Result};
use crate::recipe::Source;
use crate::stage::Reason;

/// Fields of messages with their author, whose values are roles.
const SPEAKERS: [&str; 2] = ["role", "from"];
/// Fields of messages with their text.
const TEXTS: [&str; 2] = ["content", "value"];
/// The roles that other words may stand for.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// A row that was read, or why it was not.
type Read = std::result::Result<Dialogue, Reason>;

/// The names of columns, fields and roles in a recipe.
#[derive(Debug)]
pub struct Renaming {
    columns: Vec<Name>,
    fields: Vec<Name>,
    roles: Vec<Name>,
    ignored: Vec<Name>,
}

/// One name.
#[derive(Debug)]
struct Name {
    /// In the rows.
    theirs: String,
    /// In the shapes.
    ours: String,
    /// Whether a row had it.
    is_found: AtomicBool,
}

impl Name {
    fn new(theirs: &str, ours: &str) -> Name {
        Name { theirs: theirs.to_owned(), ours: ours.to_owned(), is_found: AtomicBool::new(false) }
    }

    fn is_missing(&self) -> bool {
        !self.is_found.load(Ordering::Relaxed)
    }
}

/// The name that stands for one in a row.
fn find<'run>(names: &'run [Name], theirs: &str) -> Option<&'run Name> {
    let name = names.iter().find(|name| name.theirs == theirs)?;
    name.is_found.store(true, Ordering::Relaxed);
    Some(name)
}

/// A row with other names, while it is written.
#[derive(Default)]
struct Written<'run> {
    json: String,
    /// The columns with words for roles.
    columns: Vec<String>,
    /// The words for roles, each with the index of its column.
    roles: Vec<(usize, &'run Name)>,
}

impl<'run> Written<'run> {
    fn note(&mut self, role: &'run Name) {
        // Those of this column are the last ones; a row may have very many columns.
        let here = self.columns.len();
        let mut of_column = self.roles.iter().rev().take_while(|(column, _)| *column == here);
        if !of_column.any(|(_, known)| std::ptr::eq(*known, role)) {
            self.roles.push((here, role));
        }
    }

    fn end_column(&mut self, name: &str) {
        if self.roles.last().is_some_and(|(column, _)| *column == self.columns.len()) {
            self.columns.push(name.to_owned());
        }
    }
}

impl Renaming {
    /// What `[source]` renames and ignores, if anything. ConfigError for names without effect.
    pub fn of(source: &Source) -> Result<Option<Renaming>> {
        if source.columns.is_empty() && source.roles.is_empty() && source.ignore.is_empty() {
            return Ok(None);
        }
        let wrong = |key: String, why: &str| Err(Error::Config(format!("`{key}` {why}")));
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        for (ours, theirs) in &source.columns {
            let key = format!("source.columns.{ours}");
            if ours == theirs {
                return wrong(key, "has no effect: rows have this name already; remove it");
            }
            let names = if is_field(ours) { &mut fields } else { &mut columns };
            if names.iter().any(|name: &Name| name.theirs == *theirs) {
                return wrong(key, &format!("and another key both name the column `{theirs}`"));
            }
            names.push(Name::new(theirs, ours));
        }
        for (theirs, ours) in &source.roles {
            if !ROLES.contains(&ours.as_str()) {
                let why = format!("must be one of: {}", ROLES.join(", "));
                return wrong(format!("source.roles.{theirs}"), &why);
            }
        }
        let ignored = source.ignore.iter().map(|name| Name::new(name, name)).collect();
        let roles = source.roles.iter().map(|(theirs, ours)| Name::new(theirs, ours)).collect();
        Ok(Some(Renaming { columns, fields, roles, ignored }))
    }

    /// The row with the names that shapes know. A row that is no JSON object stays as it is: its
    /// shape says so. Refuses a row in which two members would get one name.
    pub fn apply<'row>(&self, row: &'row [u8]) -> std::result::Result<Cow<'row, [u8]>, Reason> {
        let written = self.write(row)?;
        Ok(written.map_or(Cow::Borrowed(row), |written| Cow::Owned(written.json.into_bytes())))
    }

    /// Writes a row with the names that shapes know, if it is a JSON object.
    fn write(&self, row: &[u8]) -> std::result::Result<Option<Written<'_>>, Reason> {
        let Ok(row_columns) = Columns::of(row) else { return Ok(None) };
        let json = String::with_capacity(row.len());
        let mut written = Written { json, ..Written::default() };
        self.object(&row_columns, &self.columns, "", &mut written, |path, value, written| {
            self.value(path, value, written, true)
        })?;
        Ok(Some(written))
    }

    /// Reads a row under the names that shapes know. `read` returns its shape, and the dialogue.
    pub fn read(
        &self,
        row: &[u8],
        unread: &mut Unread,
        read: impl Fn(&[u8], &mut Unread) -> (Option<&'static Shape>, Read),
    ) -> (Option<&'static Shape>, Read) {
        let written = match self.write(row) {
            Ok(written) => written,
            Err(reason) => return (None, Err(reason)),
        };
        let mut own = unread.watching(self.columns.iter().map(|one| one.ours.clone()).collect());
        let json = written.as_ref().map_or(row, |written| written.json.as_bytes());
        let (shape, dialogue) = read(json, &mut own);
        if let Some(Written { columns, roles, .. }) = &written {
            for (column, role) in roles {
                if !own.has(&columns[*column]) {
                    own.role_words.note(&role.theirs, &role.ours);
                }
            }
        }
        let name = shape.map_or("", |shape| shape.name);
        let dialogue = dialogue.and_then(|dialogue| self.check_read(&own, name).map(|()| dialogue));
        unread.take_over(own);
        (shape, dialogue)
    }

    /// Refuses a row of which the shape does not read a column that the recipe names.
    fn check_read(&self, unread: &Unread, shape: &str) -> std::result::Result<(), Reason> {
        let found = unread.found();
        match self.columns.iter().find(|name| found == Some(name.ours.as_str())) {
            None => Ok(()),
            Some(Name { theirs, ours, .. }) => Err(refused(
                theirs,
                &format!(
                    "`source.columns.{ours}` names this column, but rows of shape `{shape}` do not \
                     use it; remove it from `source.columns`"
                ),
            )),
        }
    }

    /// Returns an error for a name that no row had.
    pub fn check_found(&self) -> Result<()> {
        let missing = |names: &[Name]| names.iter().position(Name::is_missing);
        let why = if let Some(index) = missing(&self.columns) {
            let Name { ours, theirs, .. } = &self.columns[index];
            format!("`source.columns.{ours}`: no row has a column `{theirs}`")
        } else if let Some(index) = missing(&self.fields) {
            let Name { ours, theirs, .. } = &self.fields[index];
            format!("`source.columns.{ours}`: no message has a field `{theirs}`")
        } else if let Some(index) = missing(&self.roles) {
            format!("`source.roles`: no message has the role `{}`", self.roles[index].theirs)
        } else if let Some(index) = missing(&self.ignored) {
            format!("`source.ignore`: no row has `{}`", self.ignored[index].theirs)
        } else {
            return Ok(());
        };
        Err(Error::Config(why))
    }

    /// Writes an object with other names. `write` writes a value, for the path and JSON of it.
    fn object<'run>(
        &'run self,
        object: &Columns<'_>,
        names: &[Name],
        path: &str,
        written: &mut Written<'run>,
        write: impl Fn(&str, &str, &mut Written<'run>) -> std::result::Result<(), Reason>,
    ) -> std::result::Result<(), Reason> {
        let mut separator = "";
        written.json.push('{');
        for (name, value) in object.members() {
            let place = format!("{path}{name}");
            if find(&self.ignored, &place).is_some() {
                continue;
            }
            let renamed = match find(names, name) {
                Some(Name { ours, .. }) => ours,
                None => {
                    let meant = names.iter().find(|known| known.ours == name);
                    let meant = meant.filter(|meant| object.names().any(|it| it == meant.theirs));
                    match meant {
                        Some(_) if value == "null" => continue,
                        Some(meant) => {
                            // Names after this one are in the row as well.
                            for name in object.names() {
                                find(names, name);
                                find(&self.ignored, &format!("{path}{name}"));
                            }
                            return Err(both(&place, &meant.theirs));
                        }
                        None => name,
                    }
                }
            };
            written.json.push_str(std::mem::replace(&mut separator, ","));
            written.json.push_str(&quoted(renamed));
            written.json.push(':');
            if SPEAKERS.contains(&renamed) && !path.is_empty() {
                self.role(value, written);
            } else {
                write(&place, value, written)?;
            }
            if path.is_empty() {
                written.end_column(renamed);
            }
        }
        written.json.push('}');
        Ok(())
    }

    /// Writes the value of a column: a list of messages, or an object that has one.
    fn value<'run>(
        &'run self,
        path: &str,
        value: &str,
        written: &mut Written<'run>,
        is_column: bool,
    ) -> std::result::Result<(), Reason> {
        if value.starts_with('[')
            && let Some(messages) = elements(value)
        {
            let mut separator = "[";
            for message in &messages {
                written.json.push_str(std::mem::replace(&mut separator, ","));
                self.message(path, message, written)?;
            }
            written.json.push_str(if messages.is_empty() { "[]" } else { "]" });
        } else if is_column
            && value.starts_with('{')
            && let Some(object) = Columns::within(value, String::new())
        {
            return self.object(
                &object,
                &[],
                &format!("{path}."),
                written,
                |path, value, written| self.value(path, value, written, false),
            );
        } else {
            written.json.push_str(value);
        }
        Ok(())
    }

    fn message<'run>(
        &'run self,
        path: &str,
        value: &str,
        written: &mut Written<'run>,
    ) -> std::result::Result<(), Reason> {
        let object = value.starts_with('{').then(|| Columns::within(value, String::new()));
        let Some(object) = object.flatten() else {
            written.json.push_str(value);
            return Ok(());
        };
        let path = format!("{path}.");
        self.object(&object, &self.fields, &path, written, |_, value, written| {
            written.json.push_str(value);
            Ok(())
        })
    }

    /// Writes a role, for the JSON of its word.
    fn role<'run>(&'run self, value: &str, written: &mut Written<'run>) {
        let word = value.starts_with('"').then(|| serde_json::from_str::<String>(value).ok());
        match word.flatten().and_then(|word| find(&self.roles, &word)) {
            Some(role) => {
                written.json.push_str(&quoted(&role.ours));
                written.note(role);
            }
            None => written.json.push_str(value),
        }
    }
}

/// Whether a name is that of a field of messages, not of a column.
fn is_field(name: &str) -> bool {
    SPEAKERS.contains(&name) || TEXTS.contains(&name) || member(name).is_some()
}

fn both(place: &str, theirs: &str) -> Reason {
    refused(
        place,
        &format!(
            "`{theirs}`, which `source.columns` names so, is there too; add `{place}` to \
             `source.ignore`, or give it another name"
        ),
    )
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
