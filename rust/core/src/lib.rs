//! zephyr-core: a pipeline from raw dialogues to verified token shards. It does not depend on
//! Python.
//!
//! These are the modules from top to bottom. Each may only use modules below it. `pipeline` defines
//! the order of the steps, and `encode` turns text into tokens. `read`, `truecase`, `filter`,
//! `binarize`, `decontaminate`, `dedup`, `template`, `control_tokens` and `pack` are one step each.
//! `tokenize` converts text to ids, `dataset` has the contents of an output directory, `recipe` has
//! every key, and `disk` has every operation on the file system. Below them are the shared types
//! and functions: `dialogue`, `stage`, `sample`, `code`, `normal`, `words`, `progress`, `panics`
//! and `error`. At the bottom is `simd`, with all of the engine's `unsafe`
//! but that of the allocator in `panics`.

pub mod binarize;
pub mod code;
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
