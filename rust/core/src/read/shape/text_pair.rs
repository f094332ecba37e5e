//! Pairs of texts: a prompt, `chosen` and `rejected`, as TRL and Orca-DPO have them. The prompt is
//! called `prompt`, `question` or `instruction`, or is an HH transcript; `system` and `history` come
//! before it.

use super::columns::Columns;
use super::unsupported::refused;
use super::{Level, List, flat, hh, prompt_completion, score, transcript};
use crate::dialogue::{Dialogue, Pair, Replies, Role, Turn};
use crate::stage::Reason;

const PROMPTS: [&str; 3] = ["prompt", "question", "instruction"];
const CHOSEN: [&str; 2] = ["chosen", "chosen_response"];
const REJECTED: [&str; 2] = ["rejected", "rejected_response"];
const LISTS: [List; 1] = [("prompt", Level::Message)];

pub(super) fn parse(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    columns.check(&LISTS, &flat::USED)?;
    columns.check_flat(&flat::USED)?;
    let turns = flat::before(columns)?.then(asked(columns)?)?;
    if columns.maybe_text("chosen")?.is_some_and(|text| transcript::is_one(&text)) {
        return of_transcripts(columns, &turns);
    }
    let [score_chosen, score_rejected] = score::of(columns)?;
    let side =
        |names: &[&'static str; 2]| columns.text(columns.first_of(names)?.unwrap_or(names[0]));
    let pair =
        Pair { chosen: side(&CHOSEN)?, rejected: side(&REJECTED)?, score_chosen, score_rejected };
    let (id, source) = (columns.id()?, columns.source()?);
    Ok(Dialogue { id, source, turns, replies: Replies::Pair(pair), ..Dialogue::default() })
}

/// The dialogue of two whole transcripts that begin with the prompt.
fn of_transcripts(columns: &Columns<'_>, asked: &[Turn]) -> Result<Dialogue, Reason> {
    let dialogue = hh::dialogue(columns)?;
    if dialogue.turns != asked {
        return Err(refused("prompt", "`chosen` is a transcript that does not begin with it"));
    }
    Ok(dialogue)
}

/// What is asked. An `input` belongs to it, as in Alpaca, or is all of it.
fn asked(columns: &Columns<'_>) -> Result<Vec<Turn>, Reason> {
    let Some(name) = columns.first_of(&PROMPTS)? else {
        return Ok(vec![Turn::new(Role::User, columns.text("input")?)]);
    };
    check_alone(columns, name)?;
    if columns.get(name)?.is_some_and(|value| value.starts_with('[')) {
        return prompt_completion::said(columns, name, Role::User);
    }
    let text = columns.text(name)?;
    if transcript::is_one(&text) {
        return transcript::prompt(&text, name);
    }
    Ok(vec![Turn::new(Role::User, flat::question(columns, name, &["input"])?)])
}

/// Refuses a second column that would be the prompt, unless it says the same.
fn check_alone(columns: &Columns<'_>, name: &str) -> Result<(), Reason> {
    for other in PROMPTS.iter().filter(|other| **other != name) {
        if columns.said(other)?.is_some() && columns.get(other)? != columns.get(name)? {
            return Err(refused(
                other,
                &format!("`{name}` is there too and says something else; remove one of them"),
            ));
        }
    }
    Ok(())
}
