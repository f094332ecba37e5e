//! Which replies are paired. A new strategy is a line in [`Strategy`] and an arm in [`pairs`].

use serde::{Deserialize, Serialize};

use super::draws;
use crate::dialogue::{Pair, Reply};
use crate::normal::hash64;
use crate::stage::Reason;

/// How pairs are picked. Chosen is always the first of the highest score, but for `all-lower`, where it is too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Rejected is any other reply with another text, whatever its score.
    BestVsRandom,
    /// Rejected is any reply with a lower score.
    BestVsRandomLower,
    /// Rejected is the last of the lowest score.
    BestVsWorst,
    /// One pair for every reply with a lower score.
    AllLower,
    /// Rejected is what CPython's `random.choice`, seeded with 42 in every row, draws first that is not the chosen one.
    BestVsDraw,
}

/// All the chance a row has.
pub(super) struct Chance<'row> {
    pub(super) seed: u64,
    pub(super) prompt_id: &'row str,
}

impl Chance<'_> {
    /// One of `places`, decided by seed and prompt alone, so that neither row order nor threads matter.
    fn pick(&self, places: &[usize]) -> Option<usize> {
        let draw = hash64(&format!("{}:{}:0", self.seed, self.prompt_id));
        let place = draw.checked_rem(places.len() as u64)?;
        places.get(usize::try_from(place).ok()?).copied()
    }
}

/// The pairs of a row's replies, at least one, or why there are none.
pub(super) fn pairs(strategy: Strategy, replies: &[Reply], scores: &[Option<f64>], chance: &Chance) -> Result<Vec<Pair>, Reason> {
    let scored: Vec<usize> = (0..replies.len()).filter(|place| scores[*place].is_some()).collect();
    let score = |place: usize| scores[place].unwrap_or(f64::NEG_INFINITY);
    let best = match scored.as_slice() {
        [] => return Err(Reason::code("all_unrated")),
        [_] => return Err(Reason::found("fewer_than_two", "1 reply with a score")),
        [first, rest @ ..] => rest.iter().fold(*first, |best, place| if score(*place) > score(best) { *place } else { best }),
    };
    let lower: Vec<usize> = scored.iter().copied().filter(|place| score(*place) < score(best)).collect();
    let other: Vec<usize> = scored.iter().copied().filter(|place| replies[*place].text != replies[best].text).collect();
    let rejected = match strategy {
        Strategy::BestVsRandom => chance.pick(&other).into_iter().collect(),
        Strategy::BestVsDraw => draws::rejected(replies, scores, best).into_iter().collect(),
        Strategy::BestVsRandomLower => chance.pick(&lower).into_iter().collect(),
        Strategy::BestVsWorst => {
            lower.iter().copied().rev().reduce(|worst, place| if score(place) < score(worst) { place } else { worst }).into_iter().collect()
        }
        Strategy::AllLower => lower,
    };
    if rejected.is_empty() {
        return Err(Reason::code(match strategy {
            Strategy::BestVsRandom | Strategy::BestVsDraw => "same_text",
            Strategy::BestVsRandomLower | Strategy::BestVsWorst | Strategy::AllLower => "tie",
        }));
    }
    let pair = |place: usize| Pair {
        chosen: replies[best].text.clone(),
        rejected: replies[place].text.clone(),
        score_chosen: scores[best],
        score_rejected: scores[place],
    };
    let different: Vec<Pair> =
        rejected.into_iter().map(pair).filter(|pair| strategy == Strategy::BestVsDraw || pair.chosen != pair.rejected).collect();
    if different.is_empty() { Err(Reason::code("same_text")) } else { Ok(different) }
}
