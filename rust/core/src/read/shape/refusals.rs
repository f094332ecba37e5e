//! Rows that are known but cannot be read: each is refused with a way out.

use super::columns::Columns;
use super::unsupported::refused;
use crate::dialogue::Dialogue;
use crate::stage::Reason;

/// Plain text, `{"text": …}`: nothing says what is asked and what is answered.
pub(super) fn text(_: &Columns<'_>) -> Result<Dialogue, Reason> {
    Err(refused(
        "text",
        "plain text does not say what to ask and what to answer; write `messages`, or `prompt` and \
         `completion`",
    ))
}

/// Single messages of Open Assistant: each row is one message of a tree.
pub(super) fn oasst_messages(_: &Columns<'_>) -> Result<Dialogue, Reason> {
    Err(refused(
        "parent_id",
        "the row is a single message of a dialogue; use the files with whole trees (`.trees`)",
    ))
}

/// KTO: `{"prompt": …, "completion": …, "label": true}`, one completion that is good or bad.
pub(super) fn kto(_: &Columns<'_>) -> Result<Dialogue, Reason> {
    Err(refused(
        "label",
        "rows that are labelled as good or bad (KTO) are not pairs; join a good and a bad completion \
         of each prompt as `chosen` and `rejected`",
    ))
}

/// HelpSteer: one rated answer in a row.
pub(super) fn rated(_: &Columns<'_>) -> Result<Dialogue, Reason> {
    Err(refused(
        "response",
        "the row has one rated answer, so there is nothing to compare; join the answers of each \
         prompt, or use the preference file of the dataset",
    ))
}
