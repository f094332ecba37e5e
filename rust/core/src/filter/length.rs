//! Drops dialogues with too few or too many messages or characters.

use serde::Deserialize;

use crate::dialogue::Dialogue;
use crate::stage::{Code, Notes, Reason, Stage};

/// Drops dialogues with too few or too many messages or characters. Bounds are inclusive.
///
/// Characters are Unicode scalar values, summed over all messages. Each completion that is compared
/// must keep the bounds as the last message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Length {
    /// Minimum number of messages.
    turns_min: Option<usize>,
    /// Maximum number of messages.
    turns_max: Option<usize>,
    /// Minimum number of characters of all messages.
    chars_min: Option<usize>,
    /// Maximum number of characters of all messages.
    chars_max: Option<usize>,
}

pub(super) fn build(table: toml::Table) -> Result<Box<dyn Stage>, toml::de::Error> {
    Ok(Box::new(table.try_into::<Length>()?))
}

impl Stage for Length {
    fn visit(&self, dialogue: &mut Dialogue, _: &mut Notes) -> Result<(), Reason> {
        let chars: usize = dialogue.turns.iter().map(|turn| turn.text.chars().count()).sum();
        let answers = dialogue.answers();
        if answers.is_empty() {
            return self.judge(dialogue.turns.len(), chars);
        }
        let turns = dialogue.turns.len() + 1;
        answers.iter().try_for_each(|answer| self.judge(turns, chars + answer.chars().count()))
    }
}

impl Length {
    fn judge(&self, turns: usize, chars: usize) -> Result<(), Reason> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::{Pair, Replies, Reply, Role, Turn};

    fn judged(bounds: &str, turns: &[&str], replies: Replies) -> Option<(&'static str, String)> {
        let stage = build(bounds.parse().expect("valid TOML")).expect("valid bounds");
        let turn = |text: &&str| Turn::new(Role::User, *text);
        let turns = turns.iter().map(turn).collect();
        let mut dialogue = Dialogue { turns, replies, ..Dialogue::default() };
        let judged = stage.visit(&mut dialogue, &mut Notes::default());
        judged.err().map(|reason| (reason.code.word(), reason.detail.unwrap_or_default()))
    }

    fn scored(texts: &[&str]) -> Replies {
        let reply = |text: &&str| Reply { text: (*text).to_owned(), ..Reply::default() };
        Replies::Scored(texts.iter().map(reply).collect())
    }

    #[test]
    fn each_bound_is_inclusive_and_has_its_name() {
        let said = ["ä", "bc"];
        let bounds = "turns_min = 2\nturns_max = 2\nchars_min = 3\nchars_max = 3";
        assert_eq!(judged(bounds, &said, Replies::Inline), None);
        for (bound, code, seen) in [
            ("turns_min = 3", "too_few_turns", "2"),
            ("turns_max = 1", "too_many_turns", "2"),
            ("chars_min = 4", "too_short", "3"),
            ("chars_max = 2", "too_long", "3"),
        ] {
            assert_eq!(judged(bound, &said, Replies::Inline), Some((code, seen.to_owned())));
        }
    }

    #[test]
    fn every_answer_counts_as_the_turn_that_ends_the_dialogue() {
        let bounds = "turns_min = 2\nturns_max = 2\nchars_min = 4\nchars_max = 6";
        let pair = |chosen: &str, rejected: &str| {
            let (chosen, rejected) = (chosen.to_owned(), rejected.to_owned());
            Replies::Pair(Pair { chosen, rejected, score_chosen: None, score_rejected: None })
        };
        for (replies, code) in [
            (scored(&["abc", "é", "ab"]), None),
            (pair("abc", "a"), None),
            (scored(&["abc", "a", ""]), Some(("too_short", "3"))),
            (pair("abc", "abcd"), Some(("too_long", "7"))),
            (pair("abcd", ""), Some(("too_long", "7"))),
        ] {
            let wanted = code.map(|(code, seen)| (code, seen.to_owned()));
            assert_eq!(judged(bounds, &["who"], replies), wanted);
        }
        let few = judged("turns_min = 3", &["who"], scored(&["a", "b"]));
        assert_eq!(few, Some(("too_few_turns", "2".to_owned())));
        assert_eq!(judged("turns_max = 1", &["who"], scored(&[])), None, "nobody answers");
    }
}
