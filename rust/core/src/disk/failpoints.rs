//! Faults on demand, for tests only. Compiled only with the feature `failpoints`.
//!
//! `ZEPHYR_FAST_FAULT=KIND@N` hits the N-th step of a process's life on a disk: `kill` ends the
//! process there, `short` writes half of the bytes, a number is the `errno` that the call fails
//! with, and `plant` creates a foreign file at the target of a rename. `ZEPHYR_FAST_TRACE=FILE`
//! writes down every step, `ZEPHYR_FAST_DELAYS=1` lets threads sleep by chance, and
//! `ZEPHYR_FAST_SABOTAGE=NAME` switches one guarantee off, which the test of that guarantee must
//! then find.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::{Error, Result, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static STEPS: AtomicU64 = AtomicU64::new(0);

/// A step other than a write.
pub(crate) fn step(what: &str, path: &Path) -> Result<()> {
    match fault(what, path) {
        Some(Fault::Errno(number)) => Err(Error::from_raw_os_error(number)),
        Some(Fault::Plant) if what == "rename" => fs::write(path, "a stranger's"),
        _ => Ok(()),
    }
}

/// A write: how many of the bytes go through.
pub(crate) fn room(bytes: usize) -> Result<usize> {
    match fault("write", Path::new("")) {
        Some(Fault::Errno(number)) => Err(Error::from_raw_os_error(number)),
        Some(Fault::Short) => Ok(bytes.div_ceil(2)),
        _ => Ok(bytes),
    }
}

/// Lets this thread sleep, or not, for up to a millisecond.
pub(crate) fn pause() {
    if std::env::var_os("ZEPHYR_FAST_DELAYS").is_some() {
        let chance = random();
        if chance.is_multiple_of(32) {
            std::thread::sleep(Duration::from_micros((chance >> 32) % 1_000));
        }
    }
}

/// Whether a guarantee is switched off.
pub(crate) fn sabotaged(what: &str) -> bool {
    std::env::var("ZEPHYR_FAST_SABOTAGE").is_ok_and(|name| name == what)
}

/// A number that no run repeats.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}

enum Fault {
    Errno(i32),
    Short,
    Plant,
}

fn fault(what: &str, path: &Path) -> Option<Fault> {
    let number = STEPS.fetch_add(1, Ordering::SeqCst) + 1;
    pause();
    if let Ok(trace) = std::env::var("ZEPHYR_FAST_TRACE") {
        let line = format!("{what} {}\n", path.display());
        let file = File::options().append(true).create(true).open(trace);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a trace can be written");
    }
    let told = std::env::var("ZEPHYR_FAST_FAULT").ok()?;
    let (kind, at) = told.split_once('@').expect("KIND@N");
    if at.parse() != Ok(number) {
        return None;
    }
    match kind {
        "kill" => std::process::abort(),
        "short" => Some(Fault::Short),
        "plant" => Some(Fault::Plant),
        errno => Some(Fault::Errno(errno.parse().expect("an errno"))),
    }
}
