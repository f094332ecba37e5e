//! What was read of each input: its rows, and the columns that none of them used.

use crate::dataset::manifest::InputEntry;
use crate::read::Input;
use crate::read::shape::unread::NAMES_MAX;

/// The inputs, by their ordinals.
pub(super) struct InputsRead(Vec<InputRead>);

/// What was read of one input. Columns are in the order in which rows have them, so that the first
/// ones do not depend on threads.
#[derive(Default)]
struct InputRead {
    rows: u64,
    unused_columns: Vec<String>,
    has_more_unused_columns: bool,
}

impl InputsRead {
    pub(super) fn new(inputs: &[Input]) -> InputsRead {
        InputsRead(inputs.iter().map(|_| InputRead::default()).collect())
    }

    /// Adds the next row, and columns that it does not use.
    pub(super) fn add(&mut self, input: i32, unused_columns: Vec<String>) {
        let read = &mut self.0[input as usize];
        read.rows += 1;
        for name in unused_columns {
            if read.unused_columns.contains(&name) {
                continue;
            }
            if read.unused_columns.len() == NAMES_MAX {
                read.has_more_unused_columns = true;
                return;
            }
            read.unused_columns.push(name);
        }
    }

    /// The entries of the manifest.
    pub(super) fn entries(self, inputs: &[Input]) -> Vec<InputEntry> {
        let entry = |(input, mut read): (&Input, InputRead)| {
            read.unused_columns.sort_unstable();
            InputEntry {
                name: input.name.clone(),
                blake3: input.blake3.clone(),
                bytes: input.bytes,
                rows: read.rows,
                unused_columns: read.unused_columns,
                has_more_unused_columns: read.has_more_unused_columns,
            }
        };
        inputs.iter().zip(self.0).map(entry).collect()
    }
}
