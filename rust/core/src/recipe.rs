//! A data recipe: TOML in, every key with its default out; an unknown key is an error with file and line.

use serde::{Deserialize, Serialize, Serializer};
use toml::Spanned;

use crate::binarize::{Preset, ScoreBy, Strategy};
use crate::control::Policy;
use crate::error::{Error, Result};
use crate::filter;

/// Which of the two commands a recipe is for. They are one pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Dialogues to packed samples.
    Prep,
    /// Scored replies or pairs to preference pairs.
    Binarize,
}

/// All that decides which bytes come out, but for the inputs, the tokenizer and the template.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Keys all chance, together with each row's `prompt_id`.
    #[serde(default = "seed")]
    pub seed: u64,
    /// Where rows come from and what they look like.
    #[serde(default)]
    pub source: Source,
    /// Capitals.
    #[serde(default)]
    pub truecase: Truecase,
    /// Filters, in order; see `filter::FILTERS`.
    #[serde(default, rename = "filter")]
    pub filters: Vec<toml::Table>,
    /// Duplicates.
    #[serde(default)]
    pub dedup: Dedup,
    /// Evaluation sets to keep out.
    #[serde(default)]
    pub decontaminate: Decontaminate,
    /// How scored replies become pairs; only for `binarize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binarize: Option<Binarize>,
    /// The chat template.
    #[serde(default)]
    pub template: Template,
    /// Token ids and masks.
    #[serde(default)]
    pub tokenize: Tokenize,
    /// Packing; only for `prep`.
    #[serde(default)]
    pub pack: Pack,
    /// What is written.
    #[serde(default)]
    pub shards: Shards,
}

fn seed() -> u64 {
    42
}

/// `[source]`. `hub` and `files` say where rows are fetched from when no input is given; they change no byte.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// A name of `read::shape::SHAPES`, or `auto`.
    pub shape: String,
    /// A data set id on the Hugging Face Hub.
    #[serde(skip_serializing)]
    pub hub: Option<String>,
    /// Which of its files, as a glob.
    #[serde(skip_serializing)]
    pub files: Option<String>,
    /// Which revision.
    #[serde(skip_serializing)]
    pub revision: Option<String>,
}

impl Default for Source {
    fn default() -> Source {
        Source { shape: "auto".to_owned(), hub: None, files: None, revision: None }
    }
}

/// `[truecase]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Truecase {
    /// Whether capitals are mended.
    pub enabled: bool,
    /// Whether `prompt_id` is taken before (`raw`) or after (`clean`) mending.
    pub id_from: IdFrom,
}

impl Default for Truecase {
    fn default() -> Truecase {
        Truecase { enabled: false, id_from: IdFrom::Clean }
    }
}

/// Which text the `prompt_id` hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdFrom {
    /// The prompt as the source has it.
    Raw,
    /// The prompt as it is written.
    Clean,
}

/// `[dedup]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dedup {
    /// Drop dialogues whose normalised text came before (`prep`), or rows whose bytes did (`binarize`).
    pub exact: bool,
    /// Drop dialogues that nearly repeat an earlier one; only for `prep`.
    pub near: bool,
    /// What of two dialogues is compared; only for `prep`.
    pub of: Compared,
    /// The Jaccard similarity of 5-word shingles from which two dialogues are near.
    pub threshold: f64,
}

impl Default for Dedup {
    fn default() -> Dedup {
        Dedup { exact: false, near: false, of: Compared::Dialogue, threshold: 0.7 }
    }
}

/// The part of a dialogue that dedup compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// The first user turn.
    Prompt,
    /// All turns.
    Dialogue,
    /// The last assistant turn.
    LastReply,
}

/// `[decontaminate]`. Without a set to search for it is off.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decontaminate {
    /// What happens to a row that gives an instance away.
    pub action: Action,
    /// An instance is given away by a row that shares more than this share of its words, in runs of eight.
    pub threshold: f64,
    /// The evaluation sets.
    pub against: Vec<Against>,
}

impl Default for Decontaminate {
    fn default() -> Decontaminate {
        Decontaminate { action: Action::Drop, threshold: 0.5, against: Vec::new() }
    }
}

/// What happens to contaminated rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// They are dropped.
    Drop,
    /// They stay, and the ledger says what was found.
    Flag,
}

/// `[[decontaminate.against]]`: one evaluation set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Against {
    /// What manifest and ledger call it.
    pub name: String,
    /// Its file: .jsonl (.gz, .zst), .json, .csv, .parquet or .arrow. Its place changes no byte, so it is not printed; its digest does.
    #[serde(default, skip_serializing)]
    pub path: Option<String>,
    /// The field that holds a text or a list of texts; dots reach inside (`turns.0.content`).
    pub field: String,
}

/// `[binarize]`. A preset fills what is not written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binarize {
    /// A published rule set.
    pub preset: Option<Preset>,
    /// Which replies are paired.
    pub strategy: Option<Strategy>,
    /// Which score decides.
    pub score_by: Option<ScoreBy>,
    /// Whether scores of 10 that were meant as 1 are mended (`OpenBMB/UltraFeedback` issue 8).
    pub repair: Option<bool>,
    /// Rows of these sources are dropped.
    pub drop_sources: Option<Vec<String>>,
    /// Tokens of prompt and answer together; longer pairs are cut as TRL's `keep_start` does.
    #[serde(default = "max_length")]
    pub max_length: usize,
}

fn max_length() -> usize {
    1024
}

/// `[template]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Template {
    /// `zephyr`, `tokenizer` (the tokenizer's own), or the path of a `.jinja` file.
    #[serde(serialize_with = "base_name")]
    pub name: String,
}

impl Default for Template {
    fn default() -> Template {
        Template { name: "zephyr".to_owned() }
    }
}

/// The place of a file changes no byte, so only its name is printed.
fn base_name<S: Serializer>(name: &str, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(name.rsplit(['/', '\\']).next().unwrap_or(name))
}

/// `[tokenize]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokenize {
    /// The tokenizer used when none is named on the command line: an id on the Hugging Face Hub, or a folder.
    #[serde(skip_serializing)]
    pub tokenizer: Option<String>,
    /// Which tokens are trained.
    pub train_on: TrainOn,
    /// What happens to rows whose content spells a control token.
    pub control_tokens: Policy,
}

impl Default for Tokenize {
    fn default() -> Tokenize {
        Tokenize { tokenizer: None, train_on: TrainOn::Assistant, control_tokens: Policy::Quarantine }
    }
}

/// Which tokens carry a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainOn {
    /// The assistant's words and the token that ends them.
    Assistant,
    /// Every token, as the original Zephyr run did.
    All,
}

/// `[pack]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pack {
    /// Tokens of a packed sample at most.
    pub seq_len: usize,
}

impl Default for Pack {
    fn default() -> Pack {
        Pack { seq_len: 2048 }
    }
}

/// `[shards]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shards {
    /// Share of prompts that go to the test split, by hash.
    pub test_fraction: f64,
    /// Whether the cleaned text is written beside the tokens.
    pub text: bool,
    /// Bytes of a shard at most.
    pub shard_bytes_max: u64,
}

impl Default for Shards {
    fn default() -> Shards {
        Shards { test_fraction: 0.1, text: true, shard_bytes_max: 512_000_000 }
    }
}

impl Recipe {
    /// Reads a recipe. `name` is what errors call it; `overrides` are dotted keys with values as TOML.
    pub fn read(text: &str, name: &str, overrides: &[(String, String)]) -> Result<Recipe> {
        let at = |error: &toml::de::Error| {
            let place = error.span().map_or(0, |span| span.start);
            Error::Recipe(format!("{name}:{}: {}", line_of(text, place), error.message().replace('\n', " ")))
        };
        let mut recipe: Recipe = toml::from_str(text).map_err(|error| at(&error))?;
        check_filters(text, name)?;
        if !overrides.is_empty() {
            let mut table: toml::Table = toml::from_str(text).map_err(|error| at(&error))?;
            for (key, value) in overrides {
                set(&mut table, key, value)?;
            }
            let keys: Vec<_> = overrides.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let wrong = |error: &dyn std::fmt::Display| Error::Recipe(format!("--set {}: {error}", keys.join(" --set ")));
            recipe = Recipe::deserialize(table).map_err(|error| wrong(&error.message()))?;
            for filter in recipe.filters.clone() {
                filter::build(filter).map_err(|error| wrong(&error))?;
            }
        }
        recipe.check(name)?;
        Ok(recipe)
    }

    /// The recipe with every key, as TOML: what the manifest keeps.
    pub fn print(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::Internal(format!("a recipe does not print: {error}")))
    }

    fn check(&self, name: &str) -> Result<()> {
        let wrong = |key: &str, rule: &str| Err(Error::Recipe(format!("{name}: `{key}` must be {rule}")));
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
        if sets.iter().enumerate().any(|(place, set)| set.name.is_empty() || sets[..place].iter().any(|other| other.name == set.name)) {
            return wrong("name", "there and different in every [[decontaminate.against]]");
        }
        if !(8..=1 << 20).contains(&self.pack.seq_len) {
            return wrong("pack.seq_len", "between 8 and 1048576");
        }
        if self.binarize.as_ref().is_some_and(|binarize| !(8..=1 << 20).contains(&binarize.max_length)) {
            return wrong("binarize.max_length", "between 8 and 1048576");
        }
        if self.shards.shard_bytes_max < 1 << 20 {
            return wrong("shards.shard_bytes_max", "at least 1048576");
        }
        if self.source.shape != "auto" {
            crate::read::shape::named(&self.source.shape)?;
        }
        Ok(())
    }
}

/// The line, from 1, on which a byte of the text stands.
fn line_of(text: &str, place: usize) -> usize {
    1 + text.as_bytes()[..place.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
}

/// Builds every filter once, so that a wrong key in one is found with its line.
fn check_filters(text: &str, name: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Filters {
        #[serde(default, rename = "filter")]
        filters: Vec<Spanned<toml::Table>>,
    }
    let Ok(Filters { filters }) = toml::from_str(text) else { return Ok(()) };
    for filter in filters {
        let line = line_of(text, filter.span().start);
        filter::build(filter.into_inner()).map_err(|error| Error::Recipe(format!("{name}:{line}: {error}")))?;
    }
    Ok(())
}

/// Puts a value under a dotted key; a number within the key is a place in a list.
fn set(table: &mut toml::Table, key: &str, value: &str) -> Result<()> {
    let wrong = |why: &str| Error::Recipe(format!("--set {key}={value}: {why}"));
    // What is no TOML value is meant as a string: `--set binarize.preset=argilla`.
    let value = format!("value = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let (path, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut here = table;
    let mut parts = path.split('.').filter(|part| !part.is_empty()).peekable();
    while let Some(part) = parts.next() {
        let next = here.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        here = match next {
            toml::Value::Table(table) => table,
            toml::Value::Array(items) => {
                let place =
                    parts.next().and_then(|place| place.parse::<usize>().ok()).ok_or_else(|| wrong("a list needs a number here"))?;
                items.get_mut(place).and_then(toml::Value::as_table_mut).ok_or_else(|| wrong("the list is shorter"))?
            }
            _ => return Err(wrong("a part of the key is a value, not a table")),
        };
    }
    here.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, overrides: &[(&str, &str)]) -> String {
        let overrides: Vec<_> = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Recipe::read(text, "recipes/x.toml", &overrides).expect_err("must be refused").to_string()
    }

    #[test]
    fn an_unknown_key_or_filter_is_refused_with_its_line() {
        let text = "seed = 1\n\n[pack]\nseq_len = 64\nlength = 3\n";
        assert!(error(text, &[]).starts_with("recipes/x.toml:5: unknown field `length`"), "{}", error(text, &[]));
        let text = "seed = 1\n[[filter]]\nkind = \"structure\"\n[[filter]]\nkind = \"lenght\"\n";
        assert_eq!(error(text, &[]), "recipes/x.toml:4: unknown filter `lenght`; known: structure, length, phrases");
        let text = "[[filter]]\nkind = \"length\"\nturns = 3\n";
        assert!(error(text, &[]).starts_with("recipes/x.toml:1: filter `length`: unknown field `turns`"));
    }

    #[test]
    fn every_key_can_be_set_from_outside() {
        let overrides = [("pack.seq_len", "512"), ("binarize.preset", "argilla"), ("filter.0.turns_max", "4")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let recipe = Recipe::read("[[filter]]\nkind = \"length\"\n", "x", &overrides).expect("is a recipe");
        assert_eq!(recipe.pack.seq_len, 512);
        assert_eq!(recipe.binarize.as_ref().and_then(|binarize| binarize.preset), Some(Preset::Argilla));
        assert_eq!(recipe.filters[0]["turns_max"].as_integer(), Some(4));
        assert!(error("", &[("pack.seq", "1")]).starts_with("--set pack.seq=1: unknown field `seq`"));
    }

    #[test]
    fn a_printed_recipe_reads_back_as_itself() {
        let recipe = Recipe::read("[binarize]\npreset = \"h4-v1\"\n[[filter]]\nkind = \"structure\"\n", "x", &[]).expect("is a recipe");
        let printed = recipe.print().expect("prints");
        assert_eq!(Recipe::read(&printed, "x", &[]).expect("reads back").print().expect("prints"), printed);
    }
}
