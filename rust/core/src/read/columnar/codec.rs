//! Decompresses a Parquet page into exactly as many bytes as its header declares, with any
//! supported codec.

use std::io::Read;

use parquet::basic::Compression;

/// The compression codec of one column's pages. The tables of zstd are kept from page to page.
pub(super) struct Codec {
    with: Compression,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Codec {
    pub(super) fn new(with: Compression) -> Codec {
        Codec { with, zstd: None }
    }

    /// Appends the decompressed bytes to `unpacked`. Fails unless there are exactly `length` of
    /// them, and never produces more.
    pub(super) fn unpack(
        &mut self,
        packed: &[u8],
        length: usize,
        unpacked: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let start = unpacked.len();
        match self.with {
            Compression::UNCOMPRESSED => unpacked.extend_from_slice(packed),
            Compression::SNAPPY => into_slice(length, unpacked, |room| {
                snap::raw::Decoder::new().decompress(packed, room).map_err(other)
            })?,
            Compression::GZIP(_) => {
                read(flate2::read::MultiGzDecoder::new(packed), length, unpacked)?
            }
            Compression::BROTLI(_) => {
                read(brotli::Decompressor::new(packed, 4_096), length, unpacked)?
            }
            Compression::ZSTD(_) => self.unpack_zstd(packed, length, unpacked)?,
            Compression::LZ4_RAW => bare_lz4(packed, length, unpacked)?,
            Compression::LZ4 => lz4(packed, length, unpacked)?,
            Compression::LZO => return Err(other("pages packed with LZO cannot be read")),
        }
        if unpacked.len() - start == length {
            Ok(())
        } else {
            Err(other("a page does not unpack to the size that its header says"))
        }
    }

    fn unpack_zstd(
        &mut self,
        packed: &[u8],
        length: usize,
        unpacked: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let decoder = match &mut self.zstd {
            Some(decoder) => decoder,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        let start = unpacked.len() as u64;
        unpacked.reserve_exact(length);
        let mut room = std::io::Cursor::new(unpacked);
        room.set_position(start);
        decoder.decompress_to_buffer(packed, &mut room).map(drop)
    }
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::other(error)
}

fn into_slice(
    length: usize,
    unpacked: &mut Vec<u8>,
    unpack: impl FnOnce(&mut [u8]) -> std::io::Result<usize>,
) -> std::io::Result<()> {
    let start = unpacked.len();
    unpacked.resize(start + length, 0);
    let written = unpack(&mut unpacked[start..])?;
    unpacked.truncate(start + written);
    Ok(())
}

fn read(stream: impl Read, length: usize, unpacked: &mut Vec<u8>) -> std::io::Result<()> {
    // Reading one byte more than allowed detects a stream that is too long.
    stream.take(length as u64 + 1).read_to_end(unpacked).map(drop)
}

fn bare_lz4(packed: &[u8], length: usize, unpacked: &mut Vec<u8>) -> std::io::Result<()> {
    into_slice(length, unpacked, |room| {
        lz4_flex::block::decompress_into(packed, room).map_err(other)
    })
}

/// Appends a decompressed LZ4 frame to `unpacked`, with at most one byte too many.
pub(super) fn lz4_frame(
    packed: &[u8],
    length: usize,
    unpacked: &mut Vec<u8>,
) -> std::io::Result<()> {
    read(lz4_flex::frame::FrameDecoder::new(packed), length, unpacked)
}

/// Appends decompressed bytes of one format to a vector.
type Unpack = fn(&[u8], usize, &mut Vec<u8>) -> std::io::Result<()>;

/// The codec called LZ4 before LZ4_RAW existed: Hadoop's blocks, or a frame or a bare block from
/// other writers.
fn lz4(packed: &[u8], length: usize, unpacked: &mut Vec<u8>) -> std::io::Result<()> {
    let start = unpacked.len();
    let kinds: [Unpack; 3] = [hadoop, lz4_frame, bare_lz4];
    for kind in kinds {
        unpacked.truncate(start);
        if kind(packed, length, unpacked).is_ok() && unpacked.len() - start == length {
            return Ok(());
        }
    }
    Err(other("a page packed with LZ4 is malformed"))
}

/// Blocks that are each preceded by their decompressed and compressed sizes.
fn hadoop(mut packed: &[u8], length: usize, unpacked: &mut Vec<u8>) -> std::io::Result<()> {
    let start = unpacked.len();
    while !packed.is_empty() {
        let (Some((sizes, rest)), left) =
            (packed.split_first_chunk::<8>(), length - (unpacked.len() - start))
        else {
            return Err(other("a block without its sizes"));
        };
        let size = |of: usize| {
            u32::from_be_bytes([sizes[of], sizes[of + 1], sizes[of + 2], sizes[of + 3]]) as usize
        };
        let (block_length, block) = (size(0), rest.split_at_checked(size(4)));
        let Some((block, rest)) = block.filter(|_| block_length <= left) else {
            return Err(other("a block longer than its page"));
        };
        into_slice(block_length, unpacked, |room| {
            lz4_flex::block::decompress_into(block, room).map_err(other)
        })?;
        packed = rest;
    }
    Ok(())
}
