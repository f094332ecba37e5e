//! Progress counters and cancellation of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Counters and the cancel flag, shared between a run and its caller.
#[derive(Debug, Default)]
pub struct Watch {
    /// Set to cancel the run. Readers on separate threads share it.
    pub stop: Arc<AtomicBool>,
    /// Input bytes read so far, counted as stored on disk, i.e. compressed.
    pub bytes_read: AtomicU64,
    /// Bytes of all inputs, as stored on disk.
    pub bytes_total: AtomicU64,
    /// Rows processed so far.
    pub rows: AtomicU64,
    /// Rows written so far.
    pub written: AtomicU64,
    /// Tokens written so far.
    pub tokens: AtomicU64,
    /// Sequences packed and written to shards so far.
    pub samples_packed: AtomicU64,
    /// Sequences to write, known once all rows are read.
    pub samples_total: AtomicU64,
}

impl Watch {
    /// Fails with [`Error::Interrupted`] once the run is cancelled.
    pub fn check(&self) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Returns the counters as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
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
