//! Turns panics into errors with their source location. Panics print nothing to stderr. If the
//! system refuses memory or a thread, the error says so.

mod memory;

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::{Mutex, PoisonError, mpsc};

use crate::error::{Error, Result};

/// Source location of the last panic. If several threads panic at once, it is that of any of them.
static PANICKED_AT: Mutex<Option<String>> = Mutex::new(None);

/// Silences panics from now on. Each is caught and becomes an error or the reason of a row.
pub fn silence() {
    set_hook(Box::new(|panic| {
        *PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner) =
            panic.location().map(ToString::to_string);
    }));
}

/// Returns the result of the work, or an error if it panics.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panicked".to_owned());
        if text.starts_with(NO_THREAD) {
            return Err(no_thread(&text));
        }
        let location = PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(Error::Internal(
            location.map_or_else(|| text.clone(), |location| format!("{text} ({location})")),
        ))
    })
}

/// Starts work on a new thread. Its result, or its panic as an error, is sent to the receiver.
pub fn spawned<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<mpsc::Receiver<Result<T>>> {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().spawn(move || _ = sender.send(caught(work)));
    thread.map(|_| receiver).map_err(no_thread)
}

/// The start of the panic of `std::thread::spawn`.
pub const NO_THREAD: &str = "failed to spawn thread";

/// The error of a thread that the system does not start.
pub fn no_thread(error: impl std::fmt::Display) -> Error {
    Error::MemoryLimit(format!(
        "the system refused a thread or its memory ({error}); use fewer `--threads`, or raise the \
         limit"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_a_result_is_itself() {
        assert!(matches!(caught(|| Ok(1)), Ok(1)));
        let error = caught::<()>(|| panic!("on purpose {}", 1)).expect_err("panics").to_string();
        assert!(error.contains("on purpose 1"), "{error}");
    }

    #[test]
    fn a_thread_that_the_system_refuses_is_no_bug() {
        let refused = || {
            std::thread::Builder::new()
                .stack_size(usize::MAX >> 8)
                .spawn(|| ())
                .expect("failed to spawn thread");
            Ok(())
        };
        assert!(matches!(caught(refused), Err(Error::MemoryLimit(_))));
    }
}
