//! Open Assistant's trees: `{"prompt": {"text", "role", "replies": [{"text", "rank", …}, …]}}`.
//!
//! A dialogue follows the reply of the best rank at each message, of the first where none is ranked.
//! Pairs are made of the ranked replies to the first message, with minus the rank as their score.

use super::columns::Columns;
use super::role_words::RoleWords;
use super::{MESSAGES_MAX, check_count, not_of_shape};
use crate::dialogue::{Dialogue, Replies, Reply, Role, Turn};
use crate::stage::Reason;

pub(super) fn dialogues(columns: &Columns<'_>, words: &mut RoleWords) -> Result<Dialogue, Reason> {
    columns.check(&[], &[])?;
    let mut turns = Vec::new();
    let mut message = Some(columns.object("prompt")?);
    while let Some(here) = message {
        turns.push(turn(&here, words)?);
        check_count(turns.len())?;
        message = best(replies(&here)?)?;
    }
    Ok(Dialogue {
        id: id(columns)?,
        source: columns.source()?,
        turns,
        replies: Replies::Inline,
        ..Dialogue::default()
    })
}

pub(super) fn ranked(columns: &Columns<'_>, words: &mut RoleWords) -> Result<Dialogue, Reason> {
    columns.check(&[], &[])?;
    let prompt = columns.object("prompt")?;
    let answers = replies(&prompt)?;
    let answers = answers.iter().map(|answer| {
        let text = turn(answer, words)?.text;
        let overall = answer.maybe_number("rank")?.map(|rank| -rank);
        Ok(Reply { text, overall, ..Reply::default() })
    });
    let replies = Replies::Scored(answers.collect::<Result<Vec<_>, Reason>>()?);
    let turns = vec![turn(&prompt, words)?];
    Ok(Dialogue {
        id: id(columns)?,
        source: columns.source()?,
        turns,
        replies,
        ..Dialogue::default()
    })
}

fn id(columns: &Columns<'_>) -> Result<Option<String>, Reason> {
    columns.id()?.map_or_else(|| columns.maybe_text("message_tree_id"), |id| Ok(Some(id)))
}

fn turn(message: &Columns<'_>, words: &mut RoleWords) -> Result<Turn, Reason> {
    let word = message.text("role")?;
    let role = if word == "prompter" { Role::User } else { Role::named(word.clone()) };
    words.note(&word, role.name());
    Ok(Turn::new(role, message.text("text")?))
}

/// The replies to a message, without those that were deleted.
fn replies<'row>(message: &Columns<'row>) -> Result<Vec<Columns<'row>>, Reason> {
    if message.said("replies")?.is_none() {
        return Ok(Vec::new());
    }
    let replies = message.objects("replies")?;
    if replies.len() > MESSAGES_MAX {
        return Err(not_of_shape(format!("`replies` has more than {MESSAGES_MAX} elements")));
    }
    let mut kept = Vec::new();
    for reply in replies {
        if reply.get("deleted")? != Some("true") {
            kept.push(reply);
        }
    }
    Ok(kept)
}

/// The reply of the lowest rank, the first one where several have it.
fn best(replies: Vec<Columns<'_>>) -> Result<Option<Columns<'_>>, Reason> {
    let mut best = None;
    for reply in replies {
        let rank = reply.maybe_number("rank")?.unwrap_or(f64::INFINITY);
        if best.as_ref().is_none_or(|(lowest, _)| rank < *lowest) {
            best = Some((rank, reply));
        }
    }
    Ok(best.map(|(_, reply)| reply))
}
