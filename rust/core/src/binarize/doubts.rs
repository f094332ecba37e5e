//! Doubtful pairs, which teach the model nothing or the wrong thing, and the preferences of earlier
//! rows, which a row may contradict.
//!
//! An example:
//!
//! ```
//! # use zephyr_core::binarize::doubts::{Preferences, verdicts};
//! # use zephyr_core::dialogue::{Dialogue, Pair, Role, Turn};
//! let dialogue =
//!     Dialogue { turns: vec![Turn::new(Role::User, "Tea or coffee?")], ..Dialogue::default() };
//! let pair = |chosen: &str, rejected: &str| Pair {
//!     chosen: chosen.to_owned(),
//!     rejected: rejected.to_owned(),
//!     score_chosen: None,
//!     score_rejected: None,
//! };
//! let mut earlier = Preferences::default();
//! // Row 0 prefers tea, and row 1 agrees. Row 2 prefers coffee, so it contradicts row 0.
//! for (row, pair, expected) in [
//!     (0, pair("Tea.", "Coffee."), None),
//!     (1, pair("Tea.", "Coffee."), None),
//!     (2, pair("Coffee.", "Tea."), Some(0)),
//! ] {
//!     let verdict = verdicts(&dialogue, &[pair])[0];
//!     assert_eq!(earlier.contradicted_by(verdict), expected);
//!     earlier.add(row, verdict);
//! }
//! ```

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128;

use crate::dedup::sign_dialogue;
use crate::dialogue::{Dialogue, Pair};
use crate::stage::{Code, Reason};

/// The reason for which a pair is doubtful, as far as the pair itself shows it before it is
/// truncated.
#[must_use]
pub fn of(pair: &Pair) -> Option<Code> {
    if pair.chosen.trim().is_empty() {
        return Some(Code::EmptyChosen);
    }
    let (chosen, rejected) = (pair.score_chosen?, pair.score_rejected?);
    if chosen < rejected {
        Some(Code::RejectedScoresHigher)
    } else {
        (chosen == rejected).then_some(Code::Tie)
    }
}

/// Removes the pairs with a doubt, or the row if it has no other pair. `doubts` has one entry per
/// pair.
pub fn remove<T>(pairs: &mut Vec<T>, doubts: &[Option<Reason>]) -> Result<(), Reason> {
    let mut kept = doubts.iter().map(Option::is_none);
    pairs.retain(|_| kept.next().unwrap_or(true));
    match doubts.iter().flatten().next() {
        Some(reason) if pairs.is_empty() => Err(reason.clone()),
        _ => Ok(()),
    }
}

/// The preference of a pair: a hash of its prompt and both completions, and that of the opposite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    said: u128,
    opposite: u128,
}

/// The verdicts of a row's pairs.
#[must_use]
pub fn verdicts(dialogue: &Dialogue, pairs: &[Pair]) -> Vec<Verdict> {
    let prompt = sign_dialogue(dialogue);
    let key = |first: u128, second: u128| {
        let mut bytes = [0; 3 * size_of::<u128>()];
        for (bytes, hash) in bytes.as_chunks_mut().0.iter_mut().zip([prompt, first, second]) {
            *bytes = hash.to_le_bytes();
        }
        xxh3_128(&bytes)
    };
    let verdict = |pair: &Pair| {
        let chosen = xxh3_128(pair.chosen.as_bytes());
        let rejected = xxh3_128(pair.rejected.as_bytes());
        Verdict { said: key(chosen, rejected), opposite: key(rejected, chosen) }
    };
    pairs.iter().map(verdict).collect()
}

/// What earlier rows prefer, in about 50 bytes per pair.
#[derive(Debug, Default)]
pub struct Preferences {
    /// The first row with each verdict.
    rows: HashMap<u128, i64>,
}

impl Preferences {
    /// The first row with the opposite preference.
    #[must_use]
    pub fn contradicted_by(&self, verdict: Verdict) -> Option<i64> {
        // Between two equal completions there is no preference.
        let opposite = (verdict.said != verdict.opposite).then_some(verdict.opposite)?;
        self.rows.get(&opposite).copied()
    }

    /// Remembers the verdict of a row. Must be called in row order.
    pub fn add(&mut self, row: i64, verdict: Verdict) {
        self.rows.entry(verdict.said).or_insert(row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(chosen: &str, scores: [Option<f64>; 2]) -> Pair {
        let [score_chosen, score_rejected] = scores;
        Pair { chosen: chosen.to_owned(), rejected: "b".to_owned(), score_chosen, score_rejected }
    }

    #[test]
    fn scores_and_texts_decide() {
        for (chosen, scores, expected) in [
            ("a", [None, None], None),
            ("a", [Some(1.0), None], None),
            ("a", [Some(2.0), Some(1.0)], None),
            ("a", [Some(1.0), Some(1.0)], Some(Code::Tie)),
            ("a", [Some(1.0), Some(1.5)], Some(Code::RejectedScoresHigher)),
            (" \n", [Some(2.0), Some(1.0)], Some(Code::EmptyChosen)),
        ] {
            assert_eq!(of(&pair(chosen, scores)), expected, "{chosen:?} {scores:?}");
        }
    }

    #[test]
    fn a_row_is_removed_with_its_last_pair() {
        let pairs = || vec![pair("a", [None, None]), pair("c", [None, None])];
        let tie = || Some(Reason::from(Code::Tie));
        let mut left = pairs();
        assert_eq!(remove(&mut left, &[tie(), None]), Ok(()));
        assert_eq!(left, pairs()[1..]);
        assert_eq!(remove(&mut pairs(), &[tie(), tie()]), Err(Code::Tie.into()));
    }
}
