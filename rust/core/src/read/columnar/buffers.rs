//! Decompresses the buffers of an Arrow message, and rewrites the message without compression.
//!
//! Arrow's reader is built without its codecs, because they trust the size that a buffer declares
//! and do not stop at it. Here each buffer is decompressed to exactly its declared size, if the
//! limit for the file permits that.

use arrow_buffer::Buffer;
use arrow_ipc::{
    CompressionType, DictionaryBatch, DictionaryBatchArgs, Message, MessageArgs, MessageHeader,
    RecordBatch, RecordBatchArgs, root_as_message,
};
use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};
use parquet::basic::{Compression, ZstdLevel};

use super::codec::{Codec, lz4_frame};
use super::message::{BODY_BYTES_MAX, CONTINUATION, Read};
use super::refuse;
use crate::read::bomb;

/// Messages and buffers are aligned to this many bytes.
const ALIGNMENT: usize = 8;
/// The declared size of a buffer that is not compressed.
const NOT_COMPRESSED: i64 = -1;

/// Decompresses the messages of one file.
pub(super) struct Unpacker {
    /// Bytes that may still be decompressed from this file.
    room: u64,
    zstd: Codec,
}

impl Unpacker {
    pub(super) fn new(room: u64) -> Unpacker {
        Unpacker { room, zstd: Codec::new(Compression::ZSTD(ZstdLevel::default())) }
    }

    /// Returns head and body of a message without compression. `head` is a flatbuffer without its
    /// length prefix.
    pub(super) fn unpacked(&mut self, head: &[u8], body: &[u8]) -> Read<(Buffer, Buffer)> {
        let message = root_as_message(head).map_err(|_| malformed())?;
        let dictionary = message.header_as_dictionary_batch();
        let batch = message
            .header_as_record_batch()
            .or_else(|| dictionary.and_then(|dictionary| dictionary.data()))
            .ok_or_else(malformed)?;
        let mut unpacked = Vec::new();
        let mut buffers = Vec::new();
        let kind = batch.compression().map(|compression| compression.codec());
        for buffer in batch.buffers().into_iter().flatten() {
            let start = unpacked.len();
            let packed = slice(body, buffer.offset(), buffer.length()).ok_or_else(malformed)?;
            self.unpack(kind, packed, &mut unpacked)?;
            let length = unpacked.len() - start;
            buffers.push(arrow_ipc::Buffer::new(start as i64, length as i64));
            unpacked.resize(unpacked.len().next_multiple_of(ALIGNMENT), 0);
        }
        let head = rewritten(&message, &batch, &buffers, unpacked.len());
        Ok((head, Buffer::from_vec(unpacked)))
    }

    fn unpack(
        &mut self,
        kind: Option<CompressionType>,
        packed: &[u8],
        unpacked: &mut Vec<u8>,
    ) -> Read<()> {
        let Some((length, packed)) = packed.split_first_chunk() else {
            return if packed.is_empty() { Ok(()) } else { Err(malformed()) };
        };
        let length = i64::from_le_bytes(*length);
        let (kind, length) = if length == NOT_COMPRESSED {
            (None, packed.len() as u64)
        } else {
            (kind, u64::try_from(length).map_err(|_| malformed())?)
        };
        self.room = self.room.checked_sub(length).ok_or_else(|| refuse(bomb()))?;
        if unpacked.len() as u64 + length > BODY_BYTES_MAX {
            return Err(refuse("a batch unpacks to more than 2048 MiB: write smaller batches"));
        }
        let (length, start) = (length as usize, unpacked.len());
        let done = match kind {
            None => std::io::Write::write_all(unpacked, packed),
            Some(CompressionType::LZ4_FRAME) => lz4_frame(packed, length, unpacked),
            Some(CompressionType::ZSTD) => self.zstd.unpack(packed, length, unpacked),
            _ => return Err(refuse("its batches are compressed in an unknown way")),
        };
        if done.is_err() || unpacked.len() - start != length {
            return Err(refuse("a buffer does not unpack to the size that it says"));
        }
        Ok(())
    }
}

fn malformed() -> arrow_schema::ArrowError {
    refuse("a message is malformed")
}

fn slice(body: &[u8], start: i64, length: i64) -> Option<&[u8]> {
    let (start, length) = (usize::try_from(start).ok()?, usize::try_from(length).ok()?);
    body.get(start..start.checked_add(length)?)
}

/// Writes the head of the same message for a body with these buffers.
fn rewritten(
    message: &Message<'_>,
    batch: &RecordBatch<'_>,
    buffers: &[arrow_ipc::Buffer],
    body_bytes: usize,
) -> Buffer {
    let mut builder = FlatBufferBuilder::new();
    let nodes: Vec<_> = batch.nodes().into_iter().flatten().copied().collect();
    let counts: Option<Vec<i64>> =
        batch.variadicBufferCounts().map(|counts| counts.iter().collect());
    let arguments = RecordBatchArgs {
        length: batch.length(),
        nodes: Some(builder.create_vector(&nodes)),
        buffers: Some(builder.create_vector(buffers)),
        compression: None,
        variadicBufferCounts: counts.map(|counts| builder.create_vector(&counts)),
    };
    let data = RecordBatch::create(&mut builder, &arguments);
    let header: WIPOffset<UnionWIPOffset> = match message.header_as_dictionary_batch() {
        None => data.as_union_value(),
        Some(dictionary) => {
            let (id, is_delta) = (dictionary.id(), dictionary.isDelta());
            let arguments = DictionaryBatchArgs { id, data: Some(data), isDelta: is_delta };
            DictionaryBatch::create(&mut builder, &arguments).as_union_value()
        }
    };
    let header_type: MessageHeader = message.header_type();
    let arguments = MessageArgs {
        version: message.version(),
        header_type,
        header: Some(header),
        bodyLength: body_bytes as i64,
        custom_metadata: None,
    };
    let root = Message::create(&mut builder, &arguments);
    builder.finish(root, None);
    let content = builder.finished_data();
    let length = content.len().next_multiple_of(ALIGNMENT);
    let mut head = Vec::with_capacity(CONTINUATION.len() + 4 + length);
    head.extend_from_slice(&CONTINUATION);
    head.extend_from_slice(&(length as u32).to_le_bytes());
    head.extend_from_slice(content);
    head.resize(CONTINUATION.len() + 4 + length, 0);
    Buffer::from_vec(head)
}
