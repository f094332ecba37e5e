//! Alpaca: `{"instruction": …, "input": …, "output": …}`, with or without `system` and `history`. The
//! user says the instruction, an empty line, and the input.

use super::{columns::Columns, flat};
use crate::dialogue::Dialogue;
use crate::stage::Reason;

pub(super) fn parse(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    let is_input_alone = columns.get("instruction")?.is_none() && columns.get("input")?.is_some();
    let [asked, about] =
        if is_input_alone { ["input", "instruction"] } else { ["instruction", "input"] };
    // Some sources have Dolly's name for the input.
    flat::dialogue(columns, flat::question(columns, asked, &[about, "context"])?, "output")
}
