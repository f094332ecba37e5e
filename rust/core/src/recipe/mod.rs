//! A data recipe, read from TOML. Missing keys get defaults, and unknown keys are errors that name
//! file and line.

#[macro_use]
mod named;
mod read;
mod show;
mod tokens;
mod truecase;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::tokens::{Policy, Template, Tokenize, TrainEnd, TrainOn};

pub use truecase::{IdFrom, Truecase, TruecaseRules};

/// Everything that decides the output bytes, except the inputs, the tokenizer and the template.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Recipe {
    /// Keys all chance, together with each row's `prompt_id`.
    #[serde(default = "seed")]
    pub seed: u64,
    /// How dialogues are packed: as this version does, or as when Zephyr was trained.
    #[serde(default)]
    pub compat: Compat,
    /// Origin and shape of the rows.
    #[serde(default)]
    pub source: Source,
    /// Capitals.
    #[serde(default)]
    pub truecase: Truecase,
    /// Filters, in order; see `filter::FILTERS`.
    #[serde(default, rename = "filter")]
    #[cfg_attr(test, schemars(with = "Vec<serde_json::Value>"))]
    pub filters: Vec<toml::Table>,
    /// Duplicates.
    #[serde(default)]
    pub dedup: Dedup,
    /// Evaluation sets to keep out.
    #[serde(default)]
    pub decontaminate: Decontaminate,
    /// How scored completions become pairs. Only for `binarize`.
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
    /// Output files.
    #[serde(default)]
    pub shards: Shards,
    /// The dotted keys that were overridden in the recipe.
    #[serde(skip)]
    pub overridden: Vec<String>,
}

impl Recipe {
    /// The keys that limit the tokens of an example, with their values.
    fn token_limits(&self) -> [(&'static str, Option<usize>); 2] {
        let binarize = self.binarize.as_ref();
        [
            ("pack.seq_len", Some(self.pack.seq_len)),
            ("binarize.max_length", binarize.map(|binarize| binarize.max_length)),
        ]
    }
}

fn seed() -> u64 {
    42
}

/// How a dialogue becomes part of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Compat {
    /// One BOS and one EOS, documents whole and kept apart, the assistant's words trained.
    #[default]
    #[serde(rename = "modern")]
    Modern,
    /// As zephyr-7b-beta was trained, by TRL 0.7 and the handbook of its time: an empty system turn
    /// first if the template supports system turns, an extra EOS last, a label for every token, and
    /// sequences cut without regard to documents.
    #[serde(rename = "trl-0.7")]
    Trl07,
}

/// `[source]`. `hub` and `files` name the dataset to download without `--input`. They do not affect
/// the output.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Source {
    /// A name of `read::shape::SHAPES`, or `auto`.
    pub shape: String,
    /// A dataset id on the Hugging Face Hub.
    #[serde(skip_serializing)]
    pub hub: Option<String>,
    /// Which of its files, as a glob.
    #[serde(skip_serializing)]
    pub files: Option<String>,
    /// Which revision.
    #[serde(skip_serializing)]
    pub revision: Option<String>,
    /// Columns that are not read, even if they would be used or refused. `messages.weight` is the
    /// field `weight` of each message in `messages`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// How the rows call a column, such as `prompt = "question"`, or a field of messages, such as
    /// `content = "text"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Which role a word of the rows stands for, such as `bot = "assistant"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, String>,
}

impl Default for Source {
    fn default() -> Source {
        Source {
            shape: "auto".to_owned(),
            hub: None,
            files: None,
            revision: None,
            ignore: Vec::new(),
            columns: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }
}

/// `[dedup]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Dedup {
    /// Drop dialogues whose messages came before (`prep`; case and white space count only in code),
    /// or rows whose bytes did (`binarize`). The default is false, or set by the preset.
    pub exact: Option<bool>,
    /// Drop dialogues that nearly repeat an earlier one; only for `prep`.
    pub near: bool,
    /// The part of two dialogues that is compared. Only for `prep`.
    pub of: Compared,
    /// The Jaccard similarity of the shingles of five words from which two dialogues are near. If
    /// both have at most 64 words, their signs, code and borders between messages count too.
    pub threshold: f64,
}

impl Dedup {
    /// Whether exact repeats are dropped.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.exact.unwrap_or(false)
    }
}

impl Default for Dedup {
    fn default() -> Dedup {
        Dedup { exact: None, near: false, of: Compared::Dialogue, threshold: 0.7 }
    }
}

named! {
    /// The part of a dialogue that dedup compares.
    pub enum Compared {
        /// The first user turn.
        Prompt "prompt",
        /// All turns.
        Dialogue "dialogue",
        /// The last assistant turn.
        LastReply "last_reply",
    }
}

/// `[decontaminate]`. Without a set to search for it is off.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Decontaminate {
    /// Action on a row that matches an instance.
    pub action: Action,
    /// Share of an instance's words, in runs of eight, above which a row matches it.
    pub threshold: f64,
    /// The evaluation sets.
    pub against: Vec<Against>,
}

impl Default for Decontaminate {
    fn default() -> Decontaminate {
        Decontaminate { action: Action::Drop, threshold: 0.5, against: Vec::new() }
    }
}

named! {
    /// Action on contaminated rows.
    pub enum Action {
        /// Drop them.
        Drop "drop",
        /// Keep them, and record the matches in the ledger.
        Flag "flag",
    }
}

/// `[[decontaminate.against]]`: one evaluation set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Against {
    /// Its name in manifest and ledger.
    pub name: String,
    /// Its file: .jsonl (.gz, .zst), .json, .csv, .parquet or .arrow. Its path does not affect the
    /// output, so it is not recorded; its digest is.
    #[serde(default, skip_serializing)]
    pub path: Option<String>,
    /// The field that holds a text or a list of texts; dots reach inside (`turns.0.content`).
    pub field: String,
}

/// `[binarize]`. A preset sets the keys that are missing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Binarize {
    /// A published rule set.
    pub preset: Option<Preset>,
    /// Which completions are paired.
    pub strategy: Option<Strategy>,
    /// Which score decides.
    pub score_by: Option<ScoreBy>,
    /// Whether scores of 10 that were meant as 1 are corrected (`OpenBMB/UltraFeedback` issue 8).
    pub repair: Option<bool>,
    /// Rows of these sources are dropped.
    pub drop_sources: Option<Vec<String>>,
    /// Action on pairs that teach nothing or the wrong thing: an empty chosen completion, one
    /// that scores no higher than the rejected one, two that are equal once they are truncated, and
    /// the opposite of an earlier row. Without a preset they are dropped. Presets keep them, as the
    /// published datasets do. The manifest counts them.
    pub doubtful_pairs: Option<DoubtfulPairs>,
    /// Tokens of prompt and answer together; longer pairs are cut as TRL's `keep_start` does.
    #[serde(default = "max_length")]
    pub max_length: usize,
}

named! {
    /// A published set of rules.
    pub enum Preset {
        /// The paper's words: best mean of the aspects against a random other.
        Paper "paper",
        /// What trained zephyr-7b-beta (October 2023): overall score without correction, rejected by a
        /// generator that restarts at 42 in every row.
        H4V1 "h4-v1",
        /// The rules of the January 2024 set: corrected overall score, no TruthfulQA, a random
        /// other.
        H4V2Rules "h4-v2-rules",
        /// Best mean of the aspects against a random lower one.
        Argilla "argilla",
    }
}

impl Preset {
    /// Whether the published set dropped rows that repeat an earlier one.
    #[must_use]
    pub fn drops_duplicates(self) -> bool {
        match self {
            Preset::H4V1 | Preset::H4V2Rules => false,
            Preset::Paper | Preset::Argilla => true,
        }
    }
}

named! {
    /// How pairs are picked. Chosen is the first completion of the highest score, in every
    /// strategy.
    pub enum Strategy {
        /// Rejected is any other completion with another text, whatever its score.
        BestVsRandom "best-vs-random",
        /// Rejected is any completion with a lower score.
        BestVsRandomLower "best-vs-random-lower",
        /// Rejected is the last of the lowest score.
        BestVsWorst "best-vs-worst",
        /// One pair for every completion with a lower score.
        AllLower "all-lower",
        /// Rejected is what CPython's `random.choice`, seeded with 42 in every row, draws first
        /// that is not the chosen one.
        BestVsDraw "best-vs-draw",
    }
}

named! {
    /// Action on doubtful pairs.
    pub enum DoubtfulPairs {
        /// They are not written.
        Drop "drop",
        /// They are written.
        Keep "keep",
    }
}

named! {
    /// Which number of a completion is its score.
    pub enum ScoreBy {
        /// The critique's overall score, 1 to 10.
        Overall "overall",
        /// The published mean of the ratings.
        FineGrained "fine_grained",
        /// The mean of the ratings that are there; `N/A` does not count.
        MeanAspects "mean_aspects",
        /// One aspect, 1 to 5.
        InstructionFollowing "instruction_following",
        /// One aspect, 1 to 5.
        Honesty "honesty",
        /// One aspect, 1 to 5.
        Truthfulness "truthfulness",
        /// One aspect, 1 to 5.
        Helpfulness "helpfulness",
    }
}

fn max_length() -> usize {
    1024
}

/// `[pack]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Pack {
    /// Maximum tokens per packed sequence.
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Shards {
    /// Share of prompts that go to the test split, by hash.
    pub test_fraction: f64,
    /// Whether tokens are written. Without them no tokenizer, no template and no search for control
    /// tokens is needed.
    pub tokens: bool,
    /// Whether the cleaned text is written.
    pub text: bool,
    /// Maximum bytes of a shard.
    pub shard_bytes_max: u64,
}

impl Default for Shards {
    fn default() -> Shards {
        Shards { test_fraction: 0.1, tokens: true, text: true, shard_bytes_max: 512_000_000 }
    }
}
