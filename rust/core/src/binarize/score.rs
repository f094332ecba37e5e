//! Computes the score that ranks completions, and corrects overall scores of 10 that should be 1.

use crate::dialogue::Reply;
use crate::recipe::ScoreBy;

/// The score of each completion, or `None` if the source has none.
pub(super) fn scores(replies: &[Reply], by: ScoreBy, repair: bool) -> Vec<Option<f64>> {
    let score = |reply: &Reply| match by {
        ScoreBy::Overall if repair => corrected(reply),
        ScoreBy::Overall => reply.overall,
        ScoreBy::FineGrained => reply.fine_grained,
        ScoreBy::MeanAspects => mean(&reply.ratings),
        ScoreBy::InstructionFollowing => reply.ratings[0],
        ScoreBy::Honesty => reply.ratings[1],
        ScoreBy::Truthfulness => reply.ratings[2],
        ScoreBy::Helpfulness => reply.ratings[3],
    };
    replies.iter().map(score).collect()
}

fn mean(ratings: &[Option<f64>]) -> Option<f64> {
    let rated: Vec<f64> = ratings.iter().flatten().copied().collect();
    (!rated.is_empty()).then(|| rated.iter().sum::<f64>() / rated.len() as f64)
}

/// The overall score, corrected offline like OpenBMB/UltraFeedback's `fix_overall_score_issue.py`.
/// With a mean rating of at most 2, a 10 is a 1. Above 4, it remains a 10. In between, where they
/// queried GPT-4 again, it is twice the mean.
fn corrected(reply: &Reply) -> Option<f64> {
    match (reply.overall, mean(&reply.ratings)) {
        (Some(10.0), Some(mean)) if mean <= 2.0 => Some(1.0),
        (Some(10.0), Some(mean)) if mean <= 4.0 => Some(2.0 * mean),
        (overall, _) => overall,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ten_is_mended_by_its_ratings_and_nothing_else_is() {
        let reply = |overall: f64, rating: f64| Reply {
            overall: Some(overall),
            ratings: [Some(rating), None, None, None],
            ..Reply::default()
        };
        for (overall, rating, wanted) in [
            (10.0, 2.0, 1.0),
            (10.0, 2.5, 5.0),
            (10.0, 4.0, 8.0),
            (10.0, 4.5, 10.0),
            (9.0, 1.0, 9.0),
        ] {
            assert_eq!(corrected(&reply(overall, rating)), Some(wanted));
        }
        let unrated = Reply { overall: Some(10.0), ..Reply::default() };
        assert_eq!(corrected(&unrated), Some(10.0));
    }
}
