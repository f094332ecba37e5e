//! Nectar: a `prompt` as an HH transcript, and `answers` with ranks. The score of an answer is its rank
//! with a minus sign.

use super::columns::Columns;
use super::{Level, List, check_count, flat, transcript};
use crate::dialogue::{Dialogue, Replies, Reply, Role, Turn};
use crate::stage::Reason;

const LISTS: [List; 1] = [("answers", Level::Answer)];

pub(super) fn parse(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    columns.check(&LISTS, &flat::USED)?;
    let answers = columns.objects("answers")?;
    check_count(answers.len())?;
    let replies = answers.iter().map(reply).collect::<Result<Vec<_>, _>>()?;
    let prompt = columns.text("prompt")?;
    let before = flat::before(columns)?;
    let turns = before.then(if transcript::is_one(&prompt) {
        transcript::prompt(&prompt, "prompt")?
    } else {
        vec![Turn::new(Role::User, prompt)]
    })?;
    let (id, source) = (columns.id()?, columns.source()?);
    Ok(Dialogue { id, source, turns, replies: Replies::Scored(replies), ..Dialogue::default() })
}

fn reply(answer: &Columns<'_>) -> Result<Reply, Reason> {
    Ok(Reply {
        text: answer.text("answer")?,
        model: answer.maybe_text("model")?,
        overall: answer.maybe_number("rank")?.map(|rank| -rank),
        ..Reply::default()
    })
}
