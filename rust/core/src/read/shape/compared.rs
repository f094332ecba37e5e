//! Two answers and a column that says which is better: HelpSteer 2 and 3, SHP and PKU-SafeRLHF.

use super::columns::Columns;
use super::unsupported::refused;
use super::{Level, List, flat, prompt_completion};
use crate::dialogue::{Dialogue, Pair, Replies, Role, Turn};
use crate::stage::{Code, Reason};

/// A marker of HelpSteer between the messages of a prompt.
const HELPSTEER_MARKER: &str = "<extra_id_1>";

/// Two answers, and their scores.
struct Sides([(String, Option<f64>); 2]);

/// HelpSteer: `preference_strength`, or `overall_preference`, below 0 prefers the first answer. The
/// chosen one gets its strength as its score, the other one 0.
pub(super) fn helpsteer(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    const LISTS: [List; 2] = [("context", Level::Message), ("prompt", Level::Message)];
    const STRENGTHS: [&str; 2] = ["preference_strength", "overall_preference"];
    let strength = columns.number(columns.first_of(&STRENGTHS)?.unwrap_or(STRENGTHS[0]))?;
    let prompt = columns.first_of(&["prompt", "context"])?.unwrap_or("prompt");
    let answer =
        |names: [&'static str; 2]| columns.text(columns.first_of(&names)?.unwrap_or(names[0]));
    let first = answer(["response_1", "response1"])?;
    let second = answer(["response_2", "response2"])?;
    columns.check(&LISTS, &flat::USED)?;
    columns.check_flat(&flat::USED)?;
    let turns = prompt_completion::said(columns, prompt, Role::User)?;
    if turns.iter().any(|turn| turn.text.contains(HELPSTEER_MARKER)) {
        let advice = "its messages are joined by `<extra_id_1>`; write them as a list of messages";
        return Err(refused(prompt, advice));
    }
    let scored = |is_better: bool| Some(if is_better { strength.abs() } else { 0.0 });
    let sides = Sides([(first, scored(strength < 0.0)), (second, scored(strength > 0.0))]);
    let better = match strength {
        strength if strength < 0.0 => 0,
        strength if strength > 0.0 => 1,
        _ => return Err(Reason::found(Code::Tie, "the strength of the preference is 0")),
    };
    dialogue(columns, turns, sides, better)
}

/// SHP: `labels` 1 prefers `human_ref_A`, and 0 `human_ref_B`.
pub(super) fn shp(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    let better = choice(columns, "labels")?;
    let sides = Sides([
        (columns.text("human_ref_A")?, columns.maybe_number("score_A")?),
        (columns.text("human_ref_B")?, columns.maybe_number("score_B")?),
    ]);
    columns.check_flat(&flat::USED)?;
    let turns = vec![Turn::new(Role::User, columns.text("history")?)];
    dialogue(columns, turns, sides, 1 - better)
}

/// PKU-SafeRLHF: `better_response_id` is the number of the better answer.
pub(super) fn pku(columns: &Columns<'_>) -> Result<Dialogue, Reason> {
    let better = choice(columns, "better_response_id")?;
    let sides = Sides([(columns.text("response_0")?, None), (columns.text("response_1")?, None)]);
    columns.check_flat(&flat::USED)?;
    let before = flat::before(columns)?;
    let turns = before.then(vec![Turn::new(Role::User, columns.text("prompt")?)])?;
    dialogue(columns, turns, sides, better)
}

/// A column that is 0 or 1.
fn choice(columns: &Columns<'_>, name: &str) -> Result<usize, Reason> {
    match columns.number(name)? {
        0.0 => Ok(0),
        1.0 => Ok(1),
        _ => Err(columns.wrong(name, "is neither 0 nor 1")),
    }
}

fn dialogue(
    columns: &Columns<'_>,
    turns: Vec<Turn>,
    Sides(mut sides): Sides,
    better: usize,
) -> Result<Dialogue, Reason> {
    sides.rotate_left(better);
    let [(chosen, score_chosen), (rejected, score_rejected)] = sides;
    let pair = Pair { chosen, rejected, score_chosen, score_rejected };
    let (id, source) = (columns.id()?, columns.source()?);
    Ok(Dialogue { id, source, turns, replies: Replies::Pair(pair), ..Dialogue::default() })
}
