//! Reads raw files row by row: computes the digest of each input, opens it by its file name ending,
//! and returns chunks of complete rows.

mod columnar;
mod delimited;
mod document;
mod jsonl;
mod open;
pub mod shape;
mod text;
mod unpack;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use rayon::prelude::*;

use crate::disk;
use crate::error::{Error, Result};
use crate::progress::Watch;

pub use open::endings;

/// Version of the rules that turn the bytes of an input into rows and dialogues.
pub const VERSION: u32 = 7;

/// A longer line is not parsed. Its row is quarantined.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// Bytes of an over-long row that are kept for the quarantine.
const KEPT_OF_LONG_ROW: usize = 64 << 10;

const MIB: u64 = 1 << 20;

/// Limits for the decompressed size of an input: this many bytes, or this many times the bytes read
/// from it. Chat data compresses 3:1 to 10:1.
const UNPACKED_BYTES_FREE: u64 = 64 << 20;
const UNPACKED_RATIO_MAX: u64 = 200;

/// A chunk is complete at the first row that reaches this many bytes.
pub(crate) const CHUNK_BYTES: usize = 512 << 10;
/// A chunk is also complete at this many rows, because even an empty row takes some hundred bytes
/// of memory while it is processed.
const CHUNK_ROWS_MAX: usize = 8_192;

/// One input file.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its index in input order.
    pub ordinal: i32,
    /// Its current path, which is never written to any output.
    pub path: PathBuf,
    /// Its base name.
    pub name: String,
    /// BLAKE3 digest of the file on disk, as hexadecimal text.
    pub blake3: String,
    /// Its size on disk in bytes.
    pub bytes: u64,
    /// Time of the last modification, if the file system records it.
    pub modified: Option<SystemTime>,
}

/// One row of an input: its position there, and its byte range in the chunk.
#[derive(Debug, Clone)]
pub struct RawRow {
    /// Offset of the row in the decompressed stream, or its row number in columnar files.
    pub offset: u64,
    /// Its length in the decompressed stream, or 0 in columnar files.
    pub length: u64,
    /// Its line number, from 1. In columnar files, its row number from 1.
    pub line: u64,
    /// Start of its bytes in [`Chunk::bytes`]: one JSON object, truncated if `length` exceeds
    /// [`LINE_BYTES_MAX`].
    pub start: usize,
    /// The end of its bytes.
    pub end: usize,
}

/// Consecutive complete rows of one input.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The index of the input.
    pub input: i32,
    /// The rows' bytes.
    pub bytes: Vec<u8>,
    /// The rows.
    pub rows: Vec<RawRow>,
}

/// The number of bytes read so far, and whether the run was cancelled. Readers check it on every
/// read.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Bytes read, counted as stored on disk (compressed).
    pub bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Progress {
    /// Shares the cancellation flag of a watch.
    #[must_use]
    pub fn of(watch: &Watch) -> Progress {
        Progress { bytes: Arc::default(), stop: Arc::clone(&watch.stop) }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Returns an error once the run was cancelled. Its message is never shown, because [`chunks`]
    /// replaces it with [`Error::Interrupted`].
    fn check(&self) -> std::io::Result<()> {
        if self.is_stopped() { Err(std::io::Error::other("stopped")) } else { Ok(()) }
    }
}

/// A source of chunks.
pub type Chunks = Box<dyn Iterator<Item = Result<Chunk>> + Send>;

/// Computes the digests of the inputs and sorts them by base name, then by digest, so that neither
/// directories nor the order of arguments matter.
pub fn inputs(paths: &[PathBuf], watch: &Watch) -> Result<Vec<Input>> {
    if paths.is_empty() {
        return Err(Error::Input("no input files".to_owned()));
    }
    // Check all endings before the output directory is created: a mistyped name must not leave an
    // unfinished run there.
    let mut inputs = paths
        .par_iter()
        .map(|path| open::check_name(path).and_then(|()| digest(path, watch)))
        .collect::<Result<Vec<_>>>()?;
    inputs.sort_by(|a, b| (&a.name, &a.blake3).cmp(&(&b.name, &b.blake3)));
    for (ordinal, input) in (0..).zip(&mut inputs) {
        input.ordinal = ordinal;
    }
    Ok(inputs)
}

/// Opens an input by its file name ending. The last chunk is an error if the file has changed since
/// its digest was computed.
pub fn chunks(input: &Input, progress: &Progress) -> Result<Chunks> {
    let (read, stopping) = (input.clone(), progress.clone());
    let changed = std::iter::once_with(move || read.check_unchanged())
        .filter_map(|unchanged| unchanged.err().map(Err));
    let or_stopped = move |error| if stopping.is_stopped() { Error::Interrupted } else { error };
    let chunks = open::open(input, progress).map_err(&or_stopped)?.chain(changed);
    Ok(Box::new(chunks.map(move |chunk| chunk.map_err(&or_stopped))))
}

/// Computes the digest of one file, whatever its ending. BLAKE3 is used because every run reads all
/// of its inputs just for this, and SHA-256 took a quarter of the time of `binarize`.
pub fn digest(path: &Path, watch: &Watch) -> Result<Input> {
    let failed = |error: std::io::Error| Error::input(path, error);
    let mut file = disk::open(path).map_err(failed)?;
    let modified = file.metadata().map_err(failed)?.modified().ok();
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        watch.check()?;
        let read = file.read(&mut block).map_err(failed)?;
        if read == 0 {
            break;
        }
        hasher.update(&block[..read]);
        bytes += read as u64;
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let input = Input {
        ordinal: 0,
        path: path.to_owned(),
        name,
        blake3: hasher.finalize().to_hex().to_string(),
        bytes,
        modified,
    };
    input.check_unchanged()?;
    Ok(input)
}

impl Input {
    /// Returns an error if the file was written since its digest was computed, because its rows
    /// would differ from those that the manifest names.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        let metadata =
            std::fs::metadata(&self.path).map_err(|error| Error::input(&self.path, error))?;
        if (metadata.len(), metadata.modified().ok()) == (self.bytes, self.modified) {
            return Ok(());
        }
        Err(Error::input(
            &self.path,
            "it changed while it was read; run again once nothing writes to it any more",
        ))
    }
}

/// The maximum decompressed size of an input with `packed` compressed bytes.
fn unpacked_max(packed: u64) -> u64 {
    UNPACKED_BYTES_FREE.max(packed.saturating_mul(UNPACKED_RATIO_MAX))
}

/// The message for an input that exceeds that limit.
fn bomb() -> String {
    format!(
        "it unpacks to more than {UNPACKED_RATIO_MAX} times its size, as bombs do; if it is none, \
            unpack it first"
    )
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn digest_of(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), bytes).expect("writes");
        let input = digest(file.path(), &Watch::default()).expect("digests");
        assert_eq!(input.bytes, bytes.len() as u64);
        input.blake3
    }

    #[test]
    fn an_input_has_the_digest_that_b3sum_prints() {
        // The first two from BLAKE3's published test vectors: bytes 0, 1, … 250, 0, ….
        let counted =
            |bytes: usize| (0..bytes).map(|place| (place % 251) as u8).collect::<Vec<_>>();
        assert_eq!(
            digest_of(b""),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert_eq!(
            digest_of(&counted(102_400)),
            "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"
        );
        let blocks = counted(3 << 18);
        assert_eq!(digest_of(&blocks[7..]), blake3::hash(&blocks[7..]).to_hex().to_string());
    }

    #[test]
    fn a_file_that_is_written_after_its_digest_ends_in_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.jsonl");
        let read_after = |change: &dyn Fn(&File)| {
            std::fs::write(&path, b"{}\n{}\n").expect("writes");
            let input = digest(&path, &Watch::default()).expect("digests");
            change(&File::options().append(true).open(&path).expect("opens"));
            let chunks = chunks(&input, &Progress::default()).expect("opens");
            chunks
                .map(|chunk| chunk.map(|chunk| chunk.rows.len()).map_err(|error| error.to_string()))
                .collect::<Vec<_>>()
        };
        assert_eq!(read_after(&|_| ()), [Ok(2)]);
        let grown = read_after(&|mut file| file.write_all(b"{}\n").expect("writes"));
        let touched =
            read_after(&|file| file.set_modified(SystemTime::UNIX_EPOCH).expect("sets the time"));
        for (rows, read) in [(3, grown), (2, touched)] {
            let [Ok(read), Err(error)] = &read[..] else { panic!("{read:?}") };
            assert_eq!(*read, rows);
            assert!(error.contains("it changed while it was read"), "{error}");
        }
    }
}
