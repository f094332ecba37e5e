//! Turns panics into errors with their source location. Panics print nothing to stderr. If the
//! system refuses memory or a thread, the error says so.

mod memory;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::{Mutex, PoisonError, mpsc};

use crate::error::{Error, Result, is_refusal};

/// Source location of the last panic. If several threads panic at once, it is that of any of them.
static PANICKED_AT: Mutex<Option<String>> = Mutex::new(None);

/// Silences panics from now on. Each is caught and becomes an error or the reason of a row. Prepares
/// the allocator, too.
pub fn silence() {
    memory::share_arena();
    set_hook(Box::new(|panic| {
        *PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner) =
            panic.location().map(ToString::to_string);
    }));
}

/// Returns the result of the work, or an error if it panics.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = text(panic.as_ref());
        if is_refusal(&text) {
            return Err(Error::refused(text));
        }
        let location = PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(Error::Internal(
            location.map_or_else(|| text.clone(), |location| format!("{text} ({location})")),
        ))
    })
}

/// The text of the panic if the system refused memory, and otherwise `fault`.
pub fn text_or(panic: &(dyn Any + Send), fault: &str) -> String {
    Some(text(panic)).filter(|text| is_refusal(text)).unwrap_or_else(|| fault.to_owned())
}

/// Starts work on a new thread. Its result, or its panic as an error, is sent to the receiver.
pub fn spawned<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<mpsc::Receiver<Result<T>>> {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().spawn(move || _ = sender.send(caught(work)));
    thread.map(|_| receiver).map_err(Error::refused)
}

/// The text of a panic.
fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".to_owned())
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
    fn memory_that_a_library_is_refused_is_no_bug() {
        let refused = || panic!("zstd returned null pointer when creating dict");
        assert!(matches!(caught::<()>(refused), Err(Error::MemoryLimit(_))));
        let panic = catch_unwind(refused).expect_err("panics");
        assert!(is_refusal(&text_or(panic.as_ref(), "malformed")));
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
