//! Turns scored completions into preference pairs: which score decides, which completions are
//! paired, and the published presets.
//!
//! Facts of the presets: HuggingFaceH4/ultrafeedback_binarized (`create_dataset.py`),
//! argilla/ultrafeedback-binarized-preferences, and arXiv 2310.16944 §4.1.

pub mod doubts;
mod draws;
mod score;
mod strategy;

use crate::dialogue::{Dialogue, Pair, Replies};
use crate::recipe::{self, DoubtfulPairs, Preset, ScoreBy, Strategy};
use crate::stage::{Code, Reason};

/// The version of these rules.
pub const VERSION: u32 = 2;

/// All settings for forming the pairs of a row.
#[derive(Debug, Clone)]
pub struct Rules {
    strategy: Strategy,
    score_by: ScoreBy,
    repair: bool,
    drop_sources: Vec<String>,
    seed: u64,
}

/// Fills in the preset's choices for settings that the recipe's table omits.
fn fill(preset: Preset, recipe: &mut recipe::Binarize) {
    let (strategy, score_by, repair, drop_truthful_qa) = match preset {
        Preset::Paper => (Strategy::BestVsRandom, ScoreBy::MeanAspects, false, false),
        Preset::H4V1 => (Strategy::BestVsDraw, ScoreBy::Overall, false, false),
        Preset::H4V2Rules => (Strategy::BestVsRandom, ScoreBy::Overall, true, true),
        Preset::Argilla => (Strategy::BestVsRandomLower, ScoreBy::MeanAspects, false, false),
    };
    recipe.strategy.get_or_insert(strategy);
    recipe.score_by.get_or_insert(score_by);
    recipe.repair.get_or_insert(repair);
    let sources = if drop_truthful_qa { vec!["truthful_qa".to_owned()] } else { Vec::new() };
    recipe.drop_sources.get_or_insert(sources);
}

/// Writes the preset's choices, or the defaults, into the recipe, so the manifest's copy contains
/// them.
pub fn resolve(recipe: &mut recipe::Binarize) {
    let has_preset = recipe.preset.is_some();
    let doubtful = if has_preset { DoubtfulPairs::Keep } else { DoubtfulPairs::Drop };
    recipe.doubtful_pairs.get_or_insert(doubtful);
    fill(recipe.preset.unwrap_or(Preset::Paper), recipe);
}

impl Rules {
    /// The rules of a resolved recipe.
    #[must_use]
    pub fn new(recipe: &recipe::Binarize, seed: u64) -> Rules {
        Rules {
            strategy: recipe.strategy.unwrap_or(Strategy::BestVsRandom),
            score_by: recipe.score_by.unwrap_or(ScoreBy::MeanAspects),
            repair: recipe.repair.unwrap_or(false),
            drop_sources: recipe.drop_sources.clone().unwrap_or_default(),
            seed,
        }
    }

    /// Returns the pairs of a row, at least one, or the reason why there are none.
    pub fn pairs(&self, dialogue: &mut Dialogue, prompt_id: &str) -> Result<Vec<Pair>, Reason> {
        if dialogue.source.as_ref().is_some_and(|source| self.drop_sources.contains(source)) {
            return Err(Reason::found(
                Code::ExcludedSource,
                dialogue.source.clone().unwrap_or_default(),
            ));
        }
        match std::mem::replace(&mut dialogue.replies, Replies::Inline) {
            Replies::Inline => Err(Reason::from(Code::TooFewCompletions)),
            Replies::Pair(pair) if pair.chosen == pair.rejected => {
                Err(Reason::from(Code::IdenticalCompletions))
            }
            Replies::Pair(pair) => Ok(vec![pair]),
            Replies::Scored(replies) => {
                if replies.len() < 2 {
                    let plural = if replies.len() == 1 { "" } else { "s" };
                    return Err(Reason::found(
                        Code::TooFewCompletions,
                        format!("{} completion{plural}", replies.len()),
                    ));
                }
                let scores = score::scores(&replies, self.score_by, self.repair);
                let picker = strategy::Picker { seed: self.seed, prompt_id };
                strategy::pairs(self.strategy, &replies, &scores, &picker)
            }
        }
    }
}
