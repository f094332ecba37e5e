//! OpenAI's preference rows: `{"input": {"messages": […]}, "preferred_output": […],
//! "non_preferred_output": […]}`, each output one message of the assistant.

use super::columns::Columns;
use super::unsupported::refused;
use super::{Level, List, answers};
use crate::dialogue::{Dialogue, Turn};
use crate::stage::Reason;

const LISTS: [List; 2] =
    [("preferred_output", Level::Message), ("non_preferred_output", Level::Message)];

pub(super) fn parse(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    columns.check(&LISTS, &[])?;
    let input = columns.object("input")?;
    // The input is a row within the row and has its fields.
    input.check(&[("messages", Level::Message)], &[])?;
    let context = input.messages("messages")?;
    let side = |name: &str| -> Result<Vec<Turn>, Reason> {
        let output = columns.messages(name)?;
        if output.len() > 1 {
            return Err(refused(name, "it has several messages; only one can be compared"));
        }
        Ok([context.clone(), output].concat())
    };
    let (turns, replies) =
        answers::paired((side("preferred_output")?, side("non_preferred_output")?), [None; 2])?;
    Ok(Dialogue {
        id: columns.id()?,
        source: columns.source()?,
        turns,
        replies,
        ..Dialogue::default()
    })
}
