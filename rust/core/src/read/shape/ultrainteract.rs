//! UltraInteract's pairs: the `trajectory` so far, a list with `from` and `value`, and two texts,
//! `chosen` and `rejected`.

use super::columns::Columns;
use super::role_words::RoleWords;
use super::{Level, List, score, sharegpt};
use crate::dialogue::{Dialogue, Pair, Replies};
use crate::stage::Reason;

const LISTS: [List; 1] = [("trajectory", Level::Message)];

pub(super) fn parse(columns: &Columns<'_>, words: &mut RoleWords) -> Result<Dialogue, Reason> {
    columns.check(&LISTS, &[])?;
    columns.check_flat(&[])?;
    let turns = sharegpt::turns(columns, "trajectory", words)?;
    let [score_chosen, score_rejected] = score::of(columns)?;
    let pair = Pair {
        chosen: columns.text("chosen")?,
        rejected: columns.text("rejected")?,
        score_chosen,
        score_rejected,
    };
    let (id, source) = (columns.id()?, columns.source()?);
    Ok(Dialogue { id, source, turns, replies: Replies::Pair(pair), ..Dialogue::default() })
}
