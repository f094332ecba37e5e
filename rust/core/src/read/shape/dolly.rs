//! Dolly: `{"instruction": …, "context": …, "response": …}`. The user says the instruction, an empty
//! line, and the context.

use super::{columns::Columns, flat};
use crate::dialogue::Dialogue;
use crate::stage::Reason;

/// Some sources have Alpaca's name for the context.
const ABOUT: [&str; 2] = ["context", "input"];

pub(super) fn parse(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    flat::dialogue(columns, flat::question(columns, "instruction", &ABOUT)?, "response")
}
