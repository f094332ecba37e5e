//! Alpaca: `{"instruction": …, "input": …, "output": …}`, with or without `system` and `history`. The
//! user says the instruction, an empty line, and the input.

use super::{columns::Columns, flat};
use crate::dialogue::Dialogue;
use crate::stage::Reason;

pub(super) fn parse(row: &[u8]) -> Result<Dialogue, Reason> {
    let columns = Columns::of(row)?;
    flat::dialogue(&columns, flat::question(&columns, "instruction", "input")?, "output")
}
