//! The ways to mark a dialogue, of which the first that succeeds is used.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::jinja::Jinja;
use super::marks::{Calls, Contents, Thinking, can_split, has_parts};
use crate::dialogue::Script;

/// The ways to mark a dialogue, in the order in which they are tried.
pub(super) fn ways<'row>(
    jinja: &Jinja,
    script: Script<'row>,
) -> impl Iterator<Item = Option<Contents>> + use<'row> {
    let calls: &[Calls] = if script.turns.iter().any(has_parts) {
        &[Calls::NamesAndArguments, Calls::Names, Calls::Nothing]
    } else {
        &[Calls::Nothing]
    };
    let thinking: &[Thinking] = if script.turns.iter().any(can_split) {
        &[Thinking::Whole, Thinking::Apart, Thinking::InParts]
    } else {
        &[Thinking::Whole]
    };
    let strips: &[[bool; 2]] = if jinja.has_tags {
        &[[true, true]]
    } else {
        &[[false, false], [true, false], [false, true], [true, true]]
    };
    let contents = thinking.iter().flat_map(move |thinking| {
        calls.iter().flat_map(move |calls| {
            strips.iter().flat_map(move |strips| {
                [false, true].map(|answers_only| {
                    let (strips, thinking, calls) = (*strips, *thinking, *calls);
                    Some(Contents { answers_only, strips, thinking, calls })
                })
            })
        })
    });
    contents.chain(jinja.has_tags.then_some(None))
}

/// The number of the way to mark a dialogue in which the names of tools are marked as well: the one
/// that succeeded last. It saves renderings, and changes no result.
#[derive(Debug, Default)]
pub(super) struct ToolMarks(AtomicUsize);

impl ToolMarks {
    /// No way has this number.
    const NEVER: usize = usize::MAX;

    pub(super) fn are_in(&self, way: usize) -> bool {
        self.0.load(Ordering::Relaxed) == way
    }

    /// Records that a way succeeds, but not with the names of tools if it was tried.
    pub(super) fn succeeded_without(&self, way: usize) {
        let next = if self.are_in(way) { Self::NEVER } else { way };
        if !self.are_in(Self::NEVER) {
            self.0.store(next, Ordering::Relaxed);
        }
    }
}
