//! The decompressed bytes of a text input, read in pieces.

use std::io::Read;
use std::path::PathBuf;

use super::{CHUNK_BYTES, Input};
use crate::error::{Error, Result};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Byte order marks of UTF-16.
const UTF_16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// The bytes of a stream that were read but not yet returned.
pub(super) struct Text {
    stream: Box<dyn Read + Send>,
    path: PathBuf,
    /// The index of the input.
    pub(super) input: i32,
    pub(super) pending: Vec<u8>,
    /// Offset of `pending` in the stream.
    pub(super) offset: u64,
    pub(super) ended: bool,
}

impl Text {
    /// Reads the first piece and removes a byte order mark.
    pub(super) fn new(stream: Box<dyn Read + Send>, input: &Input) -> Result<Text> {
        let mut text = Text {
            stream,
            path: input.path.clone(),
            input: input.ordinal,
            pending: Vec::new(),
            offset: 0,
            ended: false,
        };
        text.read_more()?;
        if UTF_16.iter().any(|mark| text.pending.starts_with(mark)) {
            return Err(text.error("it is UTF-16 text; convert it to UTF-8 first"));
        }
        if text.pending.starts_with(BYTE_ORDER_MARK) {
            text.pending.drain(..BYTE_ORDER_MARK.len());
            text.offset = BYTE_ORDER_MARK.len() as u64;
        }
        Ok(text)
    }

    /// Appends the next piece to `pending`, or sets `ended`.
    pub(super) fn read_more(&mut self) -> Result<()> {
        let held = self.pending.len();
        self.pending.resize(held + CHUNK_BYTES, 0);
        let (read, ended) = read_full(&mut self.stream, &mut self.pending[held..]);
        ended.map_err(|error| {
            let position = self.offset + (held + read) as u64;
            self.error(format!("{error}, after {position} bytes of the decompressed stream"))
        })?;
        self.pending.truncate(held + read);
        self.ended = read < CHUNK_BYTES;
        Ok(())
    }

    /// Removes and returns the first bytes of `pending`.
    pub(super) fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.pending.split_off(count);
        std::mem::replace(&mut self.pending, rest)
    }

    /// Returns an error that names the file.
    pub(super) fn error(&self, cause: impl std::fmt::Display) -> Error {
        Error::input(&self.path, cause)
    }

    /// Ends the stream after an error.
    pub(super) fn abandon(&mut self) {
        self.ended = true;
        self.pending.clear();
    }
}

/// Reads until the buffer is full, the stream ends, or reading fails. Returns how many bytes it read.
fn read_full(stream: &mut impl Read, buffer: &mut [u8]) -> (usize, std::io::Result<()>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}
