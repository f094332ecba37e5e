//! How the outside follows a run and stops it: counters that threads add to, and one flag.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Shared between a run and whoever waits for it.
#[derive(Debug, Default)]
pub struct Watch {
    /// Set to stop the run. Readers, which run on threads of their own, hold it too.
    pub stop: Arc<AtomicBool>,
    /// Raw bytes read so far, compressed as they lie on disk.
    pub bytes_read: AtomicU64,
    /// Raw bytes in all inputs.
    pub bytes_total: AtomicU64,
    /// Rows judged so far.
    pub rows: AtomicU64,
    /// Rows written so far.
    pub written: AtomicU64,
    /// Tokens made so far.
    pub tokens: AtomicU64,
    /// Samples packed and written to shards so far.
    pub samples_packed: AtomicU64,
    /// Samples to pack, known once reading is over.
    pub samples_total: AtomicU64,
}

impl Watch {
    /// Fails with [`Error::Interrupted`] once somebody asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// The counters as one line of JSON.
    #[must_use]
    pub fn line(&self) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            r#"{{"bytes_read":{},"bytes_total":{},"rows":{},"written":{},"tokens":{},"samples_packed":{},"samples_total":{}}}"#,
            read(&self.bytes_read),
            read(&self.bytes_total),
            read(&self.rows),
            read(&self.written),
            read(&self.tokens),
            read(&self.samples_packed),
            read(&self.samples_total)
        )
    }
}
