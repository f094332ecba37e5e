//! Dolly: `{"instruction": …, "context": …, "response": …}`. The user says the instruction, an empty
//! line, and the context.

use super::{columns::Columns, flat};
use crate::dialogue::Dialogue;
use crate::stage::Reason;

pub(super) fn parse(row: &[u8]) -> Result<Dialogue, Reason> {
    let columns = Columns::of(row)?;
    flat::dialogue(&columns, flat::question(&columns, "instruction", "context")?, "response")
}
