//! Reads an Arrow IPC file by its footer, which lists the position of each message: dictionaries
//! first, then batches.
//!
//! The footer is not trusted. Its messages must follow each other between the start of the file and
//! the footer without overlap, so there are no more of them than the file has room for, and none is
//! read twice.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::{Block, Footer, root_as_footer};

use super::message::{BODY_BYTES_MAX, Read, Source};
use super::{Batch, refuse};
use crate::read::MIB;

/// Maximum footer size. A block takes 24 bytes, so this is enough for two million batches.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// Bytes of the length field before a message.
const PREFIX_BYTES: u64 = 8;

/// The batches of a file.
pub(super) struct Blocks {
    source: Source,
    decoder: FileDecoder,
    dictionaries: std::vec::IntoIter<Block>,
    batches: std::vec::IntoIter<Block>,
}

impl Blocks {
    pub(super) fn of(
        source: Source,
        file: &File,
        footer_start: u64,
        footer_bytes: u64,
    ) -> Read<Blocks> {
        if footer_bytes > FOOTER_BYTES_MAX {
            return Err(refuse(format!(
                "its footer has {footer_bytes} bytes; at most {} MiB are read",
                FOOTER_BYTES_MAX / MIB
            )));
        }
        let mut bytes = vec![0; footer_bytes as usize];
        file.read_exact_at(&mut bytes, footer_start)?;
        let footer = root_as_footer(&bytes).map_err(|_| malformed())?;
        let (dictionaries, batches) = blocks(&footer, footer_start)?;
        let schema = try_fb_to_schema(footer.schema().ok_or_else(malformed)?)?;
        let decoder = FileDecoder::new(Arc::new(schema), footer.version());
        Ok(Blocks {
            source,
            decoder,
            dictionaries: dictionaries.into_iter(),
            batches: batches.into_iter(),
        })
    }

    /// A complete decompressed message, and the lengths of its parts.
    fn message(&mut self, block: &Block) -> Read<(Block, Buffer)> {
        let (start, head_bytes, body_bytes) = place(block).ok_or_else(malformed)?;
        if body_bytes > BODY_BYTES_MAX {
            return Err(refuse(format!(
                "a batch has {body_bytes} bytes; at most {} MiB are read: write smaller batches",
                BODY_BYTES_MAX / MIB
            )));
        }
        let head = self
            .source
            .head(start)?
            .ok_or_else(|| refuse("its footer lists a message where there is none"))?;
        if head.bytes.len() as u64 > head_bytes || head.body_bytes > body_bytes {
            return Err(refuse("its footer lists a message with too small a length"));
        }
        if !head.is_compressed {
            return Ok((*block, self.source.read(start, head_bytes + body_bytes)?));
        }
        let body = self.source.read(start + head_bytes, head.body_bytes)?;
        let (head, body) = self.source.unpacked(head, body)?;
        let lengths = Block::new(0, head.len() as i32, body.len() as i64);
        Ok((lengths, Buffer::from_vec([head.as_slice(), body.as_slice()].concat())))
    }

    fn batch(&mut self) -> Read<Option<RecordBatch>> {
        while let Some(block) = self.dictionaries.next() {
            let (block, message) = self.message(&block)?;
            self.decoder.read_dictionary(&block, &message)?;
        }
        let Some(block) = self.batches.next() else { return Ok(None) };
        let (block, message) = self.message(&block)?;
        let batch = self.decoder.read_record_batch(&block, &message)?;
        batch.map(Some).ok_or_else(|| refuse("its footer lists a batch where there is none"))
    }
}

impl Iterator for Blocks {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        self.batch().transpose()
    }
}

/// Returns the blocks of the dictionaries and of the batches, after checking that they do not
/// overlap.
fn blocks(footer: &Footer<'_>, end: u64) -> Read<(Vec<Block>, Vec<Block>)> {
    let dictionaries: Vec<Block> = footer.dictionaries().into_iter().flatten().copied().collect();
    let batches: Vec<Block> = footer.recordBatches().into_iter().flatten().copied().collect();
    let mut places = Vec::with_capacity(dictionaries.len() + batches.len());
    for kind in [&dictionaries, &batches] {
        let first = places.len();
        for block in kind {
            places.push(
                place(block).filter(|(_, head, _)| *head >= PREFIX_BYTES).ok_or_else(malformed)?,
            );
        }
        if !places[first..].is_sorted() {
            return Err(refuse("its footer lists messages in the wrong order"));
        }
    }
    places.sort_unstable();
    let mut free = 0;
    for (start, head_bytes, body_bytes) in places {
        let message_end =
            start.checked_add(head_bytes).and_then(|head_end| head_end.checked_add(body_bytes));
        if start < free {
            return Err(refuse("its footer lists messages that overlap"));
        }
        free = message_end
            .filter(|message_end| *message_end <= end)
            .ok_or_else(|| refuse("its footer lists messages outside the file"))?;
    }
    Ok((dictionaries, batches))
}

/// Offset of a message and the sizes of its head and body, or `None` if the footer has negative
/// numbers.
fn place(block: &Block) -> Option<(u64, u64, u64)> {
    let body = u64::try_from(block.bodyLength()).ok()?;
    Some((u64::try_from(block.offset()).ok()?, u64::try_from(block.metaDataLength()).ok()?, body))
}

fn malformed() -> arrow_schema::ArrowError {
    refuse("its footer is malformed")
}
