//! Reads evaluation sets from any file that rows are read from. It uses the texts of one field.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::progress::Watch;
use crate::read::{self, Input, LINE_BYTES_MAX, Progress};
use crate::recipe::Against;

/// Maximum number of texts of all sets together. MMLU has 14,042, and no benchmark for testing
/// models has a million.
const TEXTS_MAX: usize = 1_000_000;
/// Maximum size of all texts together in bytes. The index takes about ten times as much memory.
const TEXT_BYTES_MAX: usize = 256 << 20;

/// One evaluation set: its name and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationSet {
    /// Its name in the recipe.
    pub name: String,
    /// The field that contains its texts.
    pub field: String,
    /// BLAKE3 of its file.
    pub blake3: String,
    /// Texts to search for.
    pub instances: usize,
    /// Rows without text in the field.
    pub rows_without_text: usize,
}

/// One text of an evaluation set.
#[derive(Debug)]
pub(super) struct Text {
    /// The row of its file, from 0.
    pub row: usize,
    /// Its index if the field is a list, else 0.
    pub part: usize,
    pub text: String,
}

/// The remaining limits for texts.
pub(super) struct Room {
    texts: usize,
    bytes: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room { texts: TEXTS_MAX, bytes: TEXT_BYTES_MAX }
    }
}

impl Room {
    /// Counts a text. Returns an error that names the exceeded limit.
    fn take(&mut self, text: &str) -> std::result::Result<(), String> {
        let too_many = |what: String| {
            format!("the evaluation sets together exceed {what}; use fewer or smaller sets")
        };
        self.texts =
            self.texts.checked_sub(1).ok_or_else(|| too_many(format!("{TEXTS_MAX} texts")))?;
        self.bytes = self
            .bytes
            .checked_sub(text.len())
            .ok_or_else(|| too_many(format!("{} MiB of text", TEXT_BYTES_MAX >> 20)))?;
        Ok(())
    }
}

/// Reads the set that a recipe names.
pub(super) fn read(
    against: &Against,
    room: &mut Room,
    watch: &Watch,
) -> Result<(EvaluationSet, Vec<Text>)> {
    let path = against.path.as_ref().ok_or_else(|| {
        Error::Config(format!(
            "[[decontaminate.against]] `{}` has no `path`; paths are not kept in the manifest's \
                copy of a recipe, so add it again",
            against.name
        ))
    })?;
    let input = read::digest(Path::new(path), watch)?;
    let mut gathered = Gathered {
        input: &input,
        field: &against.field,
        room,
        texts: Vec::new(),
        rows: 0,
        rows_without_text: 0,
        known: None,
    };
    each_row(&input, watch, &mut |row| gathered.add(&row))?;
    let Gathered { texts, rows_without_text, known, .. } = gathered;
    input.check_unchanged()?;
    if texts.is_empty() {
        let known = known.unwrap_or_else(|| "none".to_owned());
        return Err(Error::Input(format!(
            "`{}` has no text in field `{}`; available fields: {known}",
            input.path.display(),
            against.field
        )));
    }
    let (name, field) = (against.name.clone(), against.field.clone());
    Ok((
        EvaluationSet {
            name,
            field,
            blake3: input.blake3,
            instances: texts.len(),
            rows_without_text,
        },
        texts,
    ))
}

/// The texts of a set so far. Each row is freed once its texts are copied.
struct Gathered<'set> {
    input: &'set Input,
    field: &'set str,
    room: &'set mut Room,
    texts: Vec<Text>,
    rows: usize,
    rows_without_text: usize,
    /// The fields of the first row, for an error.
    known: Option<String>,
}

impl Gathered<'_> {
    fn add(&mut self, row: &Value) -> Result<()> {
        let number = self.rows;
        let wrong = |why: String| {
            Error::Input(format!("`{}`: row {number}: {why}", self.input.path.display()))
        };
        if number == 0 {
            self.known = row
                .as_object()
                .map(|row| row.keys().map(String::as_str).collect::<Vec<_>>().join(", "));
        }
        let parts = parts(field(row, self.field))
            .map_err(|why| wrong(format!("`{}` {why}", self.field)))?;
        let before = self.texts.len();
        for (part, text) in
            parts.into_iter().enumerate().filter(|(_, text)| !text.trim().is_empty())
        {
            self.room.take(text).map_err(&wrong)?;
            self.texts.push(Text { row: number, part, text: text.to_owned() });
        }
        self.rows_without_text += usize::from(self.texts.len() == before);
        self.rows += 1;
        Ok(())
    }
}

/// Receives each row.
type Take<'set> = &'set mut dyn FnMut(Value) -> Result<()>;

/// Hands on every row of a file as a JSON object.
fn each_row(input: &Input, watch: &Watch, take: Take<'_>) -> Result<()> {
    for chunk in read::chunks(input, &Progress::of(watch))? {
        let chunk = chunk?;
        for row in &chunk.rows {
            watch.check()?;
            let wrong = |why: String| {
                Error::Input(format!(
                    "cannot read `{}`: line {}: {why}",
                    input.path.display(),
                    row.line
                ))
            };
            if row.length > LINE_BYTES_MAX as u64 {
                return Err(wrong(format!("{} bytes (limit: {LINE_BYTES_MAX})", row.length)));
            }
            take(
                serde_json::from_slice(&chunk.bytes[row.start..row.end])
                    .map_err(|error| wrong(error.to_string()))?,
            )?;
        }
    }
    Ok(())
}

/// The value of a field: either a literal name, or names and list indices joined by dots.
fn field<'row>(row: &'row Value, name: &str) -> Option<&'row Value> {
    let step = |here: &'row Value, part: &str| match here {
        Value::Array(list) => part.parse::<usize>().ok().and_then(|index| list.get(index)),
        _ => here.get(part),
    };
    row.get(name).or_else(|| name.split('.').try_fold(row, step))
}

/// The texts in a field: one, or a list of them.
fn parts(value: Option<&Value>) -> std::result::Result<Vec<&str>, String> {
    match value {
        Some(Value::Array(list)) => list.iter().map(|part| text(Some(part))).collect(),
        value => Ok(vec![text(value)?]),
    }
}

fn text(value: Option<&Value>) -> std::result::Result<&str, String> {
    match value {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Ok(""),
        Some(other) => Err(format!("must be a string or a list of strings, found {}", head(other))),
    }
}

/// The start of a value, for an error.
fn head(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str, content: &str, field: &str) -> Result<Vec<(usize, usize, String)>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join(file);
        std::fs::write(&path, content).expect("writes");
        let against = Against {
            name: "set".to_owned(),
            path: Some(path.to_string_lossy().into_owned()),
            field: field.to_owned(),
        };
        Ok(read(&against, &mut Room::default(), &Watch::default())?
            .1
            .into_iter()
            .map(|text| (text.row, text.part, text.text))
            .collect())
    }

    #[test]
    fn a_field_is_found_in_lines_in_an_array_and_in_csv() {
        let expected = vec![(0, 0, "one".to_owned()), (1, 0, "two, \"three\"\nfour".to_owned())];
        let lines = "{\"q\":\"one\"}\n{\"q\":\"two, \\\"three\\\"\\nfour\"}\n";
        assert_eq!(texts("a.jsonl", lines, "q").expect("reads"), expected);
        assert_eq!(texts("a.json", lines, "q").expect("reads"), expected);
        assert_eq!(
            texts("a.json", &format!("\n[{}]", lines.trim().replace('\n', ",")), "q")
                .expect("reads"),
            expected
        );
        let table = "\u{feff}q,other\none,1\n\"two, \"\"three\"\"\nfour\",2\n";
        assert_eq!(texts("a.csv", table, "q").expect("reads"), expected);
    }

    #[test]
    fn lists_give_their_parts_and_dots_reach_inside() {
        let row = "{\"turns\":[\"a\",\" \",\"c\"],\"m\":[{\"content\":\"x\"}]}";
        assert_eq!(
            texts("a.jsonl", row, "turns").expect("reads"),
            [(0, 0, "a".to_owned()), (0, 2, "c".to_owned())]
        );
        assert_eq!(texts("a.jsonl", row, "m.0.content").expect("reads"), [(0, 0, "x".to_owned())]);
    }

    #[test]
    fn a_field_that_is_nowhere_or_no_text_is_refused() {
        let error = |field| {
            texts("a.jsonl", "{\"turns\":[\"a\"],\"id\":7}", field)
                .expect_err("is refused")
                .to_string()
        };
        assert!(
            error("prompt").ends_with("has no text in field `prompt`; available fields: turns, id")
        );
        assert!(
            error("id").ends_with("row 0: `id` must be a string or a list of strings, found 7")
        );
    }
}
