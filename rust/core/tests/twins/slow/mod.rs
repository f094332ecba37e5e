//! The twins: slow and obvious, and held equal to the engine by the tests beside this folder.

pub mod phrases;
pub mod rows;
pub mod truecase;
