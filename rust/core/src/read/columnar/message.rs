//! Reads the messages of an Arrow IPC file one by one. The head of a message is checked before its
//! body is read.

use std::fs::File;
use std::os::unix::fs::FileExt;

use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::{Message, MessageHeader, root_as_message};
use arrow_schema::ArrowError;

use super::buffers::Unpacker;
use super::refuse;
use crate::read::{MIB, unpacked_max};

/// Maximum size of the head of a message.
const HEAD_BYTES_MAX: u64 = 64 << 20;
/// The bytes before the length of a message.
pub(super) const CONTINUATION: [u8; 4] = [0xFF; 4];
/// Maximum size of the body of a message, which is also the limit of Arrow lists with 32-bit
/// offsets.
pub(super) const BODY_BYTES_MAX: u64 = 2 << 30;
/// How often dictionaries may grow. Each time, the entire dictionary is copied.
const GROWTHS_MAX: usize = 256;

pub(super) type Read<T> = Result<T, ArrowError>;

/// The file that messages are read from, up to its footer.
pub(super) struct Source {
    file: File,
    end: u64,
    growths_left: usize,
    unpacker: Unpacker,
}

/// The head of a message that may be decoded.
pub(super) struct Head {
    /// Its bytes, including the length prefix.
    pub(super) bytes: Buffer,
    /// Start of its content, after the length prefix.
    start: usize,
    pub(super) body_bytes: u64,
    pub(super) is_schema: bool,
    pub(super) is_compressed: bool,
}

impl Source {
    pub(super) fn of(file: File, end: u64) -> Source {
        let unpacker = Unpacker::new(unpacked_max(end));
        Source { file, end, growths_left: GROWTHS_MAX, unpacker }
    }

    /// Returns the head and body of a message, decompressed.
    pub(super) fn unpacked(&mut self, head: Head, body: Buffer) -> Read<(Buffer, Buffer)> {
        if !head.is_compressed {
            return Ok((head.bytes, body));
        }
        self.unpacker.unpacked(&head.bytes[head.start..], &body)
    }

    /// Returns the head of the message at an offset, or `None` at the end of the messages.
    pub(super) fn head(&mut self, at: u64) -> Read<Option<Head>> {
        let Some((length, head_start)) = self.head_length(at)? else { return Ok(None) };
        if length > HEAD_BYTES_MAX {
            return Err(refuse(format!(
                "a message has a head of {length} bytes; at most {} MiB are read",
                HEAD_BYTES_MAX / MIB
            )));
        }
        let bytes = self.read(at, head_start + length)?;
        let message = root_as_message(&bytes[head_start as usize..])
            .map_err(|_| refuse("a message is malformed"))?;
        let body_bytes =
            u64::try_from(message.bodyLength()).map_err(|_| refuse("a message is malformed"))?;
        if body_bytes > BODY_BYTES_MAX {
            return Err(refuse(format!(
                "a batch has {body_bytes} bytes; at most {} MiB are read: write smaller batches",
                BODY_BYTES_MAX / MIB
            )));
        }
        let is_compressed = self.check(&message)?;
        let is_schema = message.header_type() == MessageHeader::Schema;
        let start = head_start as usize;
        Ok(Some(Head { bytes, start, body_bytes, is_schema, is_compressed }))
    }

    /// Returns the length of a message's head and the size of its prefix, or `None` at the end of
    /// the messages.
    fn head_length(&self, at: u64) -> Read<Option<(u64, u64)>> {
        if at == self.end {
            return Ok(None);
        }
        let first = self.read(at, 4)?;
        // Streams from before 2019 have only the length.
        let (bytes, start) =
            if first[..] == CONTINUATION { (self.read(at + 4, 4)?, 8) } else { (first, 4) };
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Ok((length > 0).then_some((u64::from(length), start)))
    }

    /// Reads bytes of messages. Fails if the file ends before them.
    pub(super) fn read(&self, at: u64, length: u64) -> Read<Buffer> {
        if at.checked_add(length).is_none_or(|end| end > self.end) {
            return Err(refuse("it ends in the middle of a message; is it complete?"));
        }
        let mut bytes = MutableBuffer::from_len_zeroed(length as usize);
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes.into())
    }

    /// Fails if a message must not be decoded. Returns whether its buffers are compressed.
    fn check(&mut self, message: &Message<'_>) -> Read<bool> {
        let dictionary = message.header_as_dictionary_batch();
        if dictionary.is_some_and(|dictionary| dictionary.isDelta()) {
            self.growths_left = self
                .growths_left
                .checked_sub(1)
                .ok_or_else(|| refuse("its dictionaries grow too often"))?;
        }
        let batch = message
            .header_as_record_batch()
            .or_else(|| dictionary.and_then(|dictionary| dictionary.data()));
        Ok(batch.is_some_and(|batch| batch.compression().is_some()))
    }
}
