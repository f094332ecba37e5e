//! The reference implementations: slow and simple. The tests in the parent directory compare the
//! engine with them.

pub mod fields;
mod message;
pub mod phrases;
pub mod rows;
