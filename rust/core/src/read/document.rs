//! Cuts a JSON document into rows as it is read: an array of rows, an object around such an array
//! (`{"data": [{…}, …]}`), or objects that are printed over several lines each.
//!
//! Only brackets and strings are followed here. Whether a row is valid JSON is for its shape to
//! say, so one bad row does not cost the others. Memory holds a piece of the file and one row,
//! however long the array is.

use super::text::Text;
use super::{CHUNK_ROWS_MAX, Chunk, KEPT_OF_LONG_ROW, LINE_BYTES_MAX, RawRow};
use crate::error::{Error, Result};

/// Members of an object that are read as its rows if they are arrays of objects. Lists within a
/// row, such as `messages`, have other names.
const ROWS: [&[u8]; 7] =
    [b"data", b"rows", b"examples", b"instances", b"samples", b"records", b"train"];

/// The form of a text input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One row per line.
    Lines,
    /// A JSON document.
    Document(Start),
}

/// Where the rows of a document begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// The number of bytes before the first row.
    from: usize,
    around: Around,
}

/// What encloses the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Around {
    /// Nothing: objects follow each other.
    Nothing,
    Array,
    /// An array that is a member of an object.
    Member,
}

/// Tells the form from the first bytes of a text. `is_all` if there are no others.
pub(super) fn form_of(head: &[u8], is_all: bool) -> Form {
    let before = head.len() - head.trim_ascii_start().len();
    let text = &head[before..];
    let (line, others) = text.split_at(memchr::memchr(b'\n', text).unwrap_or(text.len()));
    let mut nesting = Nesting::default();
    let line_end = match text.first() {
        Some(b'[' | b'{') => nesting.value_end(line),
        _ => return Form::Lines,
    };
    let is_one_line = |end: usize| is_all && text[end..].trim_ascii().is_empty();
    let is_row = match line_end {
        Some(end) => !is_one_line(end),
        // A string does not end with its line: it is a row that was cut off.
        None => nesting.in_string && !others.is_empty(),
    };
    if is_row {
        return Form::Lines;
    }
    let document = |from, around| Form::Document(Start { from: before + from, around });
    if text.starts_with(b"[") {
        document(1, Around::Array)
    } else if let Some(from) = rows_of_object(text) {
        document(from, Around::Member)
    } else if line_end.is_none() && starts_with_value(text) {
        document(0, Around::Nothing)
    } else {
        Form::Lines
    }
}

/// Whether a text starts with a complete JSON value.
fn starts_with_value(text: &[u8]) -> bool {
    let mut values =
        serde_json::Deserializer::from_slice(text).into_iter::<serde::de::IgnoredAny>();
    values.next().is_some_and(|value| value.is_ok())
}

/// The position of the first row within an object that is a list of rows.
fn rows_of_object(text: &[u8]) -> Option<usize> {
    let skip = |at: usize| {
        let rest = text.get(at..)?;
        Some(at + rest.len() - rest.trim_ascii_start().len())
    };
    let value_end = |at: usize| Some(at + Nesting::default().value_end(text.get(at..)?)?);
    let mut at = skip(1)?;
    while text.get(at) == Some(&b'"') {
        let name_end = value_end(at)?;
        let name = &text[at + 1..name_end - 1];
        at = skip(name_end)?;
        if text.get(at) != Some(&b':') {
            return None;
        }
        at = skip(at + 1)?;
        if text.get(at) == Some(&b'[')
            && text.get(skip(at + 1)?) == Some(&b'{')
            && ROWS.contains(&name)
        {
            return Some(at + 1);
        }
        at = skip(value_end(at)?)?;
        if text.get(at) != Some(&b',') {
            return None;
        }
        at = skip(at + 1)?;
    }
    None
}

/// A position within a JSON value.
#[derive(Debug, Default, Clone, Copy)]
struct Nesting {
    depth: usize,
    in_string: bool,
    /// Whether the last byte was a backslash in a string.
    is_escaped: bool,
}

impl Nesting {
    /// Goes on through a value, and returns where it ends if it does within these bytes.
    fn value_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.in_string {
                at += self.string_end(&bytes[at..])?;
                if self.depth == 0 {
                    return Some(at);
                }
                continue;
            }
            match bytes[at] {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                // The end of a number, or of a word.
                b'}' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => {
                    return Some(at);
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        None
    }

    /// Goes on through a string, and returns where it ends if it does within these bytes.
    fn string_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = usize::from(std::mem::take(&mut self.is_escaped));
        while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
        {
            at += found + 1;
            if bytes[at - 1] == b'"' {
                self.in_string = false;
                return Some(at);
            }
            self.is_escaped = at == bytes.len();
            at += 1;
        }
        None
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A row, or the end.
    Before,
    Inside,
    /// A comma, or the end.
    After,
    /// What follows the array.
    Behind,
}

/// The rows of a document.
pub(super) struct Values {
    text: Text,
    around: Around,
    state: State,
    /// The bytes of `pending` that were looked at.
    at: usize,
    /// Where the row on its way starts, and in which line.
    start: usize,
    line: u64,
    nesting: Nesting,
    /// Bytes of this row that were dropped because it is too long.
    dropped: u64,
    /// The line breaks before `counted`, a position in `pending`.
    breaks: u64,
    counted: usize,
    /// The object around the array, and whether an array in it has just been opened.
    object: Nesting,
    has_opened: bool,
    failure: Option<Error>,
    is_over: bool,
}

impl Values {
    pub(super) fn new(text: Text, start: Start) -> Values {
        Values {
            text,
            around: start.around,
            state: State::Before,
            at: start.from,
            start: 0,
            line: 0,
            nesting: Nesting::default(),
            dropped: 0,
            breaks: 0,
            counted: 0,
            object: Nesting { depth: 1, ..Nesting::default() },
            has_opened: false,
            failure: None,
            is_over: false,
        }
    }

    /// Goes through `pending` and adds the rows that end in it, as many as a chunk has room for.
    fn scan(&mut self, rows: &mut Vec<RawRow>) -> Result<()> {
        while self.at < self.text.pending.len() && rows.len() < CHUNK_ROWS_MAX {
            if self.state != State::Inside {
                self.step(self.text.pending[self.at])?;
                continue;
            }
            let Some(length) = self.nesting.value_end(&self.text.pending[self.at..]) else {
                self.at = self.text.pending.len();
                break;
            };
            self.at += length;
            rows.push(self.row());
            // What follows a row that was cut is at other positions than it seems.
            if self.dropped > 0 {
                break;
            }
        }
        Ok(())
    }

    /// The row that ends here.
    fn row(&mut self) -> RawRow {
        self.state = State::After;
        RawRow {
            offset: self.text.offset + self.start as u64,
            length: (self.at - self.start) as u64 + self.dropped,
            line: self.line,
            start: self.start,
            end: self.at,
        }
    }

    /// Looks at a byte that belongs to no row.
    fn step(&mut self, byte: u8) -> Result<()> {
        if byte.is_ascii_whitespace() {
            self.at += 1;
            return Ok(());
        }
        match (self.state, byte, self.around) {
            (State::Behind, _, Around::Member) => self.step_behind(byte)?,
            (State::Behind, ..) => return Err(self.behind("array")),
            (State::After, _, Around::Nothing) => {
                self.state = State::Before;
                return Ok(());
            }
            (State::After, b',', _) => self.state = State::Before,
            (State::Before | State::After, b']', Around::Array | Around::Member) => {
                self.state = State::Behind;
            }
            (State::After, ..) => return Err(self.unexpected(byte, "`,` or `]` after a row")),
            (State::Before, b',' | b':' | b'}' | b']', _) => {
                return Err(self.unexpected(byte, "a row"));
            }
            (State::Before | State::Inside, ..) => {
                (self.state, self.start) = (State::Inside, self.at);
                self.line = self.line_here();
                self.nesting = Nesting::default();
                return Ok(());
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Looks at a byte of the object behind its array.
    fn step_behind(&mut self, byte: u8) -> Result<()> {
        if self.object.depth == 0 {
            return Err(self.behind("object"));
        }
        if std::mem::take(&mut self.has_opened) && byte == b'{' {
            let line = self.line_here();
            return Err(self.text.error(format!(
                "line {line}: its JSON object has more than one list of objects; write the rows into \
                 a file of their own"
            )));
        }
        self.has_opened = !self.object.in_string && self.object.depth == 1 && byte == b'[';
        self.object.value_end(&[byte]);
        Ok(())
    }

    fn unexpected(&mut self, byte: u8, expected: &str) -> Error {
        let (line, found) = (self.line_here(), char::from(byte).escape_default());
        self.text.error(format!(
            "line {line}: expected {expected}, found `{found}`; it is not valid JSON"
        ))
    }

    fn behind(&mut self, what: &str) -> Error {
        let line = self.line_here();
        self.text.error(format!(
            "line {line}: there is more after the end of the JSON {what}; a file holds one {what}, or \
             one object per line"
        ))
    }

    /// The number of the line that is looked at.
    fn line_here(&mut self) -> u64 {
        self.count_breaks(self.at);
        self.breaks + 1
    }

    fn count_breaks(&mut self, to: usize) {
        if let Some(new) = self.text.pending.get(self.counted..to) {
            self.breaks += memchr::memchr_iter(b'\n', new).count() as u64;
            self.counted = to;
        }
    }

    /// Removes what is no longer needed from `pending`: all but the row on its way.
    fn take(&mut self) -> Vec<u8> {
        let count = if self.state == State::Inside { self.start } else { self.at };
        self.count_breaks(count);
        self.text.offset += count as u64;
        if self.state != State::Inside {
            self.text.offset += std::mem::take(&mut self.dropped);
        }
        self.counted -= count;
        self.at -= count;
        self.start = 0;
        self.text.take(count)
    }

    /// Reads on. Of a row that is too long only the beginning is kept.
    fn read_more(&mut self) -> Result<()> {
        drop(self.take());
        let held = self.text.pending.len();
        if held > LINE_BYTES_MAX {
            self.count_breaks(held);
            self.dropped += (held - KEPT_OF_LONG_ROW) as u64;
            self.text.pending.truncate(KEPT_OF_LONG_ROW);
            (self.at, self.counted) = (KEPT_OF_LONG_ROW, KEPT_OF_LONG_ROW);
        }
        self.text.read_more()
    }

    /// An error if the document is not complete where the file ends.
    fn check_complete(&mut self) -> Result<()> {
        let is_complete = match (self.state, self.around) {
            (State::Before | State::After, Around::Nothing) => true,
            (State::Behind, Around::Member) => self.object.depth == 0,
            (State::Behind, Around::Array | Around::Nothing) => true,
            (State::Inside, _) | (_, Around::Array | Around::Member) => false,
        };
        if is_complete {
            return Ok(());
        }
        let place = if self.state == State::Inside {
            format!("the row that starts in line {}", self.line)
        } else {
            format!("the JSON document, in line {}", self.line_here())
        };
        Err(self.text.error(format!("it ends in the middle of {place}; is it complete?")))
    }

    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        loop {
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            let mut rows = Vec::new();
            self.failure = self.scan(&mut rows).err();
            if !rows.is_empty() {
                let input = self.text.input;
                return Ok(Some(Chunk { input, bytes: self.take(), rows }));
            }
            if self.failure.is_none() && self.at == self.text.pending.len() {
                if self.text.ended {
                    return self.check_complete().map(|()| None);
                }
                self.read_more()?;
            }
        }
    }
}

impl Iterator for Values {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Result<Chunk>> {
        if self.is_over {
            return None;
        }
        let next = self.next_chunk();
        self.is_over = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{CHUNK_BYTES, Input, open};
    use super::*;

    /// Line and text of each row, then the error, if there is one.
    fn read(text: &[u8]) -> (Vec<(u64, String)>, Option<String>) {
        let path = std::path::PathBuf::from("x.json");
        let (name, blake3) = (String::new(), String::new());
        let input = Input { ordinal: 0, path, name, blake3, bytes: 0, modified: None };
        let stream = Box::new(std::io::Cursor::new(text.to_vec()));
        let mut rows = Vec::new();
        for chunk in open::rows(stream, &input).expect("opens") {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return (rows, Some(error.to_string())),
            };
            for row in &chunk.rows {
                let bytes = &chunk.bytes[row.start..row.end];
                if row.length == bytes.len() as u64 {
                    assert_eq!(&text[row.offset as usize..][..bytes.len()], bytes);
                }
                rows.push((row.line, String::from_utf8_lossy(bytes).into_owned()));
            }
        }
        (rows, None)
    }

    fn rows(text: &str) -> Vec<(u64, String)> {
        let (rows, error) = read(text.as_bytes());
        assert_eq!(error, None, "{text}");
        rows
    }

    fn lines_of(text: &str) -> Vec<u64> {
        rows(text).iter().map(|(line, _)| *line).collect()
    }

    #[test]
    fn rows_are_found_in_every_form_of_a_document() {
        let (a, b) = (r#"{"a":"x]\\\"}"}"#, r#"{"b":[{"c":[]}]}"#);
        for (text, lines) in [
            (format!("[{a},{b}]"), [1, 1]),
            (format!("\u{feff}\n [\n  {a},\n\n  {b}\n]\n\n"), [3, 5]),
            (format!("[\r\n{a}\r\n,{b}]"), [2, 3]),
            (format!(r#"{{"data":[{a},{b}]}}"#), [1, 1]),
            (
                format!(
                    r#"{{"v": {{"data": [1]}}, "n": [], "rows" : [ {a}, {b} ], "m": [[{{}}]] }}"#
                ),
                [1, 1],
            ),
            (format!("{a}\n{b}"), [1, 2]),
        ] {
            assert_eq!(rows(&text), [(lines[0], a.to_owned()), (lines[1], b.to_owned())], "{text}");
        }
        let printed = "{\n \"a\": 1\n}\n{\n \"b\": 2\n}\n";
        assert_eq!(
            rows(printed),
            [(1, "{\n \"a\": 1\n}".to_owned()), (4, "{\n \"b\": 2\n}".to_owned())]
        );
        assert_eq!(rows("[]"), []);
        assert_eq!(
            rows("[1, \"x\" ,null]").iter().map(|row| &*row.1).collect::<Vec<_>>(),
            ["1", "\"x\"", "null"]
        );
    }

    #[test]
    fn lines_stay_lines() {
        // Rows of which the first is a list, is broken, or has a list of rows' name.
        assert_eq!(lines_of("[1,2]\n{\"a\":1}\n"), [1, 2]);
        assert_eq!(lines_of("{\n{\"a\":1}\n{\"a\":2}\n"), [1, 2, 3]);
        assert_eq!(lines_of("[{\"a\":\"cut\n{\"a\":1}\n"), [1, 2]);
        assert_eq!(lines_of("{\"data\":[{}]}\n{\"data\":[{}]}\n"), [1, 2]);
        assert_eq!(lines_of("{\"data\":[\"q\",\"a\"]}\n"), [1]);
        assert_eq!(lines_of("{\"messages\":[{},{}]}"), [1]);
    }

    #[test]
    fn a_document_that_is_not_whole_ends_in_an_error_behind_its_rows() {
        for (text, count, why) in [
            ("[{\"a\":1},\n{\"a\"", 1, "in the middle of the row that starts in line 2"),
            ("[{\"a\":1},\n", 1, "in the middle of the JSON document, in line 2"),
            ("[{\"a\":1}\n{\"a\":2}]", 1, "line 2: expected `,` or `]` after a row, found `{`"),
            ("[\n{\"a\":1},,{}]", 1, "line 2: expected a row, found `,`"),
            ("[\n{\"a\":1}]\n\n[{}]", 1, "line 4: there is more after the end of the JSON array"),
            ("{\"data\":[{\"a\":1}]", 1, "in the middle of the JSON document"),
            ("{\"data\":\n[{\"a\":1}]}{}", 1, "more after the end of the JSON object"),
            ("{\"train\":[{}],\n\"test\": [ {}]}", 1, "line 2: its JSON object has more than one"),
        ] {
            let (rows, error) = read(text.as_bytes());
            assert_eq!(rows.len(), count, "{text}");
            assert!(error.as_ref().is_some_and(|error| error.contains(why)), "{text}: {error:?}");
        }
    }

    #[test]
    fn a_row_over_the_limit_keeps_its_place_and_the_next_one_is_found() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(LINE_BYTES_MAX + 2 * CHUNK_BYTES));
        let text = format!("[{{}},\n{long},\n\n{{\"b\":1}}]");
        let stream = Box::new(std::io::Cursor::new(text.clone().into_bytes()));
        let path = std::path::PathBuf::from("x.json");
        let (name, blake3) = (String::new(), String::new());
        let input = Input { ordinal: 0, path, name, blake3, bytes: 0, modified: None };
        let found: Vec<RawRow> = open::rows(stream, &input)
            .expect("opens")
            .flat_map(|chunk| chunk.expect("reads").rows)
            .collect();
        let places: Vec<_> = found.iter().map(|row| (row.offset, row.length, row.line)).collect();
        let long_end = 5 + long.len() as u64;
        assert_eq!(places, [(1, 2, 1), (5, long.len() as u64, 2), (long_end + 3, 7, 4)]);
    }

    #[test]
    fn rows_that_cross_pieces_stay_whole() {
        let row = |number: usize| {
            format!("{{\"n\":{number},\"t\":\"{}\"}}", "\\\"\\\\".repeat(number * 977))
        };
        let all: Vec<String> = (0..60).map(row).collect();
        let read = rows(&format!("[{}]", all.join(",")));
        assert_eq!(read.into_iter().map(|(_, row)| row).collect::<Vec<_>>(), all);
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Into::into),
            any::<bool>().prop_map(Into::into),
            "[\\\\\"\\]}{\\[,a\n]{0,6}".prop_map(serde_json::Value::String),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec(("[a\\\\\"]{0,3}", inner), 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn the_values_of_any_array_are_its_rows(values in prop::collection::vec(value(), 0..8), is_pretty: bool) {
            let text = if is_pretty { serde_json::to_string_pretty(&values) } else { serde_json::to_string(&values) };
            let found: Vec<serde_json::Value> = rows(&text.expect("is JSON"))
                .iter()
                .map(|(_, row)| serde_json::from_str(row).expect("is JSON"))
                .collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn any_text_has_an_end(text in "[\\[\\]{}\",:\\\\a1 \n]{0,40}") {
            let (rows, _) = read(text.as_bytes());
            prop_assert!(rows.len() <= text.len());
        }
    }
}
