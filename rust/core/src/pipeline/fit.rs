//! What a recipe must be to fit its run: known to every step that it names, meant for what is made,
//! and without keys that do nothing.

use crate::binarize;
use crate::dataset::product::Product;
use crate::error::{Error, Result};
use crate::filter;
use crate::read::shape;
use crate::recipe::{Compat, Dedup, Pack, Preset, Recipe, Tokenize, TrainOn};

/// Reads a recipe, and asks the steps about the words that only they know. Arguments as in
/// [`Recipe::read`].
pub fn read(text: &str, name: &str, overrides: &[(String, String)]) -> Result<Recipe> {
    let recipe = Recipe::read(text, name, overrides, |filter| filter::build(filter).map(drop))?;
    if recipe.source.shape != "auto" {
        shape::named(&recipe.source.shape)?;
    }
    Ok(recipe)
}

/// Whether a product is made of rows that compare answers.
pub(super) fn compares(product: Product) -> bool {
    match product {
        Product::Windows => false,
        Product::Pairs => true,
    }
}

/// Fills in what depends on the product, and refuses what does not fit it.
pub(super) fn resolve(product: Product, recipe: &mut Recipe) -> Result<()> {
    let refuse = |why: &str| Err(Error::Config(why.to_owned()));
    if !recipe.shards.tokens && !recipe.shards.text {
        return refuse("`shards.tokens = false` and `shards.text = false` leave nothing to write");
    }
    if recipe.source.shape != "auto" {
        let shape = shape::named(&recipe.source.shape)?;
        if shape.compares != compares(product) {
            let other =
                if shape.compares { "`zephyr-fast binarize`" } else { "`zephyr-fast prep`" };
            return Err(Error::Config(format!("rows of shape `{}` are for {other}", shape.name)));
        }
    }
    // Before anything is filled in, but said last: what is meant for the other product comes first.
    let off = switched_off(recipe);
    match product {
        Product::Windows => resolve_windows(recipe)?,
        Product::Pairs => resolve_pairs(recipe)?,
    }
    off.map_or(Ok(()), |(key, why)| {
        Err(Error::Config(format!("`{key}` does nothing here: {why}; take it away")))
    })
}

fn resolve_windows(recipe: &mut Recipe) -> Result<()> {
    let refuse = |why: &str| Err(Error::Config(why.to_owned()));
    if recipe.binarize.is_some() {
        return refuse("a recipe with [binarize] is for `zephyr-fast binarize`");
    }
    if recipe.compat == Compat::Trl07 {
        if !recipe.shards.tokens {
            return refuse(
                "`compat = \"trl-0.7\"` is about windows of tokens, and `shards.tokens` is false",
            );
        }
        recipe.tokenize.train_on = TrainOn::All;
    }
    Ok(())
}

fn resolve_pairs(recipe: &mut Recipe) -> Result<()> {
    let refuse = |why: &str| Err(Error::Config(why.to_owned()));
    if let Some((key, why)) = of_windows_alone(recipe) {
        return Err(Error::Config(format!(
            "`{key}` {why}; it does nothing in `zephyr-fast binarize`, so take it away"
        )));
    }
    if let Some(place) = recipe.filters.iter().position(filter::cuts_turns) {
        return Err(Error::Config(format!(
            "`filter.{place}.drop = \"tail\"` cuts turns off, and the answers that \
             `zephyr-fast binarize` compares need the whole question; write `drop = \"dialogue\"`"
        )));
    }
    let Some(binarize) = &mut recipe.binarize else {
        return refuse("`zephyr-fast binarize` needs a recipe with [binarize]");
    };
    // The published sets kept rows that repeat; their presets keep them too.
    recipe.dedup.exact &= binarize.preset.is_none_or(Preset::drops_duplicates);
    binarize::resolve(binarize);
    Ok(())
}

/// The first key that only windows have a use for, and what it is for: one that is laid over the
/// recipe, or that the recipe sets to something else than its default.
fn of_windows_alone(recipe: &Recipe) -> Option<(&'static str, &'static str)> {
    let keys = [
        ("compat", recipe.compat != Compat::default(), "is about windows, for `zephyr-fast prep`"),
        (
            "pack.seq_len",
            recipe.pack.seq_len != Pack::default().seq_len,
            "is the length of windows; that of a pair is `binarize.max_length`",
        ),
        (
            "dedup.near",
            recipe.dedup.near,
            "compares dialogues; `zephyr-fast binarize` only knows `dedup.exact`",
        ),
        (
            "dedup.of",
            recipe.dedup.of != Dedup::default().of,
            "is for dialogues; `zephyr-fast binarize` compares whole rows as the source has them",
        ),
        (
            "dedup.threshold",
            recipe.dedup.threshold != Dedup::default().threshold,
            "is for `dedup.near`, which compares dialogues",
        ),
        (
            "tokenize.train_on",
            recipe.tokenize.train_on != Tokenize::default().train_on,
            "is for windows; of a pair the answers are trained",
        ),
    ];
    let is_written = |key: &str| recipe.overridden.iter().any(|written| written == key);
    keys.into_iter()
        .find(|(key, is_other, _)| *is_other || is_written(key))
        .map(|(key, _, why)| (key, why))
}

/// The first key that was laid over the recipe although another key switches it off, and why. What
/// a recipe itself says may wait for the day on which it counts.
fn switched_off(recipe: &Recipe) -> Option<(&'static str, &'static str)> {
    let keeps_duplicates = recipe
        .binarize
        .as_ref()
        .and_then(|binarize| binarize.preset)
        .is_some_and(|preset| !preset.drops_duplicates());
    let is_trl07 = recipe.compat == Compat::Trl07;
    let without_sets = recipe.decontaminate.against.is_empty();
    let compares = recipe.dedup.exact || recipe.dedup.near;
    let rules: [(&[&'static str], bool, &'static str); 5] = [
        (
            &["dedup.exact"],
            keeps_duplicates && recipe.dedup.exact,
            "the preset keeps rows that repeat",
        ),
        (
            &["tokenize.train_on"],
            is_trl07 && recipe.tokenize.train_on != TrainOn::All,
            "`compat = \"trl-0.7\"` trains every token",
        ),
        (&["dedup.threshold"], !recipe.dedup.near, "`dedup.near` is off"),
        (&["dedup.of"], !compares, "`dedup.exact` and `dedup.near` are off"),
        (
            &["decontaminate.action", "decontaminate.threshold"],
            without_sets,
            "no evaluation set is named",
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
                .starts_with("`filter.1.drop = \"tail\"` cuts turns off")
        );
        for (text, product, key, value) in [
            ("[binarize]\npreset = \"h4-v1\"\n", Product::Pairs, "dedup.exact", "true"),
            ("compat = \"trl-0.7\"\n", Product::Windows, "tokenize.train_on", "assistant"),
            ("", Product::Windows, "dedup.threshold", "0.5"),
            ("", Product::Windows, "dedup.of", "prompt"),
            ("", Product::Windows, "decontaminate.action", "flag"),
        ] {
            let refused = error(text, product, &[(key, value)]);
            assert!(refused.starts_with(&format!("`{key}` does nothing here")), "{key}: {refused}");
        }
        let in_effect = [("binarize.preset", "h4-v1"), ("dedup.exact", "false")];
        assert_eq!(error("[binarize]\n", Product::Pairs, &in_effect), "");
        let near = [("dedup.near", "true"), ("dedup.threshold", "0.5"), ("dedup.of", "prompt")];
        assert_eq!(error("", Product::Windows, &near), "");
        // A recipe that is printed with all its keys can be used again.
        let printed = read(text, "x", &[]).and_then(|recipe| recipe.to_toml()).expect("prints");
        assert_eq!(error(&printed, Product::Pairs, &[]), "");
    }
}
