//! Reads Arrow IPC message by message: streams, and files that contain a stream after their first
//! bytes, as most do. Other files are read by their footer, see [`blocks`].
//!
//! [`blocks`]: super::blocks

use std::fs::File;
use std::os::unix::fs::FileExt;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;

use super::blocks::Blocks;
use super::message::{Read, Source};
use super::{Batch, refuse, said, sure};
use crate::disk;
use crate::error::{Error, Result};
use crate::read::{Chunks, Input, Progress};

/// The first and last bytes of a file.
const MAGIC: &[u8; 6] = b"ARROW1";
/// Offset of the stream in a file.
const STREAM_START: u64 = 8;
/// The end of a stream.
const END: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

/// The rows of an Arrow IPC file, or of an Arrow IPC stream with the same file name ending (as
/// `datasets` writes it).
pub(in crate::read) fn arrow(input: &Input, progress: &Progress) -> Result<Chunks> {
    let file = disk::open(&input.path).map_err(|error| Error::input(&input.path, error))?;
    // Read the schema now, so that a file in another format is rejected before any row.
    let batches = sure(|| open(file, input.bytes))
        .flatten()
        .map_err(|error| Error::input(&input.path, said(&error)))?;
    Ok(super::chunks(input, batches, progress))
}

fn open(file: File, bytes: u64) -> Read<Box<dyn Iterator<Item = Batch> + Send>> {
    let mut start = [0; STREAM_START as usize];
    let is_file = bytes >= STREAM_START
        && file.read_exact_at(&mut start, 0).map(|()| start.starts_with(MAGIC))?;
    if !is_file {
        return Ok(Box::new(Messages::of(Source::of(file, bytes), 0)?));
    }
    let (footer_start, footer_bytes) = footer_place(&file, bytes)?;
    let mut source = Source::of(file.try_clone()?, footer_start);
    // Polars writes the schema in a nonstandard form here, and other writers leave a gap, so that
    // only the footer has the positions of the messages.
    if source.head(STREAM_START).is_ok_and(|head| head.is_some_and(|head| head.is_schema)) {
        return Ok(Box::new(Messages::of(source, STREAM_START)?));
    }
    Ok(Box::new(Blocks::of(source, &file, footer_start, footer_bytes)?))
}

/// The messages of a stream.
struct Messages {
    source: Source,
    at: u64,
    decoder: StreamDecoder,
    /// Bytes of messages that are not yet decoded.
    waiting: [Buffer; 2],
    /// A batch that was decoded with the schema.
    first: Option<RecordBatch>,
    is_over: bool,
}

impl Messages {
    fn of(source: Source, at: u64) -> Read<Messages> {
        let (decoder, waiting) = (StreamDecoder::new(), Default::default());
        let mut messages = Messages { source, at, decoder, waiting, first: None, is_over: false };
        // The decoder returns the schema, which has no body, only after further bytes. The first
        // batch may be decoded in the same call.
        while messages.decoder.schema().is_none() && !messages.is_over {
            messages.read_message()?;
            messages.first = messages.decode()?;
        }
        if messages.decoder.schema().is_some() {
            Ok(messages)
        } else {
            Err(refuse("it is neither an Arrow file nor an Arrow stream"))
        }
    }

    /// Decodes a batch, if a complete one is waiting.
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

    /// Reads the next message, or the end marker, into `waiting`.
    fn read_message(&mut self) -> Read<()> {
        let Some(head) = self.source.head(self.at)? else {
            self.is_over = true;
            self.waiting = [Buffer::from_slice_ref(END), Buffer::default()];
            return Ok(());
        };
        let head_end = self.at + head.bytes.len() as u64;
        let body = self.source.read(head_end, head.body_bytes)?;
        self.at = head_end + head.body_bytes;
        self.waiting = self.source.unpacked(head, body)?.into();
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

/// Offset of a file's footer, which follows the messages, and its length.
fn footer_place(file: &File, bytes: u64) -> Read<(u64, u64)> {
    let mut tail = [0; 10];
    let tail_start = bytes
        .checked_sub(10)
        .filter(|start| *start >= STREAM_START)
        .ok_or_else(|| refuse("it is too short for an Arrow file"))?;
    file.read_exact_at(&mut tail, tail_start)?;
    let [a, b, c, d, magic @ ..] = tail;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    let start =
        tail_start.checked_sub(length).filter(|start| *start >= STREAM_START && &magic == MAGIC);
    start
        .map(|start| (start, length))
        .ok_or_else(|| refuse("it does not end as an Arrow file does; is it complete?"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Array, DictionaryArray, RecordBatch, types::Int32Type};
    use arrow_ipc::writer::{FileWriter, IpcWriteOptions};

    use super::*;

    /// The columns of all batches of a file.
    fn read(file: &File) -> Vec<Arc<dyn Array>> {
        let bytes = file.metadata().expect("metadata").len();
        let batches = open(file.try_clone().expect("a copy"), bytes).expect("opens");
        batches.map(|batch| Arc::clone(batch.expect("reads").column(0))).collect()
    }

    #[test]
    fn a_file_is_read_by_its_footer_where_its_messages_start_later() {
        for alignment in [8, 64] {
            let words: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
            let batch =
                RecordBatch::try_from_iter([("word", Arc::new(words.clone()) as Arc<dyn Array>)])
                    .expect("a batch");
            let mut file = tempfile::tempfile().expect("a file");
            let options =
                IpcWriteOptions::try_new(alignment, false, arrow_ipc::MetadataVersion::V5)
                    .expect("options");
            let mut writer = FileWriter::try_new_with_options(&mut file, &batch.schema(), options)
                .expect("a writer");
            (0..3).for_each(|_| writer.write(&batch).expect("writes"));
            writer.finish().expect("finishes");
            drop(writer);
            let read = read(&file);
            assert_eq!(read.len(), 3);
            assert!(read.iter().all(|column| column.to_data() == words.to_data()));
        }
    }
}
