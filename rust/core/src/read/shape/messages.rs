//! ultrachat_200k and its many kin: `{"messages": [{"role", "content"}, …]}`, with or without
//! `prompt` and `prompt_id`.

use serde::Deserialize;

use super::{Cursor, Id, Level, Message, fields, object, once, turns};
use crate::dialogue::{Dialogue, Replies};
use crate::stage::Reason;

#[derive(Deserialize)]
struct Row {
    id: Option<Id>,
    prompt_id: Option<Id>,
    source: Option<String>,
    #[serde(deserialize_with = "object::list")]
    messages: Vec<Message>,
}

impl Row {
    fn quick(cursor: &mut Cursor) -> Option<Row> {
        let (mut id, mut prompt_id, mut source, mut messages) = (None, None, None, None);
        cursor.object(|cursor, key| match key {
            "id" => once(&mut id, cursor.maybe(Id::quick)),
            "prompt_id" => once(&mut prompt_id, cursor.maybe(Id::quick)),
            "source" => once(&mut source, cursor.maybe(Cursor::text)),
            "messages" => once(&mut messages, cursor.list(Message::quick)),
            _ => cursor.ignore(key, Level::Row),
        })?;
        Some(Row {
            id: id.flatten(),
            prompt_id: prompt_id.flatten(),
            source: source.flatten(),
            messages: messages?,
        })
    }
}

pub(super) fn parse(row: &[u8]) -> Result<Dialogue, Reason> {
    let row: Row = fields(row, &[("messages", Level::Message)], Row::quick)?;
    let id = row.id.or(row.prompt_id).map(String::from);
    Ok(Dialogue { id, source: row.source, turns: turns(row.messages)?, replies: Replies::Inline })
}
