//! Reads raw files row by row: names and digests the inputs, opens them by their ending, and hands
//! on chunks of whole rows.

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

/// The version of the rules that turn the bytes of an input into rows and dialogues.
pub const VERSION: u32 = 4;

/// A longer line is not a row; it goes to quarantine.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// What of an over-long row is kept for the quarantine.
const KEPT_OF_LONG_ROW: usize = 64 << 10;

const MIB: u64 = 1 << 20;

/// What a compressed input may unpack to: this many bytes, or this many times what was read of it.
/// Chat data packs 3:1 to 10:1.
const UNPACKED_BYTES_FREE: u64 = 64 << 20;
const UNPACKED_RATIO_MAX: u64 = 200;

/// A chunk closes at the first row that reaches this many bytes.
pub(crate) const CHUNK_BYTES: usize = 512 << 10;
/// A chunk closes at this many rows as well: on its way, a row takes some hundreds of bytes
/// whatever it says.
const CHUNK_ROWS_MAX: usize = 8_192;

/// One input file.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its place in input order.
    pub ordinal: i32,
    /// Where it lies now; never written anywhere.
    pub path: PathBuf,
    /// Its base name.
    pub name: String,
    /// BLAKE3 of the file as it lies on disk, hex.
    pub blake3: String,
    /// Its size on disk.
    pub bytes: u64,
    /// When it was last written, where the disk knows.
    pub modified: Option<SystemTime>,
}

/// One row as it was read: where it stands, and its bytes within the chunk.
#[derive(Debug, Clone)]
pub struct RawRow {
    /// Where the row starts in the decompressed stream; in columnar files, its number.
    pub offset: u64,
    /// Its length in the decompressed stream; 0 in columnar files.
    pub length: u64,
    /// The line it stands on, from 1; in columnar files, its number from 1.
    pub line: u64,
    /// Its bytes within [`Chunk::bytes`]: one JSON object. Cut short where `length` exceeds
    /// [`LINE_BYTES_MAX`].
    pub start: usize,
    /// The end of its bytes.
    pub end: usize,
}

/// A run of whole rows of one input.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The input's ordinal.
    pub input: i32,
    /// The rows' bytes.
    pub bytes: Vec<u8>,
    /// The rows.
    pub rows: Vec<RawRow>,
}

/// How far reading has come, and whether somebody asked to stop: readers look at it whenever they
/// read of a file.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Bytes read, as they lie on disk.
    pub bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Progress {
    /// Stops when a watch says so.
    #[must_use]
    pub fn of(watch: &Watch) -> Progress {
        Progress { bytes: Arc::default(), stop: Arc::clone(&watch.stop) }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// An error once somebody asked to stop. What it says is not seen: [`chunks`] puts
    /// [`Error::Interrupted`] in its place.
    fn check(&self) -> std::io::Result<()> {
        if self.is_stopped() { Err(std::io::Error::other("stopped")) } else { Ok(()) }
    }
}

/// A source of chunks.
pub type Chunks = Box<dyn Iterator<Item = Result<Chunk>> + Send>;

/// Digests the inputs and puts them in input order: by base name, then by digest, so that folders
/// and argument order do not matter.
pub fn inputs(paths: &[PathBuf], watch: &Watch) -> Result<Vec<Input>> {
    if paths.is_empty() {
        return Err(Error::Input("no input files".to_owned()));
    }
    // Endings before any folder is claimed: a mistyped name must not leave an unfinished run
    // behind.
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

/// Opens an input by its ending. The last of the chunks is an error if the file is no longer the
/// one that was digested.
pub fn chunks(input: &Input, progress: &Progress) -> Result<Chunks> {
    let (read, stopping) = (input.clone(), progress.clone());
    let changed = std::iter::once_with(move || read.check_unchanged())
        .filter_map(|unchanged| unchanged.err().map(Err));
    let or_stopped = move |error| if stopping.is_stopped() { Error::Interrupted } else { error };
    let chunks = open::open(input, progress).map_err(&or_stopped)?.chain(changed);
    Ok(Box::new(chunks.map(move |chunk| chunk.map_err(&or_stopped))))
}

/// Names and digests one file, whatever its ending. BLAKE3, for every run reads all of its inputs
/// once for this alone: SHA-256 took a quarter of `binarize`.
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
    /// An error if the file was written since it was digested: its rows would not be those that the
    /// manifest names.
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

/// What so many packed bytes may unpack to.
fn unpacked_max(packed: u64) -> u64 {
    UNPACKED_BYTES_FREE.max(packed.saturating_mul(UNPACKED_RATIO_MAX))
}

/// What an input is refused with that unpacks to more.
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
