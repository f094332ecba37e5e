//! Calls into the core: releases the GIL, handles Ctrl-C, reports progress, raises errors.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt};
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use zephyr_core::{Error, panics, pipeline::names, progress::Watch};

create_exception!(zephyr_fast._core, ZephyrError, PyException, "Base class of all errors.");

/// Declares the exceptions: the class of each kind of error.
macro_rules! exceptions {
    ($($class:ident $kind:ident)*) => {
        $(create_exception!(zephyr_fast._core, $class, ZephyrError);)*

        pub(crate) fn exception(error: &Error) -> PyErr {
            let text = error.to_string();
            match error {
                $(Error::$kind(_) => $class::new_err(text),)*
                Error::Interrupted => PyKeyboardInterrupt::new_err(text),
            }
        }

        /// Adds the exception classes, each with the exit code and the meaning of its kind.
        pub(crate) fn add_errors(module: &Bound<'_, PyModule>) -> PyResult<()> {
            add_error::<ZephyrError>(module, "ZephyrError", 70)?;
            $(add_error::<$class>(module, stringify!($class), Error::$kind(String::new()).exit_code())?;)*
            Ok(())
        }
    };
}

exceptions! {
    ConfigError Config
    TooManyBadRowsError TooManyBadRows
    NoRowsWrittenError NoRowsWritten
    InputError Input
    OutputExistsError OutputExists
    LockedError Locked
    IntegrityError Integrity
    StorageError Storage
    MemoryLimitError MemoryLimit
    InternalError Internal
}

fn add_error<E: PyTypeInfo>(module: &Bound<'_, PyModule>, name: &str, code: u8) -> PyResult<()> {
    let class = module.py().get_type::<E>();
    class.setattr("exit_code", code)?;
    if let Some((.., meaning, _)) = names::errors().into_iter().find(|(class, ..)| *class == name) {
        class.setattr("__doc__", meaning)?;
    }
    module.add(name, class)
}

/// How often signals are checked and progress is reported.
const TICK: Duration = Duration::from_millis(100);
/// Ticks that cancelled work has to end before its thread is abandoned.
const TICKS_OF_GRACE: u32 = 15;

/// Runs work on a separate thread, without the GIL, while this thread handles Ctrl-C and reports
/// progress.
///
/// Ctrl-C always takes effect. Work checks often whether it is cancelled. If something keeps it
/// from checking, its thread is abandoned. An abandoned thread commits no file, since every commit
/// checks first, and it ends with the process.
pub(crate) fn enter<T: Send + 'static>(
    py: Python<'_>,
    on_progress: Option<Py<PyAny>>,
    work: impl FnOnce(&Watch) -> zephyr_core::Result<T> + Send + 'static,
) -> PyResult<T> {
    let watch = Arc::new(Watch::default());
    let shared = Arc::clone(&watch);
    let mut receiver = panics::spawned(move || work(&shared)).map_err(|error| exception(&error))?;
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
                let report = || {
                    on_progress
                        .as_ref()
                        .map_or(Ok(()), |report| report.call1(py, (watch.to_json(),)).map(|_| ()))
                };
                let error = py.check_signals().and_then(|()| report()).err();
                watch.stop.store(error.is_some(), Ordering::Relaxed);
                error.map(|error| (error, 0))
            }
        };
    }
}

/// Waits for one tick. The receiver is not `Sync`, so `detach` needs an exclusive reference to it,
/// not a shared one.
fn wait<T>(receiver: &mut mpsc::Receiver<T>) -> Result<T, mpsc::RecvTimeoutError> {
    receiver.recv_timeout(TICK)
}
