//! Pairs of completions, which `binarize` builds.

use super::{Made, Rules, Steps};
use crate::binarize::{self, doubts};
use crate::dataset::product::Product;
use crate::dialogue::{Dialogue, Pair};
use crate::error::{Error, Result};
use crate::recipe::{DoubtfulPairs, Preset, Recipe};
use crate::stage::Reason;

pub(super) const STEPS: Steps = Steps {
    product: Product::Pairs,
    has_table: |recipe| recipe.binarize.is_some(),
    resolve,
    tokens_max: |recipe| recipe.binarize.as_ref().map_or(0, |binarize| binarize.max_length),
    rules: |recipe| {
        let binarize = recipe.binarize.as_ref()?;
        Some(Box::new(Pairing {
            rules: binarize::Rules::new(binarize, recipe.seed),
            drops_doubtful: binarize.doubtful_pairs == Some(DoubtfulPairs::Drop),
        }))
    },
};

struct Pairing {
    rules: binarize::Rules,
    drops_doubtful: bool,
}

fn resolve(recipe: &mut Recipe) -> Result<()> {
    let Some(binarize) = &mut recipe.binarize else {
        return Err(Error::Config(
            "this recipe has no [binarize] table; use `zephyr-fast prep`, or a recipe with one \
             such as `ultrafeedback`"
                .to_owned(),
        ));
    };
    // Presets that rebuild published datasets keep repeated rows if those datasets did, unless the
    // recipe overrides it.
    let drops = binarize.preset.is_some_and(Preset::drops_duplicates);
    recipe.dedup.exact.get_or_insert(drops);
    binarize::resolve(binarize);
    Ok(())
}

impl Rules for Pairing {
    fn examples(
        &self,
        dialogue: &mut Dialogue,
        prompt_id: &str,
    ) -> std::result::Result<Vec<Made>, Reason> {
        let pairs = self.rules.pairs(dialogue, prompt_id)?;
        let verdicts = doubts::verdicts(dialogue, &pairs);
        let made = |(pair, verdict): (Pair, _)| Made {
            doubt: doubts::of(&pair).map(Reason::from),
            example: pair.into(),
            verdict: Some(verdict),
        };
        Ok(pairs.into_iter().zip(verdicts).map(made).collect())
    }

    fn drops_doubtful(&self) -> bool {
        self.drops_doubtful
    }
}
