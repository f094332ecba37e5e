//! Reads CSV and TSV files with a header. Each row becomes a JSON object. Every value is a string,
//! exactly as in the file, and no text is converted to a number. An empty cell counts as missing.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use super::{CHUNK_BYTES, CHUNK_ROWS_MAX, Chunk, Chunks, Input, LINE_BYTES_MAX, RawRow};
use crate::error::{Error, Result};

/// Read after the last byte of the file: a line that only an open quote can include in a cell. The
/// CSV reader ends an open quote at the end of the file without an error.
const END_LINE: &[u8] = b"\nx";

/// The rows of a table. The last chunk is an error if the file ends within a quoted cell.
pub(super) fn rows(stream: Box<dyn Read + Send>, delimiter: u8, input: &Input) -> Result<Chunks> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let stream = ShortRows { stream, end: END_LINE, seen: Arc::clone(&seen) };
    // Rows with fewer or more cells go to the quarantine. They do not end the file.
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(stream);
    let failed = |error: csv::Error| Error::input(&input.path, error);
    let mut header = reader.byte_headers().map_err(failed)?.clone();
    if has_ended(&reader, &seen) {
        check_closed(&header, &reader).map_err(|why| Error::input(&input.path, why))?;
        header.clear();
    }
    let names = names(&header).map_err(|why| Error::input(&input.path, why))?;
    let is_empty = header.is_empty();
    let rows = Rows { reader, seen, names, input: input.clone(), failure: None, is_over: is_empty };
    Ok(Box::new(rows))
}

/// The column names as JSON strings, `None` for a column without a name, which is skipped.
fn names(header: &csv::ByteRecord) -> std::result::Result<Vec<Option<Vec<u8>>>, String> {
    for (index, name) in header.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let shown = String::from_utf8_lossy(name);
        if std::str::from_utf8(name).is_err() {
            return Err(format!("the column name `{shown}` is not UTF-8; convert the file first"));
        }
        if header.iter().take(index).any(|earlier| earlier == name) {
            return Err(format!("its header has the column `{shown}` twice; rename one of them"));
        }
    }
    let quoted = |name: &[u8]| {
        let mut json = Vec::new();
        write_text(name, &mut json);
        json
    };
    Ok(header.iter().map(|name| (!name.is_empty()).then(|| quoted(name))).collect())
}

/// The state of a table that is being read.
struct Rows {
    reader: csv::Reader<ShortRows>,
    seen: Arc<Mutex<Seen>>,
    names: Vec<Option<Vec<u8>>>,
    input: Input,
    failure: Option<Error>,
    is_over: bool,
}

impl Rows {
    /// Reads rows, and keeps the error after them, if there is one, in `failure`.
    fn chunk(&mut self) -> Chunk {
        let mut chunk = Chunk { input: self.input.ordinal, ..Chunk::default() };
        let mut record = csv::ByteRecord::new();
        while chunk.bytes.len() < CHUNK_BYTES && chunk.rows.len() < CHUNK_ROWS_MAX {
            locked(&self.seen).since_row = 0;
            let line = self.reader.position().line();
            if let Err(why) = self.reader.read_byte_record(&mut record) {
                self.failure = Some(self.error(format!("line {line}: {why}")));
                break;
            }
            if has_ended(&self.reader, &self.seen) {
                let closed = check_closed(&record, &self.reader);
                (self.failure, self.is_over) = (closed.err().map(|why| self.error(why)), true);
                break;
            }
            let position = record.position().cloned().unwrap_or_else(csv::Position::new);
            let rest_of_break = u64::from(locked(&self.seen).is_rest_of_break(position.byte()));
            let mut offset = position.byte() + rest_of_break;
            // The CSV reader skips blank lines, and counts them as part of the row behind them.
            let end = self.reader.position();
            let own_break = u64::from(!locked(&self.seen).is_in_break(end.byte()));
            let blank = (end.line() - position.line())
                .saturating_sub(rest_of_break + own_break)
                .saturating_sub(breaks_in_cells(&record));
            for _ in 0..blank {
                offset += 1 + u64::from(locked(&self.seen).is_rest_of_break(offset + 1));
            }
            let start = chunk.bytes.len();
            self.write(&record, &mut chunk.bytes);
            chunk.rows.push(RawRow {
                offset,
                length: end.byte().min(locked(&self.seen).bytes).saturating_sub(offset),
                line: position.line() + rest_of_break + blank,
                start,
                end: chunk.bytes.len(),
            });
        }
        chunk
    }

    fn error(&self, why: impl std::fmt::Display) -> Error {
        Error::input(&self.input.path, why)
    }

    /// Writes a row as JSON: an object, or an array if its number of cells differs from the
    /// header's.
    fn write(&self, record: &csv::ByteRecord, json: &mut Vec<u8>) {
        let is_row = record.len() == self.names.len();
        json.push(if is_row { b'{' } else { b'[' });
        let start = json.len();
        for (index, cell) in record.iter().enumerate() {
            let name = self.names.get(index).and_then(Option::as_ref);
            if is_row && (cell.is_empty() || name.is_none()) {
                continue;
            }
            if json.len() > start {
                json.push(b',');
            }
            if let (true, Some(name)) = (is_row, name) {
                json.extend_from_slice(name);
                json.push(b':');
            }
            write_text(cell, json);
        }
        json.push(if is_row { b'}' } else { b']' });
    }
}

impl Iterator for Rows {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Result<Chunk>> {
        if !self.is_over && self.failure.is_none() {
            let chunk = self.chunk();
            if !chunk.rows.is_empty() {
                return Some(Ok(chunk));
            }
        }
        self.is_over = true;
        self.failure.take().map(Err)
    }
}

fn breaks_in_cells(record: &csv::ByteRecord) -> u64 {
    memchr::memchr_iter(b'\n', record.as_slice()).count() as u64
}

/// Whether the CSV reader has read all of [`END_LINE`]. A row in the last line of the file ends at
/// its line break.
fn has_ended(reader: &csv::Reader<ShortRows>, seen: &Mutex<Seen>) -> bool {
    reader.position().byte() > locked(seen).bytes + 1
}

/// Fails if the last row of a stream is more than the line after the file, because the quote of its
/// last cell was not closed.
fn check_closed(
    record: &csv::ByteRecord,
    reader: &csv::Reader<ShortRows>,
) -> std::result::Result<(), String> {
    let cell = record.iter().next_back().unwrap_or_default();
    if !cell.contains(&b'\n') {
        return Ok(());
    }
    let line = reader.position().line() - memchr::memchr_iter(b'\n', cell).count() as u64;
    Err(format!(
        "it ends in the middle of the quoted cell that starts in line {line}; is a closing quote \
         missing, or is the file incomplete?"
    ))
}

/// Writes text as a JSON string. Bytes that are not UTF-8 are kept, so that the row is quarantined
/// for them.
fn write_text(text: &[u8], json: &mut Vec<u8>) {
    json.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => json.extend_from_slice(&[b'\\', *byte]),
            b'\n' => json.extend_from_slice(b"\\n"),
            0..0x20 => json.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => json.push(*byte),
        }
    }
    json.push(b'"');
}

/// A stream that ends with [`END_LINE`], and fails once a single row has read too many bytes. The CSV
/// reader has no such limit, and an unclosed quote turns the rest of the file into one row.
struct ShortRows {
    stream: Box<dyn Read + Send>,
    /// What remains of [`END_LINE`].
    end: &'static [u8],
    seen: Arc<Mutex<Seen>>,
}

impl Read for ShortRows {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if locked(&self.seen).since_row > LINE_BYTES_MAX {
            return Err(std::io::Error::other(format!(
                "a row exceeds {LINE_BYTES_MAX} bytes; is a closing quote missing?"
            )));
        }
        let read = self.stream.read(buffer)?;
        if read > 0 {
            locked(&self.seen).add(buffer.get(..read).unwrap_or_default());
            return Ok(read);
        }
        self.end.read(buffer)
    }
}

/// The bytes that the CSV reader has consumed so far.
#[derive(Default)]
struct Seen {
    bytes: u64,
    /// Bytes read since the last row.
    since_row: usize,
    ends_with_return: bool,
    /// Offsets of the `\n` of each `\r\n`. The CSV reader ends a row before the `\n` and counts it
    /// as part of the next row.
    feeds: VecDeque<u64>,
}

impl Seen {
    fn add(&mut self, bytes: &[u8]) {
        for at in memchr::memchr_iter(b'\n', bytes) {
            let is_second =
                at.checked_sub(1).map_or(self.ends_with_return, |before| bytes[before] == b'\r');
            if is_second {
                self.feeds.push_back(self.bytes + at as u64);
            }
        }
        self.ends_with_return = bytes.last().map_or(self.ends_with_return, |last| *last == b'\r');
        self.since_row += bytes.len();
        self.bytes += bytes.len() as u64;
    }

    /// Whether `offset` is such a `\n`.
    fn is_in_break(&self, offset: u64) -> bool {
        self.feeds.binary_search(&offset).is_ok()
    }

    /// Whether `offset` is such a `\n`, so that the row really starts one byte later. Must be
    /// called with ascending offsets.
    fn is_rest_of_break(&mut self, offset: u64) -> bool {
        while self.feeds.front().is_some_and(|feed| *feed < offset) {
            self.feeds.pop_front();
        }
        self.feeds.front() == Some(&offset)
    }
}

fn locked(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<(RawRow, String)>> {
        let path = std::path::PathBuf::from("x.csv");
        let (name, blake3) = (String::new(), String::new());
        let input = Input { ordinal: 0, path, name, blake3, bytes: 0, modified: None };
        let mut found = Vec::new();
        for chunk in rows(Box::new(std::io::Cursor::new(text.to_vec())), b',', &input)? {
            let chunk = chunk?;
            let text = |row: &RawRow| String::from_utf8_lossy(&chunk.bytes[row.start..row.end]);
            found.extend(chunk.rows.iter().map(|row| (row.clone(), text(row).into_owned())));
        }
        Ok(found)
    }

    #[test]
    fn cells_are_texts_as_they_are_written_and_empty_ones_are_missing() {
        let text = "\u{feff}id,,\"a \"\"b\"\"\",c\r\n007,x,\"1,\r\n\t2\\\",\n\r\n1e5,,NaN,\"\"\n";
        let found = read(text.as_bytes()).expect("reads");
        let rows: Vec<_> = found.iter().map(|(_, row)| row.as_str()).collect();
        assert_eq!(
            rows,
            [r#"{"id":"007","a \"b\"":"1,\u000d\n\u00092\\"}"#, r#"{"id":"1e5","a \"b\"":"NaN"}"#]
        );
        for (row, json) in &found {
            serde_json::from_str::<serde_json::Value>(json).expect("is JSON");
            let (start, length) = (row.offset as usize, row.length as usize);
            let cell = if row.line == 2 { "007" } else { "1e5" };
            assert!(text[start..start + length].contains(cell), "{row:?}");
        }
    }

    #[test]
    fn a_row_with_other_cells_than_the_header_is_no_object_and_the_next_one_is_read() {
        let rows: Vec<_> =
            read(b"a,b\n1\n1,2,3\n\xff,2\n3,4\n").expect("reads").into_iter().collect();
        assert_eq!(rows[0].1, r#"["1"]"#);
        assert_eq!(rows[1].1, r#"["1","2","3"]"#);
        assert_eq!(rows[2].1, "{\"a\":\"\u{fffd}\",\"b\":\"2\"}");
        assert_eq!(rows[3].1, r#"{"a":"3","b":"4"}"#);
    }

    #[test]
    fn a_header_says_each_name_once_and_a_table_may_be_empty() {
        let error = read(b"a,b,a\n").expect_err("is refused").to_string();
        assert!(error.contains("the column `a` twice"), "{error}");
        assert!(read(b"\xff\n").expect_err("is refused").to_string().contains("not UTF-8"));
        assert!(read(b"").expect("reads").is_empty());
        assert!(read(b"a,b\n").expect("reads").is_empty());
    }

    #[test]
    fn a_file_that_ends_in_a_quoted_cell_fails_with_the_line_of_the_quote() {
        for (text, line) in [
            ("a,b\n1,2\n3,\"4\n5,6\n7,8\n", 3),
            ("a,b\n\n\"1\n\",\"2\n\n", 4),
            ("a,b\r\n1,2\r\n\"3,4\r\n5,6", 3),
            ("a,b\n1,2\n3,\"4", 3),
            ("a,b\n1,\"", 2),
            ("a,b\n1,\"2\"\"", 2),
            ("\"a,b\n1,2\n", 1),
            ("a,\"b\n1,2\n", 1),
            ("\"", 1),
        ] {
            let error = read(text.as_bytes()).expect_err("is refused").to_string();
            let expected = format!("the quoted cell that starts in line {line};");
            assert!(error.contains("`x.csv`") && error.contains(&expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_end_of_a_file_and_quotes_inside_a_cell_do_not_change_its_rows() {
        let expected = [r#"{"a":"1","b":"2\"x"}"#, r#"{"a":"3 \"","b":"4"}"#];
        for end in ["", "\n", "\r", "\r\n", "\n\n", "\r\n\r\n"] {
            let text = format!("a,b\n1,2\"x\n3 \",\"4\"{end}");
            let found = read(text.as_bytes()).expect("reads");
            assert_eq!(found.iter().map(|(_, row)| row.as_str()).collect::<Vec<_>>(), expected);
            let (row, _) = &found[1];
            let length = "3 \",\"4\"".len() + end.len().min(1);
            assert_eq!((row.offset, row.length, row.line), (10, length as u64, 3), "{end:?}");
        }
        for text in ["\n", "\u{feff}", "x", "a,x\n\r\n"] {
            assert!(read(text.as_bytes()).expect("reads").is_empty(), "{text:?}");
        }
    }

    #[test]
    fn blank_lines_are_counted_and_are_no_part_of_a_row() {
        for (end, other) in
            ["\n", "\r\n"].map(|end| ["\n", "\r\n"].map(|other| (end, other))).concat()
        {
            let lines = ["a,b", "", "1,x", "", "", "2,\"x", "", "x\"", "3,x", "", "4,x"];
            for last in [end, "", "\n\r\n\n"] {
                // Every third line ends in the other way.
                let text: String = lines
                    .iter()
                    .enumerate()
                    .map(|(at, line)| line.to_string() + if at % 3 == 2 { other } else { end })
                    .collect();
                let text = text.trim_end().to_owned() + last;
                let found = read(text.as_bytes()).expect("reads");
                assert_eq!(found.len(), 4);
                for ((row, _), (line, start)) in
                    found.iter().zip([(3, "1,x"), (6, "2,\"x"), (9, "3,x"), (11, "4,x")])
                {
                    assert_eq!(row.line, line, "{text:?}");
                    assert!(text[row.offset as usize..].starts_with(start), "{text:?} {row:?}");
                }
            }
        }
    }

    #[test]
    fn a_row_over_the_limit_ends_the_file_behind_the_rows_before_it() {
        let mut text = b"a,b\n1,2\n3,\"".to_vec();
        text.resize(LINE_BYTES_MAX * 2, b'x');
        let error = read(&text).expect_err("is refused").to_string();
        assert!(error.contains("line 3: a row exceeds"), "{error}");
    }
}
