//! HH-RLHF: `chosen` and `rejected` are whole dialogues as texts, `\n\nHuman: … \n\nAssistant: …`.

use super::columns::Columns;
use super::unsupported::refused;
use super::{answers, score, transcript};
use crate::dialogue::Dialogue;
use crate::stage::Reason;

pub(super) fn parse(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    columns.check_flat(&[])?;
    dialogue(columns)
}

/// The dialogue of two transcripts.
pub(super) fn dialogue(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    if !transcript::is_one(&columns.text("chosen")?) {
        return Err(refused(
            "chosen",
            "the row has no prompt, and this text is no transcript of the form `\\n\\nHuman: …`; put \
             the prompt into a column `prompt`",
        ));
    }
    let side = |name: &str| transcript::turns(&columns.text(name)?, name);
    let (turns, replies) =
        answers::paired((side("chosen")?, side("rejected")?), score::of(columns)?)?;
    Ok(Dialogue {
        id: columns.id()?,
        source: columns.source()?,
        turns,
        replies,
        ..Dialogue::default()
    })
}
