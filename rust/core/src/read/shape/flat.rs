//! What rows that are one question and its answer have in common: the parts of the question, a
//! system prompt and earlier exchanges.

use super::columns::Columns;
use super::unsupported::refused;
use super::{check_count, sharegpt};
use crate::dialogue::{Dialogue, Replies, Role, Turn};
use crate::stage::Reason;

/// Stands between the parts of a question.
pub(super) const BETWEEN: &str = "\n\n";

/// Columns that such rows may have besides question and answer.
pub(super) const USED: [&str; 2] = ["system", "system_prompt"];

/// A question and what it is about, joined; a part that is empty is left out. What it is about is
/// the first of these columns that says anything. A row without the question itself is of another
/// shape.
pub(super) fn question(
    columns: &Columns<'_>,
    asked: &str,
    about: &[&str],
) -> Result<String, Reason> {
    let mut said = None;
    for name in about {
        said = columns.maybe_text(name)?.filter(|text| !text.is_empty());
        if said.is_some() {
            break;
        }
    }
    let parts = [Some(columns.text(asked)?), said];
    let said: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    Ok(said.join(BETWEEN))
}

/// The system prompt and the earlier exchanges of a row.
pub(super) struct Before {
    system: Option<String>,
    history: Vec<Turn>,
}

impl Before {
    /// Adds the messages that follow. If they begin with the system prompt as well, it is there once.
    pub(super) fn then(self, messages: Vec<Turn>) -> Result<Vec<Turn>, Reason> {
        sharegpt::with_system(self.system, [self.history, messages].concat())
    }
}

/// Reads the system prompt and the earlier exchanges of a row.
pub(super) fn before(columns: &Columns<'_>) -> Result<Before, Reason> {
    let mut history = Vec::new();
    if columns.said("history")?.is_some() {
        let exchanges = columns.list("history")?;
        check_count(exchanges.len() * 2)?;
        for exchange in exchanges {
            let Ok([asked, answered]) = serde_json::from_str::<[String; 2]>(exchange) else {
                return Err(
                    columns.wrong("history", "has an element that is not [question, answer]")
                );
            };
            history.push(Turn::new(Role::User, asked));
            history.push(Turn::new(Role::Assistant, answered));
        }
    }
    Ok(Before { system: system(columns)?, history })
}

/// The system prompt, under either name.
fn system(columns: &Columns<'_>) -> Result<Option<String>, Reason> {
    let [first, second] = USED.map(|name| columns.maybe_text(name));
    let [first, second] = [first?, second?].map(|text| text.filter(|text| !text.is_empty()));
    match (first, second) {
        (Some(first), Some(second)) if first != second => Err(refused(
            USED[1],
            "`system` is there too and says something else; remove one of them",
        )),
        (first, second) => Ok(first.or(second)),
    }
}

/// A dialogue of one question and its answer.
pub(super) fn dialogue(
    columns: &Columns<'_>,
    question: String,
    answer: &str,
) -> Result<Dialogue, Reason> {
    columns.check_flat(&USED)?;
    let before = before(columns)?;
    let answer = Turn::new(Role::Assistant, columns.text(answer)?);
    let turns = before.then(vec![Turn::new(Role::User, question), answer])?;
    Ok(Dialogue {
        id: columns.id()?,
        source: columns.source()?,
        turns,
        replies: Replies::Inline,
        ..Dialogue::default()
    })
}
