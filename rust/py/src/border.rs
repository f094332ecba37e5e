//! The one door across the border: releases the GIL, obeys Ctrl-C, reports progress, raises errors.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt};
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use zephyr_core::{Error, panics, progress::Watch};

create_exception!(
    zephyr_fast._core,
    ZephyrError,
    PyException,
    "What zephyr-fast refuses or cannot do."
);

/// The exceptions: the class of each kind of error, and what it says of itself.
macro_rules! exceptions {
    ($($class:ident $kind:ident $says:literal)*) => {
        $(create_exception!(zephyr_fast._core, $class, ZephyrError, $says);)*

        fn exception(error: &Error) -> PyErr {
            let text = error.to_string();
            match error {
                $(Error::$kind(_) => $class::new_err(text),)*
                Error::Interrupted => PyKeyboardInterrupt::new_err(text),
            }
        }

        /// Adds the exception classes, each with the exit code of its kind.
        pub(crate) fn add_errors(module: &Bound<'_, PyModule>) -> PyResult<()> {
            add_error::<ZephyrError>(module, "ZephyrError", 70)?;
            $(add_error::<$class>(module, stringify!($class), Error::$kind(String::new()).exit_code())?;)*
            Ok(())
        }
    };
}

exceptions! {
    ConfigError Config "A recipe, a template or an argument that cannot be obeyed."
    TooManyBadRowsError TooManyBadRows "More unreadable rows than the run allows."
    InputError Input "An input or a tokenizer that is missing or cannot be read."
    OutputExistsError OutputExists "The out folder holds another run."
    LockedError Locked "Another process is writing the out folder."
    IntegrityError Integrity "Bytes on disk are not the bytes that were written."
    StorageError Storage "The disk refused: full, read-only, gone."
    InternalError Internal "A bug in zephyr-fast."
}

fn add_error<E: PyTypeInfo>(module: &Bound<'_, PyModule>, name: &str, code: u8) -> PyResult<()> {
    let class = module.py().get_type::<E>();
    class.setattr("exit_code", code)?;
    module.add(name, class)
}

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
    let seen = Arc::clone(&watch);
    let mut receiver = panics::spawned(move || work(&seen)).map_err(|error| exception(&error))?;
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

/// A borrow that is ours alone crosses `detach`, as a shared one would not: this is not Sync.
fn wait<T>(receiver: &mut mpsc::Receiver<T>) -> Result<T, mpsc::RecvTimeoutError> {
    receiver.recv_timeout(TICK)
}
