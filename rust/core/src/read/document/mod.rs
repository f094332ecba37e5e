//! Splits a JSON document into rows while reading it. The document is an array of rows, an object
//! with such an array (`{"data": [{…}, …]}`), or objects that are printed over several lines each.
//!
//! Only brackets and strings are tracked here. Whether a row is valid JSON is checked when its
//! shape is parsed, so one bad row does not affect the others. Memory holds a piece of the file and
//! one row, however long the array is.

mod form;
#[cfg(test)]
mod tests;

use super::text::Text;
use super::{CHUNK_ROWS_MAX, Chunk, KEPT_OF_LONG_ROW, LINE_BYTES_MAX, RawRow};
use crate::error::{Error, Result};
use form::{Around, Nesting};
pub(super) use form::{Form, Start, form_of};

/// The next thing to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A row, or the end.
    Before,
    Inside,
    /// A comma, or the end.
    After,
    /// The text after the array.
    Behind,
}

/// The rows of a document.
pub(in crate::read) struct Values {
    text: Text,
    around: Around,
    state: State,
    /// Number of bytes of `pending` that were scanned.
    at: usize,
    /// Start and line number of the current row.
    start: usize,
    line: u64,
    nesting: Nesting,
    /// Bytes dropped from this row because it is too long.
    dropped: u64,
    /// Number of line breaks before `counted`, a position in `pending`.
    breaks: u64,
    counted: usize,
    /// State of the object around the array, and whether an array in it was just opened.
    object: Nesting,
    has_opened: bool,
    failure: Option<Error>,
    is_over: bool,
}

impl Values {
    pub(in crate::read) fn new(text: Text, start: Start) -> Values {
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

    /// Scans `pending` and appends the rows that end in it, as many as fit into a chunk.
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
            // After a truncated row, positions in `pending` no longer match those of the stream.
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

    /// Processes a byte that is not part of a row.
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

    /// Processes a byte of the object after its array.
    fn step_behind(&mut self, byte: u8) -> Result<()> {
        if self.object.depth == 0 {
            return Err(self.behind("object"));
        }
        if std::mem::take(&mut self.has_opened) && byte == b'{' {
            let line = self.line_here();
            return Err(self.text.error(format!(
                "line {line}: its JSON object has more than one list of objects; write the rows into \
                 a separate file"
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

    /// The number of the current line.
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

    /// Removes everything before the current row from `pending` and returns it.
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

    /// Reads more bytes. Of a row that is too long, only the beginning is kept.
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

    /// Returns an error if the file ends before the document does.
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
