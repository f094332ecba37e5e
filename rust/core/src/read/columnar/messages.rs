//! Reads Arrow IPC, message by message, each bounded by its head before its body is read.
//!
//! A file holds a stream behind its first eight bytes, so both are read as streams; the footer, which would say the same once more, is not parsed.

use std::fs::File;
use std::os::unix::fs::FileExt;

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{Message, root_as_message};
use arrow_schema::ArrowError;

use super::{Batch, refuse, said, sure};
use crate::disk;
use crate::error::{Error, Result};
use crate::read::{Chunks, Input, MIB, Progress};

/// Bytes of a message's head, and what a file starts and ends with.
const HEAD_BYTES_MAX: u64 = 64 << 20;
const MAGIC: &[u8; 6] = b"ARROW1";
/// What comes before the length of a message, and the end of a stream.
const CONTINUATION: [u8; 4] = [0xFF; 4];
const END: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
/// Bytes of a message's body: Arrow's lists of 32 bits reach as far.
const BODY_BYTES_MAX: u64 = 2 << 30;
/// Times that dictionaries may grow: each time, all that there is of one is copied.
const GROWTHS_MAX: usize = 256;

type Read<T> = std::result::Result<T, ArrowError>;

/// The rows of an Arrow IPC file, or of an Arrow IPC stream under the same ending (what `datasets` writes).
pub(in crate::read) fn arrow(input: &Input, progress: &Progress) -> Result<Chunks> {
    let file = disk::open(&input.path).map_err(|error| Error::input(&input.path, error))?;
    let mut messages = sure(|| Messages::of(file, input.bytes)).flatten().map_err(|error| Error::input(&input.path, said(&error)))?;
    // The first message is the schema: what is no Arrow is refused here, before any row.
    sure(|| messages.read_schema()).flatten().map_err(|error| Error::input(&input.path, said(&error)))?;
    Ok(super::chunks(input, messages, progress))
}

/// The messages of a stream.
struct Messages {
    file: File,
    at: u64,
    end: u64,
    decoder: StreamDecoder,
    /// Bytes of messages that were not yet decoded.
    waiting: [Buffer; 2],
    /// A batch that was decoded with the schema.
    first: Option<RecordBatch>,
    growths_left: usize,
    is_over: bool,
}

impl Messages {
    fn of(file: File, bytes: u64) -> Read<Messages> {
        let mut start = [0; 8];
        let is_file = bytes >= 8 && file.read_exact_at(&mut start, 0).map(|()| start.starts_with(MAGIC))?;
        let (at, end) = if is_file { (8, footer_start(&file, bytes)?) } else { (0, bytes) };
        let (decoder, waiting) = (StreamDecoder::new(), Default::default());
        let growths_left = GROWTHS_MAX;
        Ok(Messages { file, at, end, decoder, waiting, first: None, growths_left, is_over: false })
    }

    fn read_schema(&mut self) -> Read<()> {
        // A schema, which has no body, is decoded once there is something behind it, and a batch may come along.
        while self.decoder.schema().is_none() && !self.is_over {
            self.read_message()?;
            self.first = self.decode()?;
        }
        if self.decoder.schema().is_some() { Ok(()) } else { Err(refuse("it is neither an Arrow file nor an Arrow stream")) }
    }

    /// A batch, where one is complete.
    fn decode(&mut self) -> Read<Option<RecordBatch>> {
        for bytes in &mut self.waiting {
            while !bytes.is_empty() {
                if let Some(batch) = self.decoder.decode(bytes)? {
                    return Ok(Some(batch));
                }
            }
        }
        Ok(None)
    }

    /// Reads the next message, or the end, into `waiting`.
    fn read_message(&mut self) -> Read<()> {
        let Some((length, head_start)) = self.head_length()? else {
            self.is_over = true;
            self.waiting = [Buffer::from_slice_ref(END), Buffer::default()];
            return Ok(());
        };
        if length > HEAD_BYTES_MAX {
            return Err(refuse(format!("a message has a head of {length} bytes; at most {} MiB are read", HEAD_BYTES_MAX / MIB)));
        }
        let head_end = self.at + head_start + length;
        let head = self.read(self.at, head_start + length)?;
        let message = root_as_message(&head[head_start as usize..]).map_err(|_| refuse("a message is malformed"))?;
        let body_length = u64::try_from(message.bodyLength()).map_err(|_| refuse("a message is malformed"))?;
        if body_length > BODY_BYTES_MAX {
            return Err(refuse(format!(
                "a batch has {body_length} bytes; at most {} MiB are read: write smaller batches",
                BODY_BYTES_MAX / MIB
            )));
        }
        let body = self.read(head_end, body_length)?;
        self.check(&message)?;
        self.at = head_end + body_length;
        self.waiting = [head, body];
        Ok(())
    }

    /// The length of the next message's head, and where it starts behind the length; nothing where the stream ends.
    fn head_length(&self) -> Read<Option<(u64, u64)>> {
        let left = self.end - self.at;
        if left == 0 {
            return Ok(None);
        }
        let first = self.read(self.at, 4)?;
        // Streams from before 2019 have the length alone.
        let (bytes, start) = if first[..] == CONTINUATION { (self.read(self.at + 4, 4)?, 8) } else { (first, 4) };
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Ok((length > 0).then_some((u64::from(length), start)))
    }

    /// Bytes of the stream, which must be there.
    fn read(&self, at: u64, length: u64) -> Read<Buffer> {
        if at.checked_add(length).is_none_or(|end| end > self.end) {
            return Err(refuse("it ends in the middle of a message; is it complete?"));
        }
        let mut bytes = MutableBuffer::from_len_zeroed(length as usize);
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes.into())
    }

    /// Whether a message may be decoded.
    fn check(&mut self, message: &Message<'_>) -> Read<()> {
        let dictionary = message.header_as_dictionary_batch();
        if dictionary.is_some_and(|dictionary| dictionary.isDelta()) {
            self.growths_left = self.growths_left.checked_sub(1).ok_or_else(|| refuse("its dictionaries grow too often"))?;
        }
        let Some(batch) = message.header_as_record_batch().or_else(|| dictionary.and_then(|dictionary| dictionary.data())) else {
            return Ok(());
        };
        // Arrow's reader is built without its codecs, which take a buffer's word for the size that it unpacks to.
        if batch.compression().is_some() {
            return Err(refuse("its batches are compressed, which cannot be read; write it without compression, or as Parquet"));
        }
        Ok(())
    }

    fn batch(&mut self) -> Read<Option<RecordBatch>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        loop {
            if let Some(batch) = self.decode()? {
                return Ok(Some(batch));
            }
            if self.is_over {
                return Ok(None);
            }
            self.read_message()?;
        }
    }
}

impl Iterator for Messages {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        self.batch().transpose()
    }
}

/// Where a file's footer starts, behind the stream.
fn footer_start(file: &File, bytes: u64) -> Read<u64> {
    let mut tail = [0; 10];
    let tail_start = bytes.checked_sub(10).filter(|start| *start >= 8).ok_or_else(|| refuse("it is too short for an Arrow file"))?;
    file.read_exact_at(&mut tail, tail_start)?;
    let [a, b, c, d, magic @ ..] = tail;
    let start = tail_start.checked_sub(u64::from(u32::from_le_bytes([a, b, c, d]))).filter(|start| *start >= 8 && &magic == MAGIC);
    start.ok_or_else(|| refuse("it does not end as an Arrow file does; is it complete?"))
}
