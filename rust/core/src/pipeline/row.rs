//! Processes a single row, from raw bytes to tokens. Deduplication is excluded, so any thread may
//! run this.
//!
//! [`RowPipeline::visit`] processes a row up to deduplication. [`RowPipeline::finish`] encodes a
//! row that is kept.

use serde_json::Value;

use crate::binarize::doubts::{self, Verdict};
use crate::control_tokens::ControlTokens;
use crate::dataset::product::Product;
use crate::decontaminate::Index;
use crate::dedup::{Repeat, Signature, sign, sign_bytes};
use crate::dialogue::{Content, Dialogue, Example, Role, Turn};
use crate::encode::{Encoded, Encoding};
use crate::error::{Error, Result};
use crate::filter;
use crate::normal::{hash64, normalised, sha256_hex};
use crate::pipeline::fit;
use crate::pipeline::product::{self, Made, Rules};
use crate::progress::Watch;
use crate::read::LINE_BYTES_MAX;
use crate::read::shape::renamed::Renaming;
use crate::read::shape::role_words::RoleWord;
use crate::read::shape::unread::Unread;
use crate::read::shape::{self, Shape};
use crate::recipe::{Action, IdFrom, Recipe};
use crate::stage::{Code, Ending, Notes, Reason, Stage};
use crate::tokenize::Tokenizer;
use crate::truecase::Truecase;

/// The version of the rule that splits train from test.
pub const SPLIT_VERSION: u32 = 1;

/// All steps of the pipeline, built once and shared by all threads.
pub struct RowPipeline {
    /// The product to build.
    pub product: Product,
    /// The recipe, resolved.
    pub recipe: Recipe,
    /// Template and tokenizer, or `None` for a text-only dataset.
    pub encoding: Option<Encoding>,
    /// The evaluation sets to search for, if the recipe names any.
    pub evaluation_sets: Option<Index>,
    stages: Vec<Box<dyn Stage>>,
    rules: Option<Box<dyn Rules>>,
    control: Option<ControlTokens>,
    shape: Option<&'static Shape>,
    /// The names that the recipe gives to the columns and roles of the rows.
    pub renaming: Option<Renaming>,
}

/// A row that is still kept: parsed, cleaned, paired and signed.
#[derive(Debug)]
pub struct Cleaned {
    /// The dialogue.
    pub dialogue: Dialogue,
    /// Its examples, unless dialogues are packed.
    pub examples: Vec<Example>,
    /// Its signature for deduplication, if enabled.
    pub signature: Option<Signature>,
    /// The verdict of each example, to compare with other rows.
    pub verdicts: Vec<Option<Verdict>>,
    /// The reasons of doubtful examples, kept or not.
    pub doubts: Vec<Code>,
}

impl Cleaned {
    /// A row with its examples, without the doubtful ones if `drops`.
    fn new(
        dialogue: Dialogue,
        mut made: Vec<Made>,
        signature: Option<Signature>,
        drops: bool,
    ) -> std::result::Result<Cleaned, Reason> {
        let found: Vec<Option<Reason>> = made.iter().map(|made| made.doubt.clone()).collect();
        if drops {
            doubts::remove(&mut made, &found)?;
        }
        let doubts = found.iter().flatten().map(|reason| reason.code).collect();
        let (examples, verdicts) =
            made.into_iter().map(|made| (made.example, made.verdict)).unzip();
        Ok(Cleaned { dialogue, examples, signature, verdicts, doubts })
    }

    /// Records the doubts about examples, one entry per example, and removes these examples if
    /// `drops`. Returns the reason of a doubt if no example is left.
    pub fn settle(
        &mut self,
        doubts: &[Option<Reason>],
        drops: bool,
    ) -> std::result::Result<(), Reason> {
        self.doubts.extend(doubts.iter().flatten().map(|reason| reason.code));
        if drops { doubts::remove(&mut self.examples, doubts) } else { Ok(()) }
    }
}

/// The outcome of a row. It starts as `GoingOn` and ends as another variant.
#[derive(Debug)]
pub enum Outcome {
    /// Undecided: not encoded yet.
    GoingOn(Box<Cleaned>),
    /// Removed by a rule of the recipe.
    Dropped(Reason),
    /// Repeats an earlier row.
    Duplicate(Repeat),
    /// Must not be used unchanged.
    Quarantined(Reason),
    /// Could not be read.
    Unreadable(Reason),
    /// Written, with these tokens.
    Written(Box<Cleaned>, Encoded),
}

impl From<Reason> for Outcome {
    fn from(reason: Reason) -> Outcome {
        match reason.code.ending() {
            Ending::Dropped => Outcome::Dropped(reason),
            Ending::Quarantined => Outcome::Quarantined(reason),
            Ending::Unreadable => Outcome::Unreadable(reason),
        }
    }
}

impl Outcome {
    /// Returns the outcome as in the ledger, and its reason.
    #[must_use]
    pub fn name_and_reason(&self) -> (&'static str, Option<&Reason>) {
        match self {
            Outcome::GoingOn(_) => ("undecided", None),
            Outcome::Dropped(reason) => ("dropped", Some(reason)),
            Outcome::Duplicate(_) => ("duplicate", None),
            Outcome::Quarantined(reason) | Outcome::Unreadable(reason) => {
                ("quarantined", Some(reason))
            }
            Outcome::Written(..) => ("written", None),
        }
    }
}

/// The result of the first half of the pipeline.
#[derive(Debug)]
pub struct Visited {
    /// The shape by which the row was read, or `None` if its columns match no shape.
    pub shape: Option<&'static Shape>,
    /// The source's own id.
    pub id: Option<String>,
    /// SHA-256 of the prompt.
    pub prompt_id: Option<String>,
    /// The changes by the stages.
    pub notes: Notes,
    /// Its outcome so far.
    pub outcome: Outcome,
    /// Columns that were not read, without those that an earlier row of the same thread had.
    pub unread: Vec<String>,
    /// Words for roles, without those that an earlier row of the same thread had.
    pub role_words: Vec<RoleWord>,
}

impl RowPipeline {
    /// Builds all steps. Reports every fault of recipe, tokenizer and template. A recipe that
    /// writes tokens needs a tokenizer.
    pub fn new(
        product: Product,
        recipe: Recipe,
        tokenizer: Option<Tokenizer>,
    ) -> Result<RowPipeline> {
        RowPipeline::watched(product, recipe, tokenizer, &Watch::default())
    }

    /// Like `new`, but can be cancelled, since reading evaluation sets may be slow.
    pub fn watched(
        product: Product,
        mut recipe: Recipe,
        tokenizer: Option<Tokenizer>,
        watch: &Watch,
    ) -> Result<RowPipeline> {
        fit::resolve(product, &mut recipe)?;
        if recipe.shards.tokens != tokenizer.is_some() {
            let message = if recipe.shards.tokens {
                "a tokenizer is required unless `shards.tokens = false`"
            } else {
                "a tokenizer cannot be used with `shards.tokens = false`"
            };
            return Err(Error::Config(message.to_owned()));
        }
        let mut stages: Vec<Box<dyn Stage>> = Vec::new();
        if recipe.truecase.enabled {
            stages.push(Box::new(Truecase(recipe.truecase.rules)));
        }
        for table in recipe.filters.clone() {
            stages.push(filter::build(table)?);
        }
        let steps = product::of(product);
        let tokens_max = (steps.tokens_max)(&recipe);
        let encoding =
            tokenizer.map(|tokenizer| Encoding::new(&recipe, tokenizer, tokens_max)).transpose()?;
        let control = encoding.as_ref().map(|encoding| {
            ControlTokens::new(
                &encoding.tokenizer.special_texts(),
                &encoding.template.markers(),
                recipe.tokenize.control_tokens,
            )
        });
        let rules = (steps.rules)(&recipe);
        let shape = match recipe.source.shape.as_str() {
            "auto" => None,
            name => Some(shape::named(name)?),
        };
        let renaming = Renaming::of(&recipe.source)?;
        let evaluation_sets = Index::load(&recipe.decontaminate, watch)?;
        Ok(RowPipeline {
            product,
            recipe,
            encoding,
            evaluation_sets,
            stages,
            rules,
            control: control.transpose()?,
            shape,
            renaming,
        })
    }

    /// Returns the usual shape of an input: from the recipe, or that of most of its first rows.
    #[must_use]
    pub fn usual_shape<'row>(
        &self,
        rows: impl Iterator<Item = &'row [u8]>,
    ) -> Option<&'static Shape> {
        let compares = !self.product.is_packed();
        self.shape.or_else(|| match &self.renaming {
            None => shape::usual(rows, compares),
            Some(renaming) => {
                shape::usual(rows.filter_map(|row| renaming.apply(row).ok()), compares)
            }
        })
    }

    /// Reads, cleans, filters and pairs a row. `usual` is the usual shape of its input. `length` is
    /// the row's true length, which `bytes` may be cut short of. `unread` knows the columns that
    /// earlier rows of the input had.
    #[must_use]
    pub fn visit(
        &self,
        usual: Option<&'static Shape>,
        bytes: &[u8],
        length: u64,
        unread: &mut Unread,
    ) -> Visited {
        let mut notes = Notes::default();
        let (shape, read) = self.read(usual, bytes, length, unread);
        let mut dialogue = match read {
            Ok(dialogue) => dialogue,
            Err(reason) => {
                let (outcome, unread, role_words) = (reason.into(), Vec::new(), Vec::new());
                let (id, prompt_id) = (None, None);
                return Visited { shape, id, prompt_id, notes, outcome, unread, role_words };
            }
        };
        let (role_words, unread) = (unread.take_new_role_words(), unread.take_new());
        let id = dialogue.id.take();
        let raw_prompt_id = (self.recipe.truecase.id_from == IdFrom::Raw)
            .then(|| sha256_hex(dialogue.prompt().as_bytes()));
        let passed =
            self.stages.iter().try_for_each(|stage| stage.visit(&mut dialogue, &mut notes));
        notes.control_tokens =
            self.control.as_ref().map_or(0, |control| control.neutralize(&mut dialogue));
        let prompt_id = raw_prompt_id.unwrap_or_else(|| sha256_hex(dialogue.prompt().as_bytes()));
        let judged = passed.and_then(|()| self.judge(dialogue, bytes, &prompt_id, &mut notes));
        let outcome =
            judged.map_or_else(Outcome::from, |cleaned| Outcome::GoingOn(Box::new(cleaned)));
        let prompt_id = Some(prompt_id);
        Visited { shape, id, prompt_id, notes, outcome, unread, role_words }
    }

    /// Returns a row as a dialogue, and the shape by which it was read.
    fn read(
        &self,
        usual: Option<&'static Shape>,
        bytes: &[u8],
        length: u64,
        unread: &mut Unread,
    ) -> (Option<&'static Shape>, std::result::Result<Dialogue, Reason>) {
        if length > LINE_BYTES_MAX as u64 {
            let detail = format!("{length} bytes (limit: {LINE_BYTES_MAX})");
            return (None, Err(Reason::found(Code::LineTooLong, detail)));
        }
        let read = |bytes: &[u8], unread: &mut Unread| match self.shape {
            Some(shape) => (Some(shape), shape.parse_whole(bytes, unread)),
            None => shape::read(bytes, usual, !self.product.is_packed(), unread),
        };
        match &self.renaming {
            None => read(bytes, unread),
            Some(renaming) => renaming.read(bytes, unread, read),
        }
    }

    /// Makes examples of a cleaned dialogue, looks for control tokens and evaluation sets, and signs
    /// it.
    fn judge(
        &self,
        mut dialogue: Dialogue,
        bytes: &[u8],
        prompt_id: &str,
        notes: &mut Notes,
    ) -> std::result::Result<Cleaned, Reason> {
        let made = match &self.rules {
            None => Vec::new(),
            Some(rules) => rules.examples(&mut dialogue, prompt_id)?,
        };
        let turns = dialogue.turns.iter().map(|turn| turn.text.as_str());
        let answers = made.iter().flat_map(|made| &made.example.completions).map(String::as_str);
        if let Some(token) = self.control.as_ref().and_then(|control| {
            let texts = turns.chain(answers).chain(dialogue.other_texts());
            texts.into_iter().find_map(|text| control.find(text))
        }) {
            return Err(Reason::found(Code::ControlToken, token));
        }
        if let Some(sets) = &self.evaluation_sets {
            notes.contamination = sets.find(&dialogue);
            if !notes.contamination.is_empty() && self.recipe.decontaminate.action == Action::Drop {
                return Err(Reason::found(Code::Contaminated, sets.names(&notes.contamination)));
            }
        }
        let dedup = &self.recipe.dedup;
        let signature = (dedup.is_exact() || dedup.near).then(|| {
            if self.product.is_packed() { sign(&dialogue, dedup) } else { sign_bytes(bytes) }
        });
        Cleaned::new(dialogue, made, signature, self.drops_doubtful())
    }

    /// Whether doubtful examples are dropped.
    pub(super) fn drops_doubtful(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.drops_doubtful())
    }

    /// Encodes a row that is kept. Returns its tokens, or the reason for which it has no tokens.
    #[must_use]
    pub fn finish(&self, mut cleaned: Box<Cleaned>) -> Outcome {
        let drops = self.drops_doubtful();
        let encoded = match &self.encoding {
            None => check_text(&cleaned.dialogue).map(|()| Encoded::of_text()),
            Some(encoding) if self.product.is_packed() => encoding.dialogue(&cleaned.dialogue),
            Some(encoding) => encoding.examples(&cleaned.dialogue, &cleaned.examples, !drops),
        };
        let settled = encoded.and_then(|encoded| {
            let doubt = |is_one: &bool| is_one.then(|| Code::IdenticalWhenTruncated.into());
            let doubts: Vec<Option<Reason>> = encoded.identical.iter().map(doubt).collect();
            cleaned.settle(&doubts, drops).map(|()| encoded)
        });
        match settled {
            Ok(encoded) => Outcome::Written(cleaned, encoded),
            Err(reason) => reason.into(),
        }
    }

    /// Returns the split of a dialogue. It depends only on the first prompt, so no prompt is in
    /// both splits, and splits are stable when data is added.
    #[must_use]
    pub fn split(&self, dialogue: &Dialogue) -> &'static str {
        let hash = hash64(&format!("split:{}", normalised(dialogue.prompt())));
        let bound = self.recipe.shards.test_fraction * 2_f64.powi(64);
        if (hash as f64) < bound { "test" } else { "train" }
    }
}

/// Refuses a dialogue that role and text alone do not hold, if only these are written.
fn check_text(dialogue: &Dialogue) -> std::result::Result<(), Reason> {
    let field_of = |(index, turn): (usize, &Turn)| {
        let extras = turn.extras.as_deref()?;
        let is_said = |(_, value): &(&String, &Value)| **value != "";
        let member = extras.members.iter().find(is_said).map(|(name, _)| name.as_str());
        let content = (extras.content != Content::Text).then_some("content");
        let flag = (turn.role == Role::Assistant && !turn.is_trained()).then_some("weight");
        Some(format!("messages[{index}].{}", member.or(content).or(flag)?))
    };
    let field = match dialogue.turns.iter().enumerate().find_map(field_of) {
        Some(field) => field,
        None if dialogue.inputs.is_some() => "tools".to_owned(),
        None => return Ok(()),
    };
    Err(Reason::found(
        Code::UnsupportedField,
        format!("`{field}`: a text dataset holds roles and contents only; write tokens instead"),
    ))
}
