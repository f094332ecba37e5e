//! zephyr-core: dialogues in, verified token shards out. It never mentions Python.
//!
//! The walk, in the order of the modules a dialogue passes through:
//! `read` → `read::shape` → `truecase` → `filter` → [`binarize`] → `decontaminate` → `dedup` → `template` → `tokenize` → `pack` → `shard`,
//! with `ledger`, `quarantine` and `manifest` keeping the books. `pipeline` alone knows that order.

pub mod binarize;
pub mod bits;
pub mod card;
pub mod commit;
pub mod control;
pub mod decontaminate;
pub mod dedup;
pub mod dialogue;
mod disk;
pub mod encoding;
pub mod error;
pub mod explain;
#[cfg(feature = "failpoints")]
mod failpoints;
pub mod filter;
pub mod fingerprint;
mod layout;
pub mod ledger;
pub mod manifest;
pub mod memory;
pub mod out_folder;
pub mod pack;
pub mod panics;
pub mod pipeline;
mod prefetch;
pub mod quarantine;
pub mod read;
pub mod recipe;
pub mod sample;
pub mod shard;
mod sidecar;
pub mod spool;
pub mod stage;
pub mod table;
pub mod template;
pub mod text;
pub mod tokenize;
pub mod truecase;
#[cfg(target_arch = "x86_64")]
mod vectors;
pub mod verify;
pub mod walk;
pub mod watch;
pub mod words;

pub use disk::Folder;
pub use error::{Error, Result};
pub use pipeline::{Job, run};
