//! Panics as errors: none leaves text of its own on stderr, and the error says where it was.

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::{Mutex, PoisonError, mpsc};

use crate::error::{Error, Result};

/// Where the last panic was. Of threads that panic at the same time, any one may be named.
static PANICKED_AT: Mutex<Option<String>> = Mutex::new(None);

/// From now on panics are quiet: each is caught, and becomes an error or a row's reason.
pub fn silence() {
    set_hook(Box::new(|panic| {
        *PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner) =
            panic.location().map(ToString::to_string);
    }));
}

/// What the work gives; an error where it panics.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "panicked".to_owned());
        let place = PANICKED_AT.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(Error::Internal(
            place.map_or_else(|| text.clone(), |place| format!("{text} ({place})")),
        ))
    })
}

/// Starts work on a thread of its own; its result comes through the channel, a panic as an error.
pub fn spawned<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<mpsc::Receiver<Result<T>>> {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::Builder::new().spawn(move || _ = sender.send(caught(work)));
    let failed = |error| Error::Internal(format!("no thread to work on: {error}"));
    thread.map(|_| receiver).map_err(failed)
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
}
