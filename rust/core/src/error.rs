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

/// The start of the panic of `std::thread::spawn`.
pub const NO_THREAD: &str = "failed to spawn thread";

/// How panics and errors tell that the system refuses a thread, or memory that it or a library in C
/// allocates.
const REFUSALS: [&str; 4] =
    [NO_THREAD, "Cannot allocate memory", "zstd returned null pointer", "not enough memory"];

/// Whether the text of a panic or an error tells that the system refuses a thread or memory.
#[must_use]
pub fn is_refusal(text: &str) -> bool {
    REFUSALS.iter().any(|refusal| text.contains(refusal))
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
        let text = format!("cannot read `{}`: {cause}", path.display());
        if is_refusal(&cause.to_string()) { Error::refused(text) } else { Error::Input(text) }
    }

    /// The error of an output that could not be written.
    pub fn storage(path: &Path, cause: impl std::fmt::Display) -> Error {
        let text = format!("cannot write `{}`: {cause}", path.display());
        if is_refusal(&cause.to_string()) { Error::refused(text) } else { Error::Storage(text) }
    }

    /// The error of a thread or memory that the system refuses.
    pub fn refused(cause: impl std::fmt::Display) -> Error {
        Error::MemoryLimit(format!(
            "the system refused a thread or memory ({cause}); use fewer `--threads`, or raise the \
             limit"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_memory_is_no_fault_of_a_file() {
        let path = Path::new("rows.jsonl");
        for make in [Error::input, Error::storage] {
            let error = make(path, std::io::Error::from_raw_os_error(libc::ENOMEM));
            assert!(matches!(error, Error::MemoryLimit(_)), "{error}");
            let error = make(path, std::io::Error::from_raw_os_error(libc::EACCES));
            assert!(!matches!(error, Error::MemoryLimit(_)), "{error}");
        }
    }
}
