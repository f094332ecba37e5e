//! Opens an input by the ending of its name, which says what its rows are written as and what the
//! file is compressed with.

use std::io::Read;
use std::path::Path;

use super::document::{Form, Values, form_of};
use super::jsonl::Lines;
use super::text::Text;
use super::unpack::{Codec, unpacked};
use super::{Chunks, Input, Progress, columnar, delimited};
use crate::error::{Error, Result};

/// What the rows of a file are written as.
#[derive(Clone, Copy)]
enum Format {
    Json,
    /// A table of text with this delimiter.
    Table(u8),
    Parquet,
    Arrow,
}

/// The endings of text files with what may follow them, and those of files that are compressed
/// within.
macro_rules! endings {
    (text $($text:literal $format:expr,)* columnar $($columnar:literal $other:expr,)*) => {
        const TEXT: &[&str] = &[$($text),*];
        const COLUMNAR: &[&str] = &[$($columnar),*];
        const PACKED: [&str; 4] = [".gz", ".zst", ".xz", ".bz2"];
        const ENDINGS: &[(&str, Format, Codec)] = &[
            $(
                ($text, $format, Codec::None),
                (concat!($text, ".gz"), $format, Codec::Gzip),
                (concat!($text, ".zst"), $format, Codec::Zstd),
                (concat!($text, ".xz"), $format, Codec::Xz),
                (concat!($text, ".bz2"), $format, Codec::Bzip2),
            )*
            $(($columnar, $other, Codec::None),)*
        ];
    };
}

endings! {
    text
    ".jsonl" Format::Json,
    ".json" Format::Json,
    ".ndjson" Format::Json,
    ".csv" Format::Table(b','),
    ".tsv" Format::Table(b'\t'),
    columnar
    ".parquet" Format::Parquet,
    ".arrow" Format::Arrow,
    ".ipc" Format::Arrow,
    ".feather" Format::Arrow,
}

/// The endings of the names of files that are read. Case does not matter.
#[must_use]
pub fn endings() -> Vec<&'static str> {
    ENDINGS.iter().map(|(ending, ..)| *ending).collect()
}

/// The formats in the words of an error.
#[must_use]
pub fn formats() -> Vec<&'static str> {
    [TEXT, COLUMNAR].concat()
}

/// What may follow the ending of a text file.
#[must_use]
pub fn compressions() -> Vec<&'static str> {
    PACKED.to_vec()
}

/// Fails for a file whose name has another ending.
pub(super) fn check_name(path: &Path) -> Result<()> {
    format_of(path).map(drop)
}

fn format_of(path: &Path) -> Result<(Format, Codec)> {
    let lower = path.to_string_lossy().to_ascii_lowercase();
    let known = ENDINGS.iter().find(|(ending, ..)| lower.ends_with(ending));
    known.map(|(_, format, codec)| (*format, *codec)).ok_or_else(|| {
        Error::Input(format!(
            "cannot read `{}`: its name must end with one of {}; text files may be compressed ({})",
            path.display(),
            formats().join(", "),
            PACKED.join(", "),
        ))
    })
}

/// The rows of an input.
pub(super) fn open(input: &Input, progress: &Progress) -> Result<Chunks> {
    let (format, codec) = format_of(&input.path)?;
    match format {
        Format::Json => rows(unpacked(input, codec, progress)?, input),
        Format::Table(delimiter) => {
            delimited::rows(unpacked(input, codec, progress)?, delimiter, input)
        }
        Format::Parquet => columnar::parquet(input, progress),
        Format::Arrow => columnar::arrow(input, progress),
    }
}

/// The rows of JSON text, one per line or in a document.
pub(super) fn rows(stream: Box<dyn Read + Send>, input: &Input) -> Result<Chunks> {
    let text = Text::new(stream, input)?;
    Ok(match form_of(&text.pending, text.ended) {
        Form::Lines => Box::new(Lines::new(text)),
        Form::Document(start) => Box::new(Values::new(text, start)),
    })
}
