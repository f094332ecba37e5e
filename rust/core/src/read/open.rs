//! Opens an input by the ending of its name, which determines the format of its rows and the
//! compression.

use std::io::Read;
use std::path::Path;

use super::document::{Form, Values, form_of};
use super::jsonl::Lines;
use super::text::Text;
use super::unpack::{Codec, unpacked};
use super::{Chunks, Input, Progress, columnar, delimited};
use crate::error::{Error, Result};

/// The format of a file's rows.
#[derive(Clone, Copy)]
enum Format {
    Json,
    /// A text table with this delimiter.
    Table(u8),
    Parquet,
    Arrow,
}

/// The supported file name endings.
const ENDINGS: [(&str, Format, Codec); 29] = [
    (".jsonl", Format::Json, Codec::None),
    (".jsonl.gz", Format::Json, Codec::Gzip),
    (".jsonl.zst", Format::Json, Codec::Zstd),
    (".jsonl.xz", Format::Json, Codec::Xz),
    (".jsonl.bz2", Format::Json, Codec::Bzip2),
    (".json", Format::Json, Codec::None),
    (".json.gz", Format::Json, Codec::Gzip),
    (".json.zst", Format::Json, Codec::Zstd),
    (".json.xz", Format::Json, Codec::Xz),
    (".json.bz2", Format::Json, Codec::Bzip2),
    (".ndjson", Format::Json, Codec::None),
    (".ndjson.gz", Format::Json, Codec::Gzip),
    (".ndjson.zst", Format::Json, Codec::Zstd),
    (".ndjson.xz", Format::Json, Codec::Xz),
    (".ndjson.bz2", Format::Json, Codec::Bzip2),
    (".csv", Format::Table(b','), Codec::None),
    (".csv.gz", Format::Table(b','), Codec::Gzip),
    (".csv.zst", Format::Table(b','), Codec::Zstd),
    (".csv.xz", Format::Table(b','), Codec::Xz),
    (".csv.bz2", Format::Table(b','), Codec::Bzip2),
    (".tsv", Format::Table(b'\t'), Codec::None),
    (".tsv.gz", Format::Table(b'\t'), Codec::Gzip),
    (".tsv.zst", Format::Table(b'\t'), Codec::Zstd),
    (".tsv.xz", Format::Table(b'\t'), Codec::Xz),
    (".tsv.bz2", Format::Table(b'\t'), Codec::Bzip2),
    (".parquet", Format::Parquet, Codec::None),
    (".arrow", Format::Arrow, Codec::None),
    (".ipc", Format::Arrow, Codec::None),
    (".feather", Format::Arrow, Codec::None),
];

/// Returns the supported file name endings. Case does not matter.
#[must_use]
pub fn endings() -> Vec<&'static str> {
    ENDINGS.iter().map(|(ending, ..)| *ending).collect()
}

/// Fails if the name of a file has an unsupported ending.
pub(super) fn check_name(path: &Path) -> Result<()> {
    format_of(path).map(drop)
}

fn format_of(path: &Path) -> Result<(Format, Codec)> {
    let lower = path.to_string_lossy().to_ascii_lowercase();
    let known = ENDINGS.iter().find(|(ending, ..)| lower.ends_with(ending));
    known.map(|(_, format, codec)| (*format, *codec)).ok_or_else(|| {
        let plain = endings().into_iter().filter(|ending| ending.matches('.').count() == 1);
        Error::Input(format!(
            "cannot read `{}`: its name must end with one of {}; text files may also be compressed \
             (as in `.jsonl.gz`)",
            path.display(),
            plain.collect::<Vec<_>>().join(", "),
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

/// The rows of JSON text, one per line or in a JSON document.
pub(super) fn rows(stream: Box<dyn Read + Send>, input: &Input) -> Result<Chunks> {
    let text = Text::new(stream, input)?;
    Ok(match form_of(&text.pending, text.ended) {
        Form::Lines => Box::new(Lines::new(text)),
        Form::Document(start) => Box::new(Values::new(text, start)),
    })
}
