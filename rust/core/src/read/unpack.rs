//! Decompresses an input, with limits on the memory of the decoder and on the size of the output.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, Read, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::GzDecoder;

use super::{Input, Progress, bomb, unpacked_max};
use crate::disk;
use crate::error;
use crate::panics;

/// The largest zstd window, as a power of two. The decoder keeps a window in memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Memory limit of the xz decoder in KiB. Files of `xz -9` need 65 MiB.
const XZ_MEMORY_KIB_MAX: u32 = 128 << 10;

/// The compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

/// The decompressed bytes of an input.
pub(super) fn unpacked(
    input: &Input,
    codec: Codec,
    progress: &Progress,
) -> error::Result<Box<dyn Read + Send>> {
    let failed = |error| error::Error::input(&input.path, error);
    let file = disk::open(&input.path).map_err(failed)?;
    let packed = Arc::new(AtomicU64::new(0));
    let counted = Counted { file, progress: progress.clone(), packed: Arc::clone(&packed) };
    let stream: Box<dyn Read + Send> = match codec {
        Codec::None => return Ok(Box::new(counted)),
        Codec::Gzip => Box::new(Members::of(BufReader::new(counted))),
        Codec::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(counted).map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(failed)?;
            Box::new(decoder)
        }
        Codec::Xz => {
            let file = BufReader::new(counted);
            Box::new(lzma_rust2::XzReader::new_mem_limit(file, true, XZ_MEMORY_KIB_MAX))
        }
        Codec::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(counted)),
    };
    Ok(Box::new(NoBomb { stream, unpacked: 0, packed, progress: progress.clone() }))
}

/// The content of all members of a gzip file. Programs that write in blocks pad the last block with
/// zeros, which are skipped.
struct Members<R> {
    /// `None` after the last member.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn of(file: R) -> Members<R> {
        Members { member: Some(GzDecoder::new(file)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.member = match self.member.take().map(GzDecoder::into_inner) {
                Some(file) => next_member(file)?,
                None => None,
            };
        }
        Ok(0)
    }
}

fn next_member<R: BufRead>(mut file: R) -> Result<Option<GzDecoder<R>>> {
    loop {
        let held = file.fill_buf()?;
        let zeros = held.iter().take_while(|byte| **byte == 0).count();
        if held.is_empty() {
            return Ok(None);
        }
        if zeros < held.len() {
            file.consume(zeros);
            return Ok(Some(GzDecoder::new(file)));
        }
        file.consume(zeros);
    }
}

/// A file that counts the bytes read from it, for the progress bar.
struct Counted {
    file: File,
    progress: Progress,
    /// Bytes read from this file only.
    packed: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.progress.check()?;
        let read = self.file.read(buffer)?;
        self.progress.bytes.fetch_add(read as u64, Ordering::Relaxed);
        self.packed.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A decompressed stream that fails once it exceeds the limit for decompression bombs.
struct NoBomb {
    stream: Box<dyn Read + Send>,
    unpacked: u64,
    packed: Arc<AtomicU64>,
    progress: Progress,
}

impl Read for NoBomb {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.progress.check()?;
        let stream = &mut self.stream;
        let read = catch_unwind(AssertUnwindSafe(|| stream.read(buffer)))
            .map_err(|panic| panics::text_or(panic.as_ref(), "its compressed data are malformed"))
            .map_err(Error::other)??;
        self.unpacked += read as u64;
        if self.unpacked > unpacked_max(self.packed.load(Ordering::Relaxed)) {
            return Err(Error::other(bomb()));
        }
        Ok(read)
    }
}
