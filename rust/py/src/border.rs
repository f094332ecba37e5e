//! The one door across the border: lets go of the GIL, obeys Ctrl-C, reports progress, and turns
//! errors into exceptions.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt};
use pyo3::prelude::*;
use zephyr_core::error::Error;
use zephyr_core::panics;
use zephyr_core::progress::Watch;

create_exception!(
    zephyr_fast._core,
    ZephyrError,
    PyException,
    "Anything that zephyr-fast refuses or cannot do."
);
create_exception!(
    zephyr_fast._core,
    RecipeError,
    ZephyrError,
    "A recipe, a template or an argument that cannot be obeyed."
);
create_exception!(
    zephyr_fast._core,
    BadDataError,
    ZephyrError,
    "More unreadable rows than the run allows."
);
create_exception!(
    zephyr_fast._core,
    InputError,
    ZephyrError,
    "An input or a tokenizer that is missing or cannot be read."
);
create_exception!(
    zephyr_fast._core,
    OtherRunError,
    ZephyrError,
    "The out folder holds another run."
);
create_exception!(
    zephyr_fast._core,
    LockedError,
    ZephyrError,
    "Another process is writing the out folder."
);
create_exception!(
    zephyr_fast._core,
    IntegrityError,
    ZephyrError,
    "Bytes on disk are not the bytes that were written."
);
create_exception!(
    zephyr_fast._core,
    StorageError,
    ZephyrError,
    "The disk refused: full, read-only, gone."
);
create_exception!(zephyr_fast._core, InternalError, ZephyrError, "A bug in zephyr-fast.");

/// How often signals and progress are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Looks that work gets, once it is told to stop, before it is left behind.
const TICKS_OF_GRACE: u32 = 15;

/// Runs work on a thread of its own, without the GIL, while this one watches for Ctrl-C and reports
/// progress.
///
/// Ctrl-C is always answered: work looks often whether it is to stop, and where something keeps it
/// from looking, its thread is left behind. That thread commits nothing any more, since whoever
/// commits looks first; the command ends it by ending.
pub(crate) fn enter<T: Send + 'static>(
    py: Python<'_>,
    on_progress: Option<Py<PyAny>>,
    work: impl FnOnce(&Watch) -> zephyr_core::Result<T> + Send + 'static,
) -> PyResult<T> {
    let watch = Arc::new(Watch::default());
    let mut receiver = spawn(Arc::clone(&watch), work)?;
    let mut interrupt: Option<(PyErr, u32)> = None;
    loop {
        match py.detach(|| wait(&mut receiver)) {
            Ok(result) => {
                return interrupt.map_or_else(
                    || result.map_err(|error| exception(&error)),
                    |(error, _)| Err(error),
                );
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(InternalError::new_err("the run ended without a result"));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        interrupt = match interrupt {
            Some((error, TICKS_OF_GRACE)) => return Err(error),
            Some((error, ticks)) => Some((error, ticks + 1)),
            None => {
                let line = || {
                    on_progress
                        .as_ref()
                        .map_or(Ok(()), |report| report.call1(py, (watch.line(),)).map(|_| ()))
                };
                let told = py.check_signals().and_then(|()| line()).err();
                watch.stop.store(told.is_some(), Ordering::Relaxed);
                told.map(|error| (error, 0))
            }
        };
    }
}

/// Starts work on a thread of its own; its result comes through the channel, a panic as an error.
fn spawn<T: Send + 'static>(
    watch: Arc<Watch>,
    work: impl FnOnce(&Watch) -> zephyr_core::Result<T> + Send + 'static,
) -> PyResult<mpsc::Receiver<zephyr_core::Result<T>>> {
    let (sender, receiver) = mpsc::channel();
    let thread =
        std::thread::Builder::new().spawn(move || _ = sender.send(panics::caught(|| work(&watch))));
    thread
        .map(|_| receiver)
        .map_err(|error| InternalError::new_err(format!("no thread to work on: {error}")))
}

/// A borrow that is ours alone crosses `detach`, as a shared one would not: a receiver is Send, not
/// Sync.
fn wait<T>(receiver: &mut mpsc::Receiver<T>) -> Result<T, mpsc::RecvTimeoutError> {
    receiver.recv_timeout(TICK)
}

fn exception(error: &Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Recipe(_) => RecipeError::new_err(text),
        Error::BadData(_) => BadDataError::new_err(text),
        Error::Input(_) => InputError::new_err(text),
        Error::OtherRun(_) => OtherRunError::new_err(text),
        Error::Locked(_) => LockedError::new_err(text),
        Error::Integrity(_) => IntegrityError::new_err(text),
        Error::Storage(_) => StorageError::new_err(text),
        Error::Interrupted => PyKeyboardInterrupt::new_err(text),
        Error::Internal(_) => InternalError::new_err(text),
    }
}

/// Adds the exception classes, each with the exit code of its kind.
pub(crate) fn add_errors(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let classes = [
        ("ZephyrError", py.get_type::<ZephyrError>(), 70),
        ("RecipeError", py.get_type::<RecipeError>(), Error::Recipe(String::new()).exit_code()),
        ("BadDataError", py.get_type::<BadDataError>(), Error::BadData(String::new()).exit_code()),
        ("InputError", py.get_type::<InputError>(), Error::Input(String::new()).exit_code()),
        (
            "OtherRunError",
            py.get_type::<OtherRunError>(),
            Error::OtherRun(String::new()).exit_code(),
        ),
        ("LockedError", py.get_type::<LockedError>(), Error::Locked(String::new()).exit_code()),
        (
            "IntegrityError",
            py.get_type::<IntegrityError>(),
            Error::Integrity(String::new()).exit_code(),
        ),
        ("StorageError", py.get_type::<StorageError>(), Error::Storage(String::new()).exit_code()),
        (
            "InternalError",
            py.get_type::<InternalError>(),
            Error::Internal(String::new()).exit_code(),
        ),
    ];
    for (name, class, exit_code) in classes {
        class.setattr("exit_code", exit_code)?;
        module.add(name, class)?;
    }
    Ok(())
}
