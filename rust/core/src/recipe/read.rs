//! Parses a recipe and its overrides, validates every key, and serializes the result with all
//! defaults.

use serde::Deserialize;
use toml::Spanned;

use super::Recipe;
use crate::error::{Error, Result};

/// Bytes of a recipe, and of a value that is overridden in it. The recipes that come with the
/// package have 2 KB at most.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Maximum bytes and parts of a dotted key. The longest existing key has 33 bytes and 3 parts.
const KEY_BYTES_MAX: usize = 256;
const KEY_PARTS_MAX: usize = 16;
/// Keys that are overridden in a recipe.
const OVERRIDES_MAX: usize = 256;
/// Characters of a value that an error repeats.
const SHOWN_MAX: usize = 60;
/// Maximum characters of an error of the TOML parser, which repeats values too.
const SAID_MAX: usize = 400;

impl Recipe {
    /// Reads a recipe. `name` is its name in errors, and `overrides` are dotted keys with values as
    /// TOML. `check_filter` checks every `[[filter]]`, because its keys are defined by the filter.
    pub fn read(
        text: &str,
        name: &str,
        overrides: &[(String, String)],
        check_filter: impl Fn(toml::Table) -> Result<()>,
    ) -> Result<Recipe> {
        check_lengths(text, name, overrides)?;
        let at = |error: &toml::de::Error| {
            let place = error.span().map_or(0, |span| span.start);
            Error::Config(format!(
                "{name}:{}: {}",
                line_of(text, place),
                error.message().replace('\n', " ")
            ))
        };
        let mut recipe: Recipe = toml::from_str(text).map_err(|error| at(&error))?;
        let mut overridden = Vec::new();
        check_filters(text, name, &check_filter)?;
        if !overrides.is_empty() {
            let mut table: toml::Table = toml::from_str(text).map_err(|error| at(&error))?;
            for (key, value) in overrides {
                overridden.extend(set(&mut table, key, value)?);
            }
            let keys: Vec<_> = overrides
                .iter()
                .map(|(key, value)| format!("{key}={}", head(value, SHOWN_MAX)))
                .collect();
            let wrong = |error: &dyn std::fmt::Display| {
                Error::Config(format!(
                    "--set {}: {}",
                    keys.join(" --set "),
                    head(&error.to_string(), SAID_MAX)
                ))
            };
            recipe = Recipe::deserialize(table).map_err(|error| wrong(&error.message()))?;
            for filter in recipe.filters.clone() {
                check_filter(filter).map_err(|error| wrong(&error))?;
            }
        }
        recipe.check(name)?;
        recipe.overridden = overridden;
        Ok(recipe)
    }

    /// Returns the recipe with every key, as TOML, for the manifest.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|error| Error::Internal(format!("cannot serialize the recipe: {error}")))
    }

    fn check(&self, name: &str) -> Result<()> {
        let wrong =
            |key: &str, rule: &str| Err(Error::Config(format!("{name}: `{key}` must be {rule}")));
        if !(0.0..1.0).contains(&self.shards.test_fraction) {
            return wrong("shards.test_fraction", "at least 0 and below 1");
        }
        if !(self.dedup.threshold > 0.0 && self.dedup.threshold <= 1.0) {
            return wrong("dedup.threshold", "above 0 and at most 1");
        }
        if !(0.0..1.0).contains(&self.decontaminate.threshold) {
            return wrong("decontaminate.threshold", "at least 0 and below 1");
        }
        let sets = &self.decontaminate.against;
        if sets.iter().enumerate().any(|(place, set)| {
            set.name.is_empty() || sets[..place].iter().any(|other| other.name == set.name)
        }) {
            return Err(Error::Config(format!(
                "{name}: every [[decontaminate.against]] needs a unique `name`"
            )));
        }
        for (key, limit) in self.token_limits() {
            if limit.is_some_and(|tokens| !(8..=1 << 20).contains(&tokens)) {
                return wrong(key, "between 8 and 1048576");
            }
        }
        if self.shards.shard_bytes_max < 1 << 20 {
            return wrong("shards.shard_bytes_max", "at least 1048576");
        }
        Ok(())
    }
}

/// Rejects texts that are longer or deeper than any recipe, since tables are built and dropped
/// recursively.
fn check_lengths(text: &str, name: &str, overrides: &[(String, String)]) -> Result<()> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::Config(format!(
            "{name}: the recipe has {} bytes (limit: {TEXT_BYTES_MAX})",
            text.len()
        )));
    }
    if overrides.len() > OVERRIDES_MAX {
        return Err(Error::Config(format!(
            "--set was passed {} times (limit: {OVERRIDES_MAX}); write a recipe file instead",
            overrides.len()
        )));
    }
    for (key, value) in overrides {
        let wrong =
            |why: String| Err(Error::Config(format!("--set {}: {why}", head(key, SHOWN_MAX))));
        if key.len() > KEY_BYTES_MAX || key.split('.').count() > KEY_PARTS_MAX {
            return wrong(format!(
                "a key has at most {KEY_PARTS_MAX} parts and {KEY_BYTES_MAX} bytes"
            ));
        }
        if value.len() > TEXT_BYTES_MAX {
            return wrong(format!("the value has {} bytes (limit: {TEXT_BYTES_MAX})", value.len()));
        }
    }
    Ok(())
}

/// The start of a text, for an error.
fn head(text: &str, characters_max: usize) -> String {
    let mut characters = text.chars();
    let head: String = characters.by_ref().take(characters_max).collect();
    if characters.next().is_none() { head } else { head + "…" }
}

/// Returns the line number, from 1, of a byte of the text.
fn line_of(text: &str, place: usize) -> usize {
    1 + text.as_bytes()[..place.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

/// Asks about every filter once, so a wrong key in one is found with its line.
fn check_filters(
    text: &str,
    name: &str,
    check_filter: &impl Fn(toml::Table) -> Result<()>,
) -> Result<()> {
    #[derive(Deserialize)]
    struct Filters {
        #[serde(default, rename = "filter")]
        filters: Vec<Spanned<toml::Table>>,
    }
    let Ok(Filters { filters }) = toml::from_str(text) else { return Ok(()) };
    for filter in filters {
        let line = line_of(text, filter.span().start);
        check_filter(filter.into_inner())
            .map_err(|error| Error::Config(format!("{name}:{line}: {error}")))?;
    }
    Ok(())
}

/// Sets the value of a dotted key, and returns the keys that were set. A number within the key is a
/// list index.
fn set(table: &mut toml::Table, key: &str, value: &str) -> Result<Vec<String>> {
    let wrong = |why: &str| Error::Config(format!("--set {key}={}: {why}", head(value, SHOWN_MAX)));
    // A value that is not valid TOML is used as a string: `--set binarize.preset=argilla`.
    let value = format!("value = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut values = Vec::new();
    flatten(key, value, &mut values);
    values
        .into_iter()
        .map(|(key, value)| insert(table, &key, value, &wrong).map(|()| key))
        .collect()
}

/// Lists the dotted keys of a value. A table only sets its own keys, so
/// `--set 'dedup={threshold=0.5}'` keeps the other keys of `[dedup]`.
fn flatten(key: &str, value: toml::Value, values: &mut Vec<(String, toml::Value)>) {
    match value {
        toml::Value::Table(table) if !table.is_empty() => {
            for (name, value) in table {
                let name = if name.contains(['.', '"']) { quoted(name) } else { name };
                flatten(&format!("{key}.{name}"), value, values);
            }
        }
        value => values.push((key.to_owned(), value)),
    }
}

fn insert(
    table: &mut toml::Table,
    key: &str,
    value: toml::Value,
    wrong: &impl Fn(&str) -> Error,
) -> Result<()> {
    let mut path = parts_of(key);
    let last = path.pop().unwrap_or_default();
    let mut here = table;
    let mut parts = path.into_iter().filter(|part| !part.is_empty());
    while let Some(part) = parts.next() {
        let next = here.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        here = match next {
            toml::Value::Table(table) => table,
            toml::Value::Array(items) => {
                let place = parts.next().and_then(|place| place.parse::<usize>().ok()).ok_or_else(
                    || wrong("expected a list index in the key, e.g. `filter.0.turns_max`"),
                )?;
                items
                    .get_mut(place)
                    .and_then(toml::Value::as_table_mut)
                    .ok_or_else(|| wrong("list index out of range"))?
            }
            _ => return Err(wrong("part of the key is a value, not a table")),
        };
    }
    here.insert(last, value);
    Ok(())
}

/// The parts of a dotted key. A part with dots is in quotes, as in TOML: `source.roles."gpt-3.5"`.
fn parts_of(key: &str) -> Vec<String> {
    let plain = || key.split('.').map(str::to_owned).collect();
    if !key.contains('"') || key.contains('\n') {
        return plain();
    }
    let Ok(mut table) = format!("{key} = 0").parse::<toml::Table>() else { return plain() };
    let mut parts = Vec::new();
    while let Some((name, value)) = table.into_iter().next() {
        parts.push(name);
        table = if let toml::Value::Table(inner) = value { inner } else { toml::Table::new() };
    }
    parts
}

fn quoted(text: String) -> String {
    toml::Value::String(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Preset;

    /// Knows one filter with one key.
    fn known(filter: toml::Table) -> Result<()> {
        match filter.keys().find(|key| !["kind", "turns_max"].contains(&key.as_str())) {
            None if filter["kind"].as_str() == Some("length") => Ok(()),
            None => Err(Error::Config(format!(
                "unknown filter `{}`",
                filter["kind"].as_str().unwrap_or_default()
            ))),
            Some(key) => Err(Error::Config(format!("unknown field `{key}`"))),
        }
    }

    fn error(text: &str, overrides: &[(&str, &str)]) -> String {
        let overrides: Vec<_> =
            overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Recipe::read(text, "recipes/x.toml", &overrides, known)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn an_unknown_key_or_filter_is_refused_with_its_line() {
        let text = "seed = 1\n\n[pack]\nseq_len = 64\nlength = 3\n";
        assert!(
            error(text, &[]).starts_with("recipes/x.toml:5: unknown field `length`"),
            "{}",
            error(text, &[])
        );
        let text = "seed = 1\n[[filter]]\nkind = \"length\"\n[[filter]]\nkind = \"lenght\"\n";
        assert_eq!(error(text, &[]), "recipes/x.toml:4: unknown filter `lenght`");
        let text = "[[filter]]\nkind = \"length\"\nturns = 3\n";
        assert!(error(text, &[]).starts_with("recipes/x.toml:1: unknown field `turns`"));
    }

    #[test]
    fn every_key_can_be_set_from_outside() {
        let overrides =
            [("pack.seq_len", "512"), ("binarize.preset", "argilla"), ("filter.0.turns_max", "4")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let recipe = Recipe::read("[[filter]]\nkind = \"length\"\n", "x", &overrides, known)
            .expect("is a recipe");
        assert_eq!(recipe.pack.seq_len, 512);
        assert_eq!(
            recipe.binarize.as_ref().and_then(|binarize| binarize.preset),
            Some(Preset::Argilla)
        );
        assert_eq!(recipe.filters[0]["turns_max"].as_integer(), Some(4));
        assert!(
            error("", &[("pack.seq", "1")]).starts_with("--set pack.seq=1: unknown field `seq`")
        );
    }

    #[test]
    fn a_table_sets_its_own_keys_only() {
        let overrides = [("dedup".to_owned(), "{ threshold = 0.5, of = \"prompt\" }".to_owned())];
        let recipe =
            Recipe::read("[dedup]\nnear = true\n", "x", &overrides, known).expect("is a recipe");
        assert!(recipe.dedup.near);
        assert_eq!(recipe.dedup.threshold, 0.5);
        assert_eq!(recipe.overridden, ["dedup.of", "dedup.threshold"]);
        assert!(error("", &[("dedup", "{ nearr = 1 }")]).contains("unknown field `nearr`"));
    }

    #[test]
    fn keys_and_values_that_no_recipe_has_are_refused() {
        let deep = vec!["a"; 30_000].join(".");
        for key in [deep.as_str(), ".".repeat(20).as_str(), "k".repeat(300).as_str()] {
            assert!(error("", &[(key, "1")]).contains("a key has at most 16 parts and 256 bytes"));
        }
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(error("", &[("seed", &long)]).contains("(limit: 1048576)"));
        assert!(error(&long, &[]).contains("(limit: 1048576)"));
        assert!(error("", &vec![("seed", "1"); 300]).contains("(limit: 256)"));
        let shown = error("", &[("seed", &"x".repeat(5_000))]);
        assert!(shown.len() < 600 && shown.contains("xxx…"), "{shown}");
    }

    #[test]
    fn a_printed_recipe_reads_back_as_itself() {
        let recipe = Recipe::read(
            "[binarize]\npreset = \"h4-v1\"\n[[filter]]\nkind = \"length\"\n",
            "x",
            &[],
            known,
        )
        .expect("is a recipe");
        let printed = recipe.to_toml().expect("prints");
        assert_eq!(
            Recipe::read(&printed, "x", &[], known).expect("reads back").to_toml().expect("prints"),
            printed
        );
    }
}
