//! Alpaca: `{"instruction": …, "input": …, "output": …}`, with or without `system` and `history`. The
//! user says the instruction, an empty line, and the input. An `input` alone may be a list of
//! messages.

use super::columns::Columns;
use super::{Level, flat, prompt_completion};
use crate::dialogue::{Dialogue, Role, Turn};
use crate::stage::Reason;

pub(super) fn parse(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    let is_input_alone = columns.get("instruction")?.is_none() && columns.get("input")?.is_some();
    if is_input_alone && columns.get("input")?.is_some_and(|input| input.starts_with('[')) {
        columns.check(&[("input", Level::Message)], &flat::USED)?;
        columns.check_flat(&flat::USED)?;
        let before = flat::before(columns)?;
        let mut turns = before.then(prompt_completion::said(columns, "input", Role::User)?)?;
        turns.push(Turn::new(Role::Assistant, columns.text("output")?));
        let (id, source) = (columns.id()?, columns.source()?);
        return Ok(Dialogue { id, source, turns, ..Dialogue::default() });
    }
    let [asked, about] =
        if is_input_alone { ["input", "instruction"] } else { ["instruction", "input"] };
    // Some sources have Dolly's name for the input.
    flat::dialogue(columns, flat::question(columns, asked, &[about, "context"])?, "output")
}
