//! The error type of the core: one variant per kind of error, each with the exit code of the
//! command line.

use std::path::Path;

/// An error. Its text names the fault, its location, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An invalid recipe, template, option or combination of options.
    #[error("{0}")]
    Config(String),
    /// More unreadable rows than the run allows.
    #[error("{0}")]
    TooManyBadRows(String),
    /// The run kept no row, so there is no dataset to write.
    #[error("{0}")]
    NoRowsWritten(String),
    /// An input, dataset or tokenizer that is missing or cannot be read.
    #[error("{0}")]
    Input(String),
    /// The output directory holds a different run, or foreign files.
    #[error("{0}")]
    OutputExists(String),
    /// Another process is writing to the output directory.
    #[error("{0}")]
    Locked(String),
    /// Data on disk is damaged: a checksum, size or count does not match.
    #[error("{0}")]
    Integrity(String),
    /// Writing failed: the disk is full, read-only or broken.
    #[error("{0}")]
    Storage(String),
    /// The process uses more memory than `--max-memory` allows.
    #[error("{0}")]
    MemoryLimit(String),
    /// Stopped by the user.
    #[error("interrupted; run the same command again")]
    Interrupted,
    /// A bug: an invariant of this program does not hold.
    #[error("bug in zephyr-fast: {0}")]
    Internal(String),
}

/// The result of fallible functions of the core.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The exit code of the command line for this kind of error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Config(_) => 2,
            Error::TooManyBadRows(_) | Error::NoRowsWritten(_) => 3,
            Error::Input(_) => 4,
            Error::OutputExists(_) => 5,
            Error::Locked(_) => 6,
            Error::Integrity(_) => 7,
            Error::Storage(_) => 8,
            Error::MemoryLimit(_) => 9,
            Error::Internal(_) => 70,
            Error::Interrupted => 130,
        }
    }

    /// The error of an input that could not be opened or read.
    pub fn input(path: &Path, cause: impl std::fmt::Display) -> Error {
        Error::Input(format!("cannot read `{}`: {cause}", path.display()))
    }

    /// The error of an output that could not be written.
    pub fn storage(path: &Path, cause: impl std::fmt::Display) -> Error {
        Error::Storage(format!("cannot write `{}`: {cause}", path.display()))
    }
}
