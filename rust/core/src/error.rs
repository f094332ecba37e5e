//! The one error type: a variant per kind of trouble, each with the exit code a shell sees.

use std::path::Path;

/// What went wrong. The text says where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A recipe, a template or an argument that cannot be obeyed.
    #[error("{0}")]
    Config(String),
    /// More unreadable rows than the run allows.
    #[error("{0}")]
    TooManyBadRows(String),
    /// An input or a tokenizer that is missing or cannot be read.
    #[error("{0}")]
    Input(String),
    /// The out folder holds another run, or something that is not ours.
    #[error("{0}")]
    OutputExists(String),
    /// Another process is writing this out folder.
    #[error("{0}")]
    Locked(String),
    /// Bytes on disk that are not the bytes that were written.
    #[error("{0}")]
    Integrity(String),
    /// The disk refused: full, read-only, gone.
    #[error("{0}")]
    Storage(String),
    /// Stopped by the user.
    #[error("interrupted; type the same command again to start over from the raw rows")]
    Interrupted,
    /// A broken promise of our own.
    #[error("bug in zephyr-fast: {0}")]
    Internal(String),
}

/// The result of everything that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The exit code of the command line for this kind.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Config(_) => 2,
            Error::TooManyBadRows(_) => 3,
            Error::Input(_) => 4,
            Error::OutputExists(_) => 5,
            Error::Locked(_) => 6,
            Error::Integrity(_) => 7,
            Error::Storage(_) => 8,
            Error::Internal(_) => 70,
            Error::Interrupted => 130,
        }
    }

    /// An input that could not be opened or read.
    pub fn input(path: &Path, cause: impl std::fmt::Display) -> Error {
        Error::Input(format!("cannot read `{}`: {cause}", path.display()))
    }

    /// An output that could not be written.
    pub fn storage(path: &Path, cause: impl std::fmt::Display) -> Error {
        Error::Storage(format!("cannot write `{}`: {cause}", path.display()))
    }
}
