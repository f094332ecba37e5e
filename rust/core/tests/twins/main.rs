//! Compares the engine's optimized code with simple reference implementations: rows read, letters
//! capitalized, phrases found.

#![expect(
    clippy::print_stdout,
    reason = "a test without its rows says that it was skipped, and a random one its seed"
)]

mod clean;
mod fuzz;
mod read;
#[path = "../real_data/mod.rs"]
mod real_data;
mod slow;
