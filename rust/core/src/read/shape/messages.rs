//! ultrachat_200k and its many kin: `{"messages": [{"role", "content"}, …]}`, with or without
//! `prompt` and `prompt_id`. A `prompt` of messages must be the first of `messages`; one of text is
//! not read.

use serde::Deserialize;
use serde_json::Value;

use super::inputs::{self, Inputs};
use super::prompt::{Prompt, prompt};
use super::unread::Unread;
use super::unsupported::refused;
use super::{Cursor, Id, Kind, Level, Message, Wanted, fields, object, once, turns};
use crate::dialogue::{Dialogue, Turn};
use crate::stage::Reason;

const WANTED: Wanted = Wanted {
    kind: Kind::WithInputs,
    // The dialogue comes first.
    lists: &[("messages", Level::Turn), ("prompt", Level::Turn)],
    is_read: |name, value| match name {
        "prompt" => !value.starts_with('"'),
        "id" | "prompt_id" | "source" | "messages" => true,
        _ => inputs::COLUMNS.contains(&name),
    },
};

#[derive(Deserialize)]
struct Row<'row> {
    id: Option<Id>,
    prompt_id: Option<Id>,
    source: Option<String>,
    #[serde(borrow, default, deserialize_with = "prompt")]
    prompt: Prompt<'row>,
    #[serde(deserialize_with = "object::list")]
    messages: Vec<Message>,
    #[serde(default, deserialize_with = "inputs::tools")]
    tools: Option<Value>,
    #[serde(default, deserialize_with = "inputs::args")]
    chat_template_kwargs: Option<Value>,
}

impl<'row> Row<'row> {
    fn quick(cursor: &mut Cursor<'row>, unread: &mut Unread) -> Option<Row<'row>> {
        let (mut id, mut prompt_id, mut source, mut prompt, mut messages) =
            (None, None, None, None, None);
        let mut inputs = Inputs::default();
        cursor.object(|cursor, key| match key {
            "id" => once(&mut id, cursor.maybe(Id::quick)),
            "prompt_id" => once(&mut prompt_id, cursor.maybe(Id::quick)),
            "source" => once(&mut source, cursor.maybe(Cursor::text)),
            "prompt" if cursor.peek() == Some(b'"') => {
                once(&mut prompt, Some(Prompt::Nothing))?;
                unread.pass(cursor, key)
            }
            "prompt" => once(&mut prompt, Prompt::quick(cursor)),
            "messages" => once(&mut messages, cursor.list(Message::quick)),
            "tools" | "chat_template_kwargs" => inputs.quick(cursor, key),
            _ => unread.pass(cursor, key),
        })?;
        let Inputs([tools, chat_template_kwargs]) = inputs;
        Some(Row {
            id: id.flatten(),
            prompt_id: prompt_id.flatten(),
            source: source.flatten(),
            prompt: prompt.unwrap_or_default(),
            messages: messages?,
            tools,
            chat_template_kwargs,
        })
    }
}

pub(super) fn parse(row: &[u8], unread: &mut Unread) -> Result<Dialogue, Reason> {
    let row: Row = fields(row, &WANTED, unread, Row::quick)?;
    let id = row.id.or(row.prompt_id).map(String::from);
    let turns = turns(row.messages)?;
    check_prompt(row.prompt, &turns)?;
    let inputs = Inputs([row.tools, row.chat_template_kwargs]).into_given();
    Ok(Dialogue { id, source: row.source, turns, inputs, ..Dialogue::default() })
}

/// Refuses a `prompt` of messages that the dialogue does not begin with: they would be lost.
fn check_prompt(prompt: Prompt<'_>, dialogue: &[Turn]) -> Result<(), Reason> {
    let why = match prompt {
        Prompt::Nothing | Prompt::Text(_) | Prompt::Other => return Ok(()),
        Prompt::Malformed(_) => "it is a list of something other than messages; remove it",
        Prompt::Messages(messages) => {
            if dialogue.starts_with(&turns(messages)?) {
                return Ok(());
            }
            "`messages` does not begin with its messages; write them once"
        }
    };
    Err(refused("prompt", why))
}
