//! Prompts with completions, as TRL has them: `{"prompt": …, "completion": …}`, each a text or a list
//! of messages. `response` is another name for the completion.
//!
//! A text prompt is what the user says, and a text completion what the assistant answers.

use super::columns::Columns;
use super::unsupported::refused;
use super::{Level, List, flat};
use crate::dialogue::{Dialogue, Replies, Role, Turn};
use crate::stage::Reason;

const ANSWERS: [&str; 2] = ["completion", "response"];
const LISTS: [List; 3] =
    [("prompt", Level::Message), ("completion", Level::Message), ("response", Level::Message)];

pub(super) fn parse(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    check_label(columns)?;
    columns.check(&LISTS, &flat::USED)?;
    let answer = columns.first_of(&ANSWERS)?.unwrap_or(ANSWERS[0]);
    let before = flat::before(columns)?;
    let mut turns = before.then(said(columns, "prompt", Role::User)?)?;
    turns.extend(said(columns, answer, Role::Assistant)?);
    columns.check_flat(&flat::USED)?;
    Ok(Dialogue {
        id: columns.id()?,
        source: columns.source()?,
        turns,
        replies: Replies::Inline,
        ..Dialogue::default()
    })
}

/// The messages of a list, or the text of a role.
pub(super) fn said(columns: &Columns<'_>, name: &str, role: Role) -> Result<Vec<Turn>, Reason> {
    match columns.get(name)? {
        Some(value) if value.starts_with('[') => columns.messages(name),
        _ => Ok(vec![Turn::new(role, columns.text(name)?)]),
    }
}

/// Refuses a row with KTO's label: a completion that is labelled as bad must not be trained.
fn check_label(columns: &Columns<'_>) -> Result<(), Reason> {
    if columns.get("label")?.is_some_and(|label| matches!(label, "true" | "false" | "1" | "0")) {
        return Err(refused(
            "label",
            "rows that are labelled as good or bad (KTO) are not supported; keep the rows with \
             label true and remove the column",
        ));
    }
    Ok(())
}
