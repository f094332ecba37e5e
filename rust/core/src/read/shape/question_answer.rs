//! Questions with answers: `{"question": …, "answer": …}`, or `response`. A `context` follows the
//! question after an empty line.

use super::{columns::Columns, flat};
use crate::dialogue::Dialogue;
use crate::stage::Reason;

const ANSWERS: [&str; 2] = ["answer", "response"];

pub(super) fn parse(row: &[u8]) -> Result<Dialogue, Reason> {
    let columns = Columns::of(row)?;
    let answer = columns.first_of(&ANSWERS)?.unwrap_or(ANSWERS[0]);
    flat::dialogue(&columns, flat::question(&columns, "question", "context")?, answer)
}
