//! Checks that a recipe fits its run: every step knows the names it uses, it is meant for this
//! command, and no key is without effect.

use crate::dataset::product::Product;
use crate::error::{Error, Result};
use crate::filter;
use crate::pipeline::product::{self, STEPS, Steps};
use crate::read::shape;
use crate::read::shape::renamed::Renaming;
use crate::recipe::{Compat, Dedup, Pack, Recipe, Tokenize, TrainOn};

/// Reads a recipe and validates the names that only the steps know. The arguments are those of
/// [`Recipe::read`].
pub fn read(text: &str, name: &str, overrides: &[(String, String)]) -> Result<Recipe> {
    let recipe = Recipe::read(text, name, overrides, |filter| filter::build(filter).map(drop))?;
    if recipe.source.shape != "auto" {
        shape::named(&recipe.source.shape)?;
    }
    Renaming::of(&recipe.source)?;
    Ok(recipe)
}

/// Sets the defaults that depend on the product, and rejects keys that do not fit it.
pub(super) fn resolve(product: Product, recipe: &mut Recipe) -> Result<()> {
    let refuse = |why: &str| Err(Error::Config(why.to_owned()));
    if !recipe.shards.tokens && !recipe.shards.text {
        return refuse(
            "`shards.tokens` and `shards.text` are both false, so there is nothing to write",
        );
    }
    if recipe.source.shape != "auto" {
        let shape = shape::named(&recipe.source.shape)?;
        let reads = |product: Product| product.is_packed() != shape.compares;
        if !reads(product) {
            let others = Product::ALL.into_iter().filter(|other| reads(*other));
            let others = others.map(|other| format!("`zephyr-fast {}`", other.command()));
            return Err(Error::Config(format!(
                "rows of shape `{}` need {}; use that command, or set `source.shape`",
                shape.name,
                others.collect::<Vec<_>>().join(" or ")
            )));
        }
    }
    // Computed before any default is set, but reported last: a key of the other product is the
    // better error.
    let off = switched_off(recipe);
    let has_table = |other: &&Steps| other.product != product && (other.has_table)(recipe);
    if let Some(other) = STEPS.iter().find(has_table) {
        let command = other.product.command();
        return Err(Error::Config(format!(
            "this recipe has a [{command}] table; use `zephyr-fast {command}`, or remove `{command}`"
        )));
    }
    if !product.is_packed() {
        check_completions(recipe, product.command())?;
    }
    (product::of(product).resolve)(recipe)?;
    off.map_or(Ok(()), |(key, why)| {
        Err(Error::Config(format!("`{key}` has no effect: {why}; remove it")))
    })
}

/// Returns the first key that has no effect on examples with completions, and why: one that is
/// overridden, or that the recipe sets to another value than its default.
fn without_effect_on_completions(recipe: &Recipe) -> Option<(&'static str, &'static str)> {
    let keys = [
        ("compat", recipe.compat != Compat::default(), "only `zephyr-fast prep` supports it"),
        (
            "pack.seq_len",
            recipe.pack.seq_len != Pack::default().seq_len,
            "the limit of an example is `max_length` in the table of the command",
        ),
        (
            "dedup.near",
            recipe.dedup.near,
            "it compares dialogues, and completions only support `dedup.exact`",
        ),
        (
            "dedup.of",
            recipe.dedup.of != Dedup::default().of,
            "rows with completions are compared by the bytes of the whole row",
        ),
        (
            "dedup.threshold",
            recipe.dedup.threshold != Dedup::default().threshold,
            "it is the threshold of `dedup.near`, which compares dialogues",
        ),
        (
            "tokenize.train_on",
            recipe.tokenize.train_on != Tokenize::default().train_on,
            "all completions of an example are trained",
        ),
    ];
    let is_written = |key: &str| recipe.overridden.iter().any(|written| written == key);
    keys.into_iter()
        .find(|(key, is_other, _)| *is_other || is_written(key))
        .map(|(key, _, why)| (key, why))
}

/// Rejects keys that have no effect on examples with completions.
fn check_completions(recipe: &Recipe, command: &str) -> Result<()> {
    if let Some((key, why)) = without_effect_on_completions(recipe) {
        return Err(Error::Config(format!(
            "`{key}` has no effect in `zephyr-fast {command}`: {why}; remove it"
        )));
    }
    if let Some(place) = recipe.filters.iter().position(filter::cuts_turns) {
        return Err(Error::Config(format!(
            "`filter.{place}.drop = \"tail\"` removes messages of the prompt, which \
             `zephyr-fast {command}` needs in full; set `drop = \"dialogue\"`"
        )));
    }
    Ok(())
}

/// Returns the first overridden key that another key disables, and why. Keys of the recipe file
/// itself may be without effect.
fn switched_off(recipe: &Recipe) -> Option<(&'static str, &'static str)> {
    let is_trl07 = recipe.compat == Compat::Trl07;
    let has_no_sets = recipe.decontaminate.against.is_empty();
    let compares = recipe.dedup.is_exact() || recipe.dedup.near;
    let rules: [(&[&'static str], bool, &'static str); 6] = [
        (
            &["tokenize.train_on"],
            is_trl07 && recipe.tokenize.train_on != TrainOn::All,
            "`compat = \"trl-0.7\"` trains every token",
        ),
        (&["tokenize.train_end"], is_trl07, "`compat = \"trl-0.7\"` appends an EOS to each text"),
        (
            &["template.name", "template.date", "tokenize.train_end", "tokenize.train_on"],
            !recipe.shards.tokens,
            "`shards.tokens` is off",
        ),
        (&["dedup.threshold"], !recipe.dedup.near, "`dedup.near` is off"),
        (&["dedup.of"], !compares, "`dedup.exact` and `dedup.near` are off"),
        (
            &["decontaminate.action", "decontaminate.threshold"],
            has_no_sets,
            "the recipe names no evaluation set",
        ),
    ];
    let is_laid_over = |key: &&str| recipe.overridden.iter().any(|written| written == key);
    rules
        .into_iter()
        .filter(|(_, is_off, _)| *is_off)
        .find_map(|(keys, _, why)| keys.iter().copied().find(is_laid_over).map(|key| (key, why)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Preset;

    fn error(text: &str, product: Product, overrides: &[(&str, &str)]) -> String {
        let overrides: Vec<_> =
            overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let read = read(text, "recipes/x.toml", &overrides);
        let resolved = read.and_then(|mut recipe| resolve(product, &mut recipe));
        resolved.map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_only_a_step_knows_is_asked_of_it() {
        let text = "seed = 1\n[[filter]]\nkind = \"structure\"\n[[filter]]\nkind = \"lenght\"\n";
        let refused = error(text, Product::Windows, &[]);
        assert_eq!(
            refused,
            format!(
                "recipes/x.toml:4: unknown filter `lenght`; expected one of: {}",
                filter::names().join(", ")
            )
        );
        let text = "[[filter]]\nkind = \"length\"\nturns = 3\n";
        assert!(
            error(text, Product::Windows, &[])
                .starts_with("recipes/x.toml:1: filter `length`: unknown field `turns`")
        );
        assert!(
            error("[source]\nshape = \"tables\"\n", Product::Windows, &[])
                .starts_with("unknown shape `tables`")
        );
    }

    #[test]
    fn the_preset_decides_about_repeated_rows_unless_the_recipe_does() {
        let exact = |text: &str, overrides: &[(String, String)]| {
            let mut recipe = read(text, "x", overrides).expect("is a recipe");
            resolve(Product::Pairs, &mut recipe).expect("fits");
            recipe.dedup.is_exact()
        };
        let set = |value: &str| [("dedup.exact".to_owned(), value.to_owned())];
        for preset in Preset::NAMES {
            let text = format!("[binarize]\npreset = \"{preset}\"\n");
            let drops = ["paper", "argilla"].contains(preset);
            assert_eq!(exact(&text, &[]), drops, "{preset}");
            for value in [true, false] {
                let written = format!("{text}[dedup]\nexact = {value}\n");
                assert_eq!(exact(&written, &[]), value, "{preset}");
                assert_eq!(exact(&text, &set(&value.to_string())), value, "{preset}");
            }
        }
        assert!(!exact("[binarize]\n", &[]));
    }

    #[test]
    fn a_key_that_would_do_nothing_is_refused_by_name() {
        let text = "[binarize]\npreset = \"paper\"\n";
        assert_eq!(error(text, Product::Pairs, &[]), "");
        assert!(error(text, Product::Windows, &[]).contains("[binarize]"));
        let keys = [
            ("compat", "\"trl-0.7\""),
            ("pack.seq_len", "64"),
            ("pack.seq_len", "2048"),
            ("dedup.near", "true"),
            ("dedup.of", "prompt"),
            ("dedup.threshold", "0.1"),
            ("tokenize.train_on", "all"),
        ];
        for (key, value) in keys {
            assert!(
                error(text, Product::Pairs, &[(key, value)]).starts_with(&format!("`{key}` ")),
                "{key}={value}"
            );
        }
        assert!(
            error("pack = { seq_len = 64 }\n[binarize]\n", Product::Pairs, &[])
                .starts_with("`pack.seq_len` ")
        );
        let tail = "[[filter]]\nkind = \"structure\"\n[[filter]]\nkind = \"phrases\"\nphrases = \
            [\"x\"]\ndrop = \"tail\"\n";
        assert_eq!(error(tail, Product::Windows, &[]), "");
        assert!(
            error(&format!("{tail}{text}"), Product::Pairs, &[])
                .starts_with("`filter.1.drop = \"tail\"` removes messages")
        );
        for (text, product, key, value) in [
            ("compat = \"trl-0.7\"\n", Product::Windows, "tokenize.train_on", "assistant"),
            ("compat = \"trl-0.7\"\n", Product::Windows, "tokenize.train_end", "append"),
            ("[shards]\ntokens = false\n", Product::Windows, "template.name", "zephyr"),
            ("", Product::Windows, "dedup.threshold", "0.5"),
            ("", Product::Windows, "dedup.of", "prompt"),
            ("", Product::Windows, "decontaminate.action", "flag"),
        ] {
            let refused = error(text, product, &[(key, value)]);
            assert!(refused.starts_with(&format!("`{key}` has no effect")), "{key}: {refused}");
        }
        let table = error("", Product::Windows, &[("dedup", "{ threshold = 0.5 }")]);
        assert!(table.starts_with("`dedup.threshold` has no effect"), "{table}");
        let in_effect = [("binarize.preset", "h4-v1"), ("dedup.exact", "false")];
        assert_eq!(error("[binarize]\n", Product::Pairs, &in_effect), "");
        let near = [("dedup.near", "true"), ("dedup.threshold", "0.5"), ("dedup.of", "prompt")];
        assert_eq!(error("", Product::Windows, &near), "");
        // A recipe that is printed with all its keys can be used again.
        let printed = read(text, "x", &[]).and_then(|recipe| recipe.to_toml()).expect("prints");
        assert_eq!(error(&printed, Product::Pairs, &[]), "");
    }
}
