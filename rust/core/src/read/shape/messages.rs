//! ultrachat_200k and its many kin: `{"messages": [{"role", "content"}, …]}`, with or without
//! `prompt` and `prompt_id`. A `prompt` of messages must be the first of `messages`; one of text is
//! not read.

use serde::Deserialize;
use serde_json::Value;

use super::inputs::{self, Inputs};
use super::prompt::{Prompt, prompt};
use super::unsupported::refused;
use super::{Cursor, Id, Level, List, Message, fields_with_inputs, object, once, turns};
use crate::dialogue::{Dialogue, Turn};
use crate::stage::Reason;

/// Where the messages of a row are; the dialogue comes first.
const LISTS: [List; 2] = [("messages", Level::Turn), ("prompt", Level::Turn)];

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
    fn quick(cursor: &mut Cursor<'row>) -> Option<Row<'row>> {
        let (mut id, mut prompt_id, mut source, mut prompt, mut messages) =
            (None, None, None, None, None);
        let mut inputs = Inputs::default();
        cursor.object(|cursor, key| match key {
            "id" => once(&mut id, cursor.maybe(Id::quick)),
            "prompt_id" => once(&mut prompt_id, cursor.maybe(Id::quick)),
            "source" => once(&mut source, cursor.maybe(Cursor::text)),
            "prompt" => once(&mut prompt, Prompt::quick_unless_text(cursor)),
            "messages" => once(&mut messages, cursor.list(Message::quick)),
            "tools" | "chat_template_kwargs" => inputs.quick(cursor, key),
            _ => cursor.ignore(key, Level::Row),
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

pub(super) fn parse(row: &[u8]) -> Result<Dialogue, Reason> {
    let row: Row = fields_with_inputs(row, &LISTS, Row::quick)?;
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
