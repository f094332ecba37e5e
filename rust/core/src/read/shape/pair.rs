//! ultrafeedback_binarized and its many kin: `chosen` and `rejected` message lists that differ in
//! the last message. The messages before it are in both lists, or in a list of their own, `prompt`.

use serde::Deserialize;
use serde_json::Value;

use super::answers;
use super::columns::Columns;
use super::inputs::{self, Inputs};
use super::prompt::{Prompt, prompt};
use super::score::{self, Scores};
use super::unread::Unread;
use super::unsupported::{flag_of_last, refused};
use super::{Cursor, Id, Kind, Level, Message, Wanted, fields, not_of_shape, object, once, turns};
use crate::dialogue::{Dialogue, Pair, Replies, Role, Turn};
use crate::stage::Reason;

const WANTED: Wanted = Wanted {
    kind: Kind::WithInputs,
    lists: &[("prompt", Level::Turn), ("chosen", Level::Turn), ("rejected", Level::Turn)],
    is_read: |name, _| match name {
        "id" | "prompt_id" | "source" | "prompt" | "chosen" | "rejected" => true,
        _ => inputs::COLUMNS.contains(&name) || score::column(name).is_some(),
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
    chosen: Vec<Message>,
    #[serde(deserialize_with = "object::list")]
    rejected: Vec<Message>,
    #[serde(skip)]
    scores: Option<Scores>,
    #[serde(default, deserialize_with = "inputs::tools")]
    tools: Option<Value>,
    #[serde(default, deserialize_with = "inputs::args")]
    chat_template_kwargs: Option<Value>,
}

impl<'row> Row<'row> {
    fn quick(cursor: &mut Cursor<'row>, unread: &mut Unread) -> Option<Row<'row>> {
        let (mut id, mut prompt_id, mut source, mut prompt) = (None, None, None, None);
        let (mut chosen, mut rejected, mut scores) = (None, None, score::Found::default());
        let mut inputs = Inputs::default();
        cursor.object(|cursor, key| match key {
            "id" => once(&mut id, cursor.maybe(Id::quick)),
            "prompt_id" => once(&mut prompt_id, cursor.maybe(Id::quick)),
            "source" => once(&mut source, cursor.maybe(Cursor::text)),
            "prompt" => once(&mut prompt, Prompt::quick(cursor)),
            "chosen" => once(&mut chosen, cursor.list(Message::quick)),
            "rejected" => once(&mut rejected, cursor.list(Message::quick)),
            "tools" | "chat_template_kwargs" => inputs.quick(cursor, key),
            _ => match score::column(key) {
                Some((index, side)) => once(&mut scores[index][side], score::quick(cursor)),
                None => unread.pass(cursor, key),
            },
        })?;
        let Inputs([tools, chat_template_kwargs]) = inputs;
        Some(Row {
            id: id.flatten(),
            prompt_id: prompt_id.flatten(),
            source: source.flatten(),
            prompt: prompt.unwrap_or_default(),
            chosen: chosen?,
            rejected: rejected?,
            scores: Some(score::first(scores)),
            tools,
            chat_template_kwargs,
        })
    }
}

pub(super) fn parse(json: &[u8], unread: &mut Unread) -> Result<Dialogue, Reason> {
    let row: Row = fields(json, &WANTED, unread, Row::quick)?;
    let [score_chosen, score_rejected] = match row.scores {
        Some(scores) => scores,
        None => score::of(&Columns::of(json)?)?,
    };
    let (context, chosen) = split(turns(row.chosen)?, json, "chosen")?;
    let (context_of_rejected, rejected) = split(turns(row.rejected)?, json, "rejected")?;
    if context != context_of_rejected {
        return Err(answers::differ_early());
    }
    let mut context = whole_context(row.prompt, context)?;
    context.shrink_to_fit();
    let pair = Pair { chosen, rejected, score_chosen, score_rejected };
    let id = row.id.or(row.prompt_id).map(String::from);
    Ok(Dialogue {
        id,
        source: row.source,
        turns: context,
        replies: Replies::Pair(pair),
        inputs: Inputs([row.tools, row.chat_template_kwargs]).into_given(),
    })
}

/// The messages before the answers, whether they are in the lists of these or in `prompt`.
fn whole_context(prompt: Prompt<'_>, context: Vec<Turn>) -> Result<Vec<Turn>, Reason> {
    match prompt {
        Prompt::Nothing => Ok(context),
        Prompt::Malformed(error) => Err(not_of_shape(error)),
        Prompt::Messages(messages) => {
            let prompt = turns(messages)?;
            if context.is_empty() {
                Ok(prompt)
            } else if context.starts_with(&prompt) {
                Ok(context)
            } else {
                Err(refused("prompt", "`chosen` does not begin with its messages; write them once"))
            }
        }
        Prompt::Text(_) | Prompt::Other if !context.iter().any(is_of_user) => {
            Err(refused("prompt", "no user message is in `chosen`; write the prompt as messages"))
        }
        Prompt::Text(text) if context.iter().any(|turn| says(turn, &text)) => Ok(context),
        Prompt::Text(_) | Prompt::Other => Err(refused(
            "prompt",
            "no user message of `chosen` says the same; write the prompt as messages, or remove it",
        )),
    }
}

fn is_of_user(turn: &Turn) -> bool {
    turn.role == Role::User
}

/// Whether a turn is the user's and has that text, white space around it aside.
fn says(turn: &Turn, text: &str) -> bool {
    is_of_user(turn) && turn.text.trim() == text.trim()
}

/// The context and the answer that follows it, which must be trained and have nothing but text.
fn split(turns: Vec<Turn>, row: &[u8], field: &str) -> Result<(Vec<Turn>, String), Reason> {
    let last = turns.last().filter(|last| last.role == Role::Assistant);
    if last.is_some_and(|last| !last.is_trained()) {
        let key = flag_of_last(row, field).unwrap_or_default();
        let advice = "the last message of a pair is always trained; remove the row or the flag";
        return Err(refused(&format!("{field}[{}].{key}", turns.len() - 1), advice));
    }
    answers::split(turns, field)
}
