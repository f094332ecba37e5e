//! Selects which completions are paired. To add a strategy, add a line in [`Strategy`] and two arms
//! in [`pairs`]. In every strategy, the chosen one is the first completion with the highest score.

use super::draws;
use crate::dialogue::{Pair, Reply};
use crate::normal::hash64;
use crate::recipe::Strategy;
use crate::stage::{Code, Reason};

/// Picks at random for one row.
pub(super) struct Picker<'row> {
    pub(super) seed: u64,
    pub(super) prompt_id: &'row str,
}

impl Picker<'_> {
    /// Picks one index by seed and prompt only, so the result does not depend on row order or
    /// threads.
    fn pick(&self, indices: &[usize]) -> Option<usize> {
        let draw = hash64(&format!("{}:{}:0", self.seed, self.prompt_id));
        let index = draw.checked_rem(indices.len() as u64)?;
        indices.get(usize::try_from(index).ok()?).copied()
    }
}

/// Returns the pairs of a row's completions, at least one, or the reason why there are none.
pub(super) fn pairs(
    strategy: Strategy,
    replies: &[Reply],
    scores: &[Option<f64>],
    picker: &Picker,
) -> Result<Vec<Pair>, Reason> {
    let scored: Vec<usize> = (0..replies.len()).filter(|index| scores[*index].is_some()).collect();
    let score = |index: usize| scores[index].unwrap_or(f64::NEG_INFINITY);
    let best = match scored.as_slice() {
        [] => return Err(Reason::from(Code::NoScores)),
        [_] => return Err(Reason::found(Code::TooFewCompletions, "1 completion with a score")),
        [first, rest @ ..] => rest
            .iter()
            .fold(*first, |best, index| if score(*index) > score(best) { *index } else { best }),
    };
    let lower: Vec<usize> =
        scored.iter().copied().filter(|index| score(*index) < score(best)).collect();
    let other: Vec<usize> =
        scored.iter().copied().filter(|index| replies[*index].text != replies[best].text).collect();
    let rejected = match strategy {
        Strategy::BestVsRandom => picker.pick(&other).into_iter().collect(),
        Strategy::BestVsDraw => draws::rejected(replies, scores, best).into_iter().collect(),
        Strategy::BestVsRandomLower => picker.pick(&lower).into_iter().collect(),
        Strategy::BestVsWorst => lower
            .iter()
            .copied()
            .rev()
            .reduce(|worst, index| if score(index) < score(worst) { index } else { worst })
            .into_iter()
            .collect(),
        Strategy::AllLower => lower,
    };
    if rejected.is_empty() {
        return Err(Reason::from(match strategy {
            Strategy::BestVsRandom | Strategy::BestVsDraw => Code::IdenticalCompletions,
            Strategy::BestVsRandomLower | Strategy::BestVsWorst | Strategy::AllLower => Code::Tie,
        }));
    }
    let pair = |index: usize| Pair {
        chosen: replies[best].text.clone(),
        rejected: replies[index].text.clone(),
        score_chosen: scores[best],
        score_rejected: scores[index],
    };
    let different: Vec<Pair> = rejected
        .into_iter()
        .map(pair)
        .filter(|pair| strategy == Strategy::BestVsDraw || pair.chosen != pair.rejected)
        .collect();
    if different.is_empty() { Err(Reason::from(Code::IdenticalCompletions)) } else { Ok(different) }
}
