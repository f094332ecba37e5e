//! ultrafeedback_binarized and its many kin: `chosen` and `rejected` message lists that differ in
//! the last message.

use serde::Deserialize;

use super::{Cursor, Id, Message, fields, not_of_shape, object, once, turns};
use crate::dialogue::{Dialogue, Pair, Replies, Role, Turn};
use crate::stage::Reason;

#[derive(Deserialize)]
struct Row {
    id: Option<Id>,
    prompt_id: Option<Id>,
    source: Option<String>,
    #[serde(deserialize_with = "object::list")]
    chosen: Vec<Message>,
    #[serde(deserialize_with = "object::list")]
    rejected: Vec<Message>,
    score_chosen: Option<f64>,
    score_rejected: Option<f64>,
}

impl Row {
    fn quick(cursor: &mut Cursor) -> Option<Row> {
        let (mut id, mut prompt_id, mut source) = (None, None, None);
        let (mut chosen, mut rejected, mut score_chosen, mut score_rejected) =
            (None, None, None, None);
        cursor.object(|cursor, key| match key {
            "id" => once(&mut id, cursor.maybe(Id::quick)),
            "prompt_id" => once(&mut prompt_id, cursor.maybe(Id::quick)),
            "source" => once(&mut source, cursor.maybe(Cursor::text)),
            "chosen" => once(&mut chosen, cursor.list(Message::quick)),
            "rejected" => once(&mut rejected, cursor.list(Message::quick)),
            "score_chosen" => once(&mut score_chosen, cursor.maybe(Cursor::float)),
            "score_rejected" => once(&mut score_rejected, cursor.maybe(Cursor::float)),
            _ => cursor.skip(),
        })?;
        Some(Row {
            id: id.flatten(),
            prompt_id: prompt_id.flatten(),
            source: source.flatten(),
            chosen: chosen?,
            rejected: rejected?,
            score_chosen: score_chosen.flatten(),
            score_rejected: score_rejected.flatten(),
        })
    }
}

pub(super) fn parse(row: &[u8]) -> Result<Dialogue, Reason> {
    let row: Row = fields(row, Row::quick)?;
    let (mut context, chosen) = split(turns(row.chosen)?, "chosen")?;
    let (context_of_rejected, rejected) = split(turns(row.rejected)?, "rejected")?;
    if context != context_of_rejected {
        return Err(not_of_shape("`chosen` and `rejected` differ before their last message"));
    }
    context.shrink_to_fit();
    let pair = Pair {
        chosen,
        rejected,
        score_chosen: row.score_chosen,
        score_rejected: row.score_rejected,
    };
    let id = row.id.or(row.prompt_id).map(String::from);
    Ok(Dialogue { id, source: row.source, turns: context, replies: Replies::Pair(pair) })
}

/// The context and the answer that follows it.
fn split(mut turns: Vec<Turn>, field: &str) -> Result<(Vec<Turn>, String), Reason> {
    match turns.pop() {
        Some(Turn { role: Role::Assistant, text }) => Ok((turns, text)),
        Some(turn) => Err(not_of_shape(format!(
            "`{field}` ends with a message of role `{}`, not `assistant`",
            turn.role.name()
        ))),
        None => Err(not_of_shape(format!("`{field}` has no messages"))),
    }
}
