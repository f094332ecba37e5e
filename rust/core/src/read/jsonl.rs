//! Splits a stream of JSON lines into chunks of complete lines, each with its offset in the stream.

use super::text::Text;
use super::{CHUNK_ROWS_MAX, Chunk, KEPT_OF_LONG_ROW, LINE_BYTES_MAX, RawRow};
use crate::error::Result;

/// The lines of one input. `pending` of its text starts at the start of a line.
pub(super) struct Lines {
    text: Text,
    /// Lines returned so far, including blank ones.
    lines: u64,
    /// Bytes dropped from the line at the start of `pending` because the line is too long.
    dropped: u64,
    /// Whether `pending` already holds a complete line that did not fit into the last chunk.
    has_line: bool,
}

impl Lines {
    pub(super) fn new(text: Text) -> Lines {
        let has_line = memchr::memchr(b'\n', &text.pending).is_some();
        Lines { text, lines: 0, dropped: 0, has_line }
    }

    /// Reads until `pending` holds at least one complete line, or until the stream ends.
    fn fill(&mut self) -> Result<()> {
        let mut searched = 0;
        while !self.text.ended && !self.has_line {
            self.text.read_more()?;
            let pending = &mut self.text.pending;
            if memchr::memrchr(b'\n', &pending[searched.min(pending.len())..]).is_some() {
                return Ok(());
            }
            searched = pending.len();
            if pending.len() > LINE_BYTES_MAX {
                self.dropped += (pending.len() - KEPT_OF_LONG_ROW) as u64;
                pending.truncate(KEPT_OF_LONG_ROW);
                searched = KEPT_OF_LONG_ROW;
            }
        }
        Ok(())
    }

    /// Removes complete lines from the start of `pending`, as many as fit into a chunk.
    fn take(&mut self) -> Chunk {
        let Text { pending, offset, ended, input, .. } = &mut self.text;
        let whole = if *ended {
            pending.len()
        } else {
            memchr::memrchr(b'\n', pending).map_or(0, |newline| newline + 1)
        };
        let mut rows = Vec::new();
        let mut start = 0;
        while start < whole && rows.len() < CHUNK_ROWS_MAX {
            let newline = memchr::memchr(b'\n', &pending[start..whole]);
            let end = newline.map_or(whole, |newline| start + newline);
            self.lines += 1;
            let length = (end - start) as u64 + self.dropped;
            if !pending[start..end].trim_ascii().is_empty() {
                rows.push(RawRow { offset: *offset, length, line: self.lines, start, end });
            }
            *offset += length + u64::from(newline.is_some());
            self.dropped = 0;
            start = end + usize::from(newline.is_some());
        }
        self.has_line = start < whole;
        let input = *input;
        Chunk { input, bytes: self.text.take(start), rows }
    }
}

impl Iterator for Lines {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Result<Chunk>> {
        loop {
            if self.text.ended && self.text.pending.is_empty() {
                return None;
            }
            if let Err(error) = self.fill() {
                self.text.abandon();
                return Some(Err(error));
            }
            let chunk = self.take();
            if !chunk.rows.is_empty() {
                return Some(Ok(chunk));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CHUNK_BYTES, Input, open};
    use super::*;

    fn lines(text: &[u8]) -> Vec<Chunk> {
        let input = Input {
            ordinal: 3,
            path: "x.jsonl".into(),
            name: "x.jsonl".into(),
            blake3: String::new(),
            bytes: 0,
            modified: None,
        };
        open::rows(Box::new(std::io::Cursor::new(text.to_vec())), &input)
            .expect("reads from memory")
            .map(|chunk| chunk.expect("reads from memory"))
            .collect()
    }

    #[test]
    fn every_line_knows_its_place_and_blank_lines_are_no_rows() {
        let text = b"\xef\xbb\xbf{\"a\":1}\n\n  \r\n{\"b\":2}\r\n{\"c\":3}";
        let chunks = lines(text);
        let rows: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.rows).collect();
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 4, 5]);
        for row in rows {
            let (from, to) = (row.offset as usize, (row.offset + row.length) as usize);
            assert_eq!(&text[from..to], &chunks[0].bytes[row.start..row.end]);
        }
    }

    #[test]
    fn a_line_over_the_limit_is_one_row_with_its_true_length_and_the_next_line_is_found() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 3 * CHUNK_BYTES + 17];
        let long = text.len() as u64;
        text.extend_from_slice(b"\n{\"next\":1}\n");
        let rows: Vec<_> = lines(&text).into_iter().flat_map(|chunk| chunk.rows).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].offset, rows[0].length), (0, long));
        assert_eq!((rows[1].offset, rows[1].length, rows[1].line), (long + 1, 10, 2));
    }

    #[test]
    fn a_chunk_has_few_rows_and_their_places_are_those_of_the_stream() {
        let text = (0..3 * CHUNK_ROWS_MAX + 5)
            .map(|number| format!("{}\n", number % 10))
            .collect::<String>()
            + "\n7";
        let chunks = lines(text.as_bytes());
        assert_eq!(
            chunks.iter().map(|chunk| chunk.rows.len()).collect::<Vec<_>>(),
            [CHUNK_ROWS_MAX, CHUNK_ROWS_MAX, CHUNK_ROWS_MAX, 6]
        );
        let mut last = 0;
        for (chunk, row) in
            chunks.iter().flat_map(|chunk| chunk.rows.iter().map(move |row| (chunk, row)))
        {
            assert_eq!(
                &text.as_bytes()[row.offset as usize..][..row.length as usize],
                &chunk.bytes[row.start..row.end]
            );
            assert!(row.line > last);
            last = row.line;
        }
        assert_eq!(last as usize, 3 * CHUNK_ROWS_MAX + 7);
    }

    #[test]
    fn lines_longer_than_a_chunk_stay_whole() {
        let text = [vec![b'a'; CHUNK_BYTES * 2 + 5], vec![b'b'; 7]].join(&b'\n');
        let chunks = lines(&text);
        let bytes: Vec<_> = chunks
            .iter()
            .flat_map(|chunk| chunk.rows.iter().map(|row| chunk.bytes[row.start..row.end].to_vec()))
            .collect();
        assert_eq!(
            bytes,
            text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>()
        );
    }
}
