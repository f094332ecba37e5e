//! ultrachat_200k and its many kin: `{"messages": [{"role", "content"}, …]}`, with or without `prompt` and `prompt_id`.

use serde::Deserialize;

use super::{Id, Malformed, Message, fields, turns};
use crate::dialogue::{Dialogue, Replies};

#[derive(Deserialize)]
struct Row {
    id: Option<Id>,
    prompt_id: Option<Id>,
    source: Option<String>,
    messages: Vec<Message>,
}

pub(super) fn parse(row: &[u8]) -> Result<Dialogue, Malformed> {
    let row: Row = fields(row)?;
    let id = row.id.or(row.prompt_id).map(String::from);
    Ok(Dialogue { id, source: row.source, turns: turns(row.messages)?, replies: Replies::Inline })
}
