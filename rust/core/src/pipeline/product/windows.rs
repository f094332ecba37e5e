//! Packed sequences of dialogues, which `prep` builds.

use super::Steps;
use crate::dataset::product::Product;
use crate::error::{Error, Result};
use crate::recipe::{Compat, Recipe, TrainOn};

pub(super) const STEPS: Steps = Steps {
    product: Product::Windows,
    has_table: |_| false,
    resolve,
    tokens_max: |recipe| recipe.pack.seq_len,
    rules: |_| None,
};

fn resolve(recipe: &mut Recipe) -> Result<()> {
    recipe.dedup.exact.get_or_insert(false);
    if recipe.compat == Compat::Trl07 {
        if !recipe.shards.tokens {
            return Err(Error::Config(
                "`compat = \"trl-0.7\"` packs tokens and cannot be combined with \
                 `shards.tokens = false`"
                    .to_owned(),
            ));
        }
        recipe.tokenize.train_on = TrainOn::All;
    }
    Ok(())
}
