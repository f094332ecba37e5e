//! Reads evaluation sets: JSON lines (plain, gzip, zstd), one JSON array, CSV with a header, Parquet or Arrow; the texts of one field.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::read::{self, Input};
use crate::recipe::Against;
use crate::watch::Watch;

/// One evaluation set: what it is called and what it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationSet {
    /// Its name in the recipe.
    pub name: String,
    /// The field its texts stand in.
    pub field: String,
    /// BLAKE3 of its file.
    pub blake3: String,
    /// Texts to search for.
    pub instances: usize,
    /// Rows with nothing in the field.
    pub rows_without_text: usize,
}

/// One text of an evaluation set.
#[derive(Debug)]
pub(super) struct Text {
    /// The row of its file, from 0.
    pub row: usize,
    /// Its place where the field is a list, else 0.
    pub part: usize,
    pub text: String,
}

/// Reads the set that a recipe names.
pub(super) fn read(against: &Against) -> Result<(EvaluationSet, Vec<Text>)> {
    let path = against.path.as_ref().ok_or_else(|| {
        Error::Recipe(format!(
            "[[decontaminate.against]] `{}` has no `path`; the printed copy of a recipe keeps none: write it again",
            against.name
        ))
    })?;
    let input = read::digest(Path::new(path), &Watch::default())?;
    let rows = rows(&input)?;
    input.check_unchanged()?;
    let mut texts = Vec::new();
    let mut rows_without_text = 0;
    for (number, row) in rows.iter().enumerate() {
        let wrong = |why: String| Error::Input(format!("`{}`: row {number}: {why}", input.path.display()));
        let parts = parts(field(row, &against.field)).map_err(|why| wrong(format!("`{}` {why}", against.field)))?;
        let before = texts.len();
        let told = parts.into_iter().enumerate().filter(|(_, text)| !text.trim().is_empty());
        texts.extend(told.map(|(part, text)| Text { row: number, part, text: text.to_owned() }));
        rows_without_text += usize::from(texts.len() == before);
    }
    if texts.is_empty() {
        let known = rows.first().and_then(Value::as_object).map(|row| row.keys().map(String::as_str).collect::<Vec<_>>().join(", "));
        let known = known.unwrap_or_else(|| "no fields at all".to_owned());
        return Err(Error::Input(format!(
            "`{}` has no text in the field `{}`; its rows have: {known}",
            input.path.display(),
            against.field
        )));
    }
    let (name, field) = (against.name.clone(), against.field.clone());
    Ok((EvaluationSet { name, field, blake3: input.blake3, instances: texts.len(), rows_without_text }, texts))
}

/// All rows of a file as JSON objects. Evaluation sets are small.
fn rows(input: &Input) -> Result<Vec<Value>> {
    let lower = input.name.to_ascii_lowercase();
    if lower.ends_with(".csv") {
        return csv_rows(&input.path);
    }
    if lower.ends_with(".json") {
        let bytes = std::fs::read(&input.path).map_err(|error| Error::input(&input.path, error))?;
        if bytes.trim_ascii_start().starts_with(b"[") {
            return serde_json::from_slice(&bytes).map_err(|error| Error::input(&input.path, error));
        }
    }
    let mut rows = Vec::new();
    for chunk in read::chunks(input, &Arc::default())? {
        let chunk = chunk?;
        for row in &chunk.rows {
            let value = serde_json::from_slice(&chunk.bytes[row.start..row.end])
                .map_err(|error| Error::Input(format!("cannot read `{}`: line {}: {error}", input.path.display(), row.line)))?;
            rows.push(value);
        }
    }
    Ok(rows)
}

fn csv_rows(path: &Path) -> Result<Vec<Value>> {
    let failed = |error: csv::Error| Error::input(path, error);
    let mut reader = csv::Reader::from_path(path).map_err(failed)?;
    let names = reader.headers().map_err(failed)?.clone();
    let row = |record: std::result::Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(failed)?;
        Ok(names.iter().zip(&record).map(|(name, cell)| (name.to_owned(), Value::from(cell))).collect::<serde_json::Map<_, _>>().into())
    };
    reader.records().map(row).collect()
}

/// The value of a field: a name as it stands, or names and places in lists joined by dots.
fn field<'row>(row: &'row Value, name: &str) -> Option<&'row Value> {
    let step = |here: &'row Value, part: &str| match here {
        Value::Array(list) => part.parse::<usize>().ok().and_then(|place| list.get(place)),
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
        Some(other) => Err(format!("is neither text nor a list of texts but {}", head(other))),
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
        let against = Against { name: "set".to_owned(), path: Some(path.to_string_lossy().into_owned()), field: field.to_owned() };
        Ok(read(&against)?.1.into_iter().map(|text| (text.row, text.part, text.text)).collect())
    }

    #[test]
    fn a_field_is_found_in_lines_in_an_array_and_in_csv() {
        let expected = vec![(0, 0, "one".to_owned()), (1, 0, "two, \"three\"\nfour".to_owned())];
        let lines = "{\"q\":\"one\"}\n{\"q\":\"two, \\\"three\\\"\\nfour\"}\n";
        assert_eq!(texts("a.jsonl", lines, "q").expect("reads"), expected);
        assert_eq!(texts("a.json", lines, "q").expect("reads"), expected);
        assert_eq!(texts("a.json", &format!("\n[{}]", lines.trim().replace('\n', ",")), "q").expect("reads"), expected);
        let table = "\u{feff}q,other\none,1\n\"two, \"\"three\"\"\nfour\",2\n";
        assert_eq!(texts("a.csv", table, "q").expect("reads"), expected);
    }

    #[test]
    fn lists_give_their_parts_and_dots_reach_inside() {
        let row = "{\"turns\":[\"a\",\" \",\"c\"],\"m\":[{\"content\":\"x\"}]}";
        assert_eq!(texts("a.jsonl", row, "turns").expect("reads"), [(0, 0, "a".to_owned()), (0, 2, "c".to_owned())]);
        assert_eq!(texts("a.jsonl", row, "m.0.content").expect("reads"), [(0, 0, "x".to_owned())]);
    }

    #[test]
    fn a_field_that_is_nowhere_or_no_text_is_refused() {
        let error = |field| texts("a.jsonl", "{\"turns\":[\"a\"],\"id\":7}", field).expect_err("is refused").to_string();
        assert!(error("prompt").ends_with("has no text in the field `prompt`; its rows have: turns, id"));
        assert!(error("id").ends_with("row 0: `id` is neither text nor a list of texts but 7"));
    }
}
