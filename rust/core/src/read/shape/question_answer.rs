//! Questions with answers: `{"question": …, "answer": …}`, or `response`. A `context` follows the
//! question after an empty line.

use super::{columns::Columns, flat};
use crate::dialogue::Dialogue;
use crate::stage::Reason;

const ABOUT: [&str; 2] = ["context", "input"];
const ANSWERS: [&str; 2] = ["answer", "response"];

pub(super) fn parse(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    let answer = columns.first_of(&ANSWERS)?.unwrap_or(ANSWERS[0]);
    flat::dialogue(columns, flat::question(columns, "question", &ABOUT)?, answer)
}
