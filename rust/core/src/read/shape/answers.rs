//! Two dialogues that are compared: what they have in common, and the answers in which they differ.

use super::not_of_shape;
use super::unsupported::refused;
use crate::dialogue::{Pair, Replies, Role, Turn};
use crate::stage::{Code, Reason};

/// The context and the answer that follows it.
pub(super) fn split(mut turns: Vec<Turn>, field: &str) -> Result<(Vec<Turn>, String), Reason> {
    let index = turns.len().saturating_sub(1);
    match turns.pop() {
        Some(Turn { role: Role::Assistant, extras: Some(extras), .. })
            if extras.says_more() || extras.trained == Some(false) =>
        {
            let key = extras.members.keys().next().map_or("content", String::as_str);
            Err(refused(
                &format!("{field}[{index}].{key}"),
                "the last message of a pair can only have text; write it into `content`",
            ))
        }
        Some(Turn { role: Role::Assistant, text, .. }) => Ok((turns, text)),
        Some(turn) => Err(not_of_shape(format!(
            "`{field}` ends with a message of role `{}`, not `assistant`",
            turn.role.name()
        ))),
        None => Err(not_of_shape(format!("`{field}` has no messages"))),
    }
}

/// The reason of two dialogues with more than one answer each after what they have in common.
pub(super) fn differ_early() -> Reason {
    Reason::found(
        Code::MultiMessageCompletion,
        "`chosen` and `rejected` differ before their last message",
    )
}

/// The pair of two dialogues that differ in their last messages.
pub(super) fn paired(
    (chosen, rejected): (Vec<Turn>, Vec<Turn>),
    [score_chosen, score_rejected]: [Option<f64>; 2],
) -> Result<(Vec<Turn>, Replies), Reason> {
    let (context, chosen) = split(chosen, "chosen")?;
    let (other, rejected) = split(rejected, "rejected")?;
    if context != other {
        return Err(differ_early());
    }
    Ok((context, Replies::Pair(Pair { chosen, rejected, score_chosen, score_rejected })))
}
