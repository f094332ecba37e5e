//! The steps from rows to the examples of each product, one file per product. What their files hold is
//! in `dataset/product.rs`.

mod pairs;
mod windows;

use crate::binarize::doubts::Verdict;
use crate::dataset::product::Product;
use crate::dialogue::{Dialogue, Example};
use crate::error::Result;
use crate::recipe::Recipe;
use crate::stage::Reason;

/// The pipeline's part of a product.
pub(super) struct Steps {
    /// The product.
    pub product: Product,
    /// Whether a recipe has the table of this product, which has the name of its command.
    pub has_table: fn(&Recipe) -> bool,
    /// Sets the defaults of this product, and rejects keys that do not fit it.
    pub resolve: fn(&mut Recipe) -> Result<()>,
    /// Maximum tokens of an example.
    pub tokens_max: fn(&Recipe) -> usize,
    /// The rules of a resolved recipe by which rows become examples, or `None` if dialogues are
    /// packed.
    pub rules: fn(&Recipe) -> Option<Box<dyn Rules>>,
}

/// All products, in the order of [`Product::ALL`].
pub(super) static STEPS: [Steps; Product::ALL.len()] = [windows::STEPS, pairs::STEPS];

/// The steps of a product.
pub(super) fn of(product: Product) -> &'static Steps {
    let found = STEPS.iter().find(|steps| steps.product == product);
    found.expect("every product must have its steps")
}

/// The product that a recipe is for: the one whose table it has, or else the first.
pub(super) fn of_recipe(recipe: &Recipe) -> Product {
    STEPS.iter().find(|steps| (steps.has_table)(recipe)).unwrap_or(&STEPS[0]).product
}

/// Makes the examples of a row.
pub trait Rules: Send + Sync {
    /// Returns the examples of a row, at least one, or the reason why there are none. Takes the
    /// completions out of the dialogue.
    fn examples(
        &self,
        dialogue: &mut Dialogue,
        prompt_id: &str,
    ) -> std::result::Result<Vec<Made>, Reason>;

    /// Whether doubtful examples are dropped.
    fn drops_doubtful(&self) -> bool;
}

/// A new example.
#[derive(Debug)]
pub struct Made {
    /// The example.
    pub example: Example,
    /// Why it may teach nothing or the wrong thing.
    pub doubt: Option<Reason>,
    /// What it prefers, to compare with other rows.
    pub verdict: Option<Verdict>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_product_has_its_steps_and_names_its_columns_once() {
        for product in Product::ALL {
            assert_eq!(of(product).product, product);
            for schema in [product.shard_schema(), product.text_schema()] {
                let mut names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), schema.fields().len(), "{product:?}");
            }
        }
    }
}
