//! zephyr-core: dialogues in, verified token shards out. It never mentions Python.
//!
//! The rooms, from the top to the bottom; each may use what stands below it, never what stands
//! above: `pipeline` alone knows the order of the walk; `encode` makes tokens of text; `read`,
//! `truecase`, `filter`, `binarize`, `decontaminate`, `dedup`, `template`, `control_tokens` and
//! `pack` are one step of the walk each; `tokenize` knows ids; `dataset` is what lies in an out
//! folder; `recipe` has every key; `disk` is all that is done to a disk; below them stand the words
//! that all share, `dialogue`, `stage`, `sample`, `normal`, `words`, `progress`, `panics`, `error`;
//! and at the bottom `simd`, with all of the engine's `unsafe`.

pub mod binarize;
pub mod control_tokens;
pub mod dataset;
pub mod decontaminate;
pub mod dedup;
pub mod dialogue;
pub mod disk;
pub mod encode;
pub mod error;
pub mod filter;
pub mod normal;
pub mod pack;
pub mod panics;
pub mod pipeline;
pub mod progress;
pub mod read;
pub mod recipe;
pub mod sample;
pub mod simd;
pub mod stage;
pub mod template;
pub mod tokenize;
pub mod truecase;
pub mod words;

pub use disk::Folder;
pub use error::{Error, Result};
pub use pipeline::{Job, RunOptions, run};
