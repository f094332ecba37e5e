//! Drops dialogues with too few or too many turns or characters.

use serde::Deserialize;

use crate::dialogue::Dialogue;
use crate::stage::{Code, Notes, Reason, Stage};

/// Bounds, each optional and inclusive. Characters are Unicode scalar values, summed over all turns.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Length {
    turns_min: Option<usize>,
    turns_max: Option<usize>,
    chars_min: Option<usize>,
    chars_max: Option<usize>,
}

pub(super) fn build(table: toml::Table) -> Result<Box<dyn Stage>, toml::de::Error> {
    Ok(Box::new(table.try_into::<Length>()?))
}

impl Stage for Length {
    fn visit(&self, dialogue: &mut Dialogue, _: &mut Notes) -> Result<(), Reason> {
        let turns = dialogue.turns.len();
        let chars: usize = dialogue.turns.iter().map(|turn| turn.text.chars().count()).sum();
        let below = |value: usize, bound: Option<usize>| bound.is_some_and(|bound| value < bound);
        let above = |value: usize, bound: Option<usize>| bound.is_some_and(|bound| value > bound);
        let (code, seen) = if below(turns, self.turns_min) {
            (Code::TooFewTurns, turns)
        } else if above(turns, self.turns_max) {
            (Code::TooManyTurns, turns)
        } else if below(chars, self.chars_min) {
            (Code::TooShort, chars)
        } else if above(chars, self.chars_max) {
            (Code::TooLong, chars)
        } else {
            return Ok(());
        };
        Err(Reason::found(code, seen.to_string()))
    }
}
