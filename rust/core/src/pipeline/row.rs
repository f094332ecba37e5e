//! What happens to one row, start to end but for dedup: the part of the walk that any thread may
//! run.
//!
//! [`RowPipeline::visit`] takes a row to where dedup can judge it; [`RowPipeline::finish`] makes text and tokens
//! of a row that stays.

use crate::binarize::Rules;
use crate::control_tokens::ControlTokens;
use crate::dataset::product::Product;
use crate::decontaminate::Index;
use crate::dedup::{Repeat, Signature, sign, sign_bytes};
use crate::dialogue::{Dialogue, Pair, Replies};
use crate::encode::{Encoded, Encoding};
use crate::error::{Error, Result};
use crate::filter;
use crate::normal::{hash64, normalised, sha256_hex};
use crate::pipeline::fit;
use crate::progress::Watch;
use crate::read::LINE_BYTES_MAX;
use crate::read::shape::{self, Shape};
use crate::recipe::{Action, IdFrom, Recipe};
use crate::stage::{Code, Ending, Notes, Reason, Stage};
use crate::tokenize::Tokenizer;
use crate::truecase::Truecase;

/// The version of the rule that splits train from test.
pub const SPLIT_VERSION: u32 = 1;

/// Everything a row meets, built once and shared by all threads.
pub struct RowPipeline {
    /// What is made.
    pub product: Product,
    /// The recipe, resolved.
    pub recipe: Recipe,
    /// What makes tokens of text; none where the recipe wants text alone.
    pub encoding: Option<Encoding>,
    /// The evaluation sets to keep out, where the recipe names any.
    pub evaluation_sets: Option<Index>,
    stages: Vec<Box<dyn Stage>>,
    rules: Option<Rules>,
    control: Option<ControlTokens>,
    shape: Option<&'static Shape>,
}

/// A row that goes on: read, cleaned, paired and signed.
#[derive(Debug)]
pub struct Cleaned {
    /// The dialogue.
    pub dialogue: Dialogue,
    /// Its pairs, where pairs are made.
    pub pairs: Vec<Pair>,
    /// What dedup compares, where it is on.
    pub signature: Option<Signature>,
}

/// What has become of a row. It begins as the first of these and ends as one of the others.
#[derive(Debug)]
pub enum Outcome {
    /// It goes on.
    GoingOn(Box<Cleaned>),
    /// It is not wanted.
    Dropped(Reason),
    /// An earlier row says the same.
    Duplicate(Repeat),
    /// It must not be used as it is.
    Quarantined(Reason),
    /// It could not be read.
    Unreadable(Reason),
    /// It is written, with these tokens.
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
    /// The ledger's word for it, and why it is so.
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

/// What the first half of the walk says of a row.
#[derive(Debug)]
pub struct Visited {
    /// The source's own id.
    pub id: Option<String>,
    /// SHA-256 of the prompt.
    pub prompt_id: Option<String>,
    /// What the stages did.
    pub notes: Notes,
    /// What has become of it.
    pub outcome: Outcome,
}

impl RowPipeline {
    /// Builds all parts of the walk; whatever is wrong with recipe, tokenizer or template is found
    /// here. A tokenizer goes with a recipe that wants tokens.
    pub fn new(
        product: Product,
        recipe: Recipe,
        tokenizer: Option<Tokenizer>,
    ) -> Result<RowPipeline> {
        RowPipeline::watched(product, recipe, tokenizer, &Watch::default())
    }

    /// The same, until a watch says stop: evaluation sets take a while to read.
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
            stages.push(Box::new(Truecase));
        }
        for table in recipe.filters.clone() {
            stages.push(filter::build(table)?);
        }
        let encoding = tokenizer.map(|tokenizer| Encoding::new(&recipe, tokenizer)).transpose()?;
        let control = encoding.as_ref().map(|encoding| {
            ControlTokens::new(
                &encoding.tokenizer.special_texts(),
                encoding.template.written(),
                recipe.tokenize.control_tokens,
            )
        });
        let rules = recipe.binarize.as_ref().map(|binarize| Rules::new(binarize, recipe.seed));
        let shape = match recipe.source.shape.as_str() {
            "auto" => None,
            name => Some(shape::named(name)?),
        };
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
        })
    }

    /// The shape of an input, told by its first readable row unless the recipe names it.
    #[must_use]
    pub fn shape<'row>(&self, mut rows: impl Iterator<Item = &'row [u8]>) -> &'static Shape {
        let compares = fit::compares(self.product);
        self.shape
            .or_else(|| rows.find_map(|row| shape::detect(row, compares)))
            .unwrap_or_else(|| shape::default_of(compares))
    }

    /// Reads, cleans, filters and pairs a row. `length` is the row's true length, which `bytes` may
    /// be cut short of.
    #[must_use]
    pub fn visit(&self, shape: &Shape, bytes: &[u8], length: u64) -> Visited {
        let mut notes = Notes::default();
        let mut dialogue = match parse(shape, bytes, length) {
            Ok(dialogue) => dialogue,
            Err(reason) => {
                return Visited { id: None, prompt_id: None, notes, outcome: reason.into() };
            }
        };
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
        Visited { id, prompt_id: Some(prompt_id), notes, outcome }
    }

    /// Pairs a cleaned dialogue, looks for control tokens and evaluation sets, and signs it.
    fn judge(
        &self,
        mut dialogue: Dialogue,
        bytes: &[u8],
        prompt_id: &str,
        notes: &mut Notes,
    ) -> std::result::Result<Cleaned, Reason> {
        let pairs = self
            .rules
            .as_ref()
            .map(|rules| rules.pairs(&mut dialogue, prompt_id))
            .transpose()?
            .unwrap_or_default();
        let turns = dialogue.turns.iter().map(|turn| turn.text.as_str());
        let answers = pairs.iter().flat_map(|pair| [pair.chosen.as_str(), pair.rejected.as_str()]);
        if let Some(token) = self
            .control
            .as_ref()
            .and_then(|control| turns.chain(answers).find_map(|text| control.find(text)))
        {
            return Err(Reason::found(Code::ControlToken, token));
        }
        if let Some(sets) = &self.evaluation_sets {
            notes.contamination = sets.find(&dialogue);
            if !notes.contamination.is_empty() && self.recipe.decontaminate.action == Action::Drop {
                return Err(Reason::found(Code::Contaminated, sets.names(&notes.contamination)));
            }
        }
        let dedup = &self.recipe.dedup;
        let signature = (dedup.exact || dedup.near).then(|| match self.product {
            Product::Windows => sign(&dialogue, dedup),
            Product::Pairs => sign_bytes(bytes),
        });
        Ok(Cleaned { dialogue, pairs, signature })
    }

    /// What becomes of a row that stays: its tokens, or why there are none.
    #[must_use]
    pub fn finish(&self, cleaned: Box<Cleaned>) -> Outcome {
        let encoded = match (&self.encoding, self.product) {
            (None, _) => Ok(Encoded::of_text()),
            (Some(encoding), Product::Windows) => encoding.dialogue(&cleaned.dialogue.turns),
            (Some(encoding), Product::Pairs) => {
                encoding.pairs(&cleaned.dialogue.turns, &cleaned.pairs)
            }
        };
        match encoded {
            Ok(encoded) => Outcome::Written(cleaned, encoded),
            Err(reason) => reason.into(),
        }
    }

    /// The split a dialogue belongs to: by its first prompt alone, so that no prompt is on both
    /// sides and splits stay as data are added.
    #[must_use]
    pub fn split(&self, dialogue: &Dialogue) -> &'static str {
        let hash = hash64(&format!("split:{}", normalised(dialogue.prompt())));
        let bound = self.recipe.shards.test_fraction * 2_f64.powi(64);
        if (hash as f64) < bound { "test" } else { "train" }
    }
}

/// A row as a dialogue. `length` is the row's true length, which `bytes` may be cut short of.
fn parse(shape: &Shape, bytes: &[u8], length: u64) -> std::result::Result<Dialogue, Reason> {
    if length > LINE_BYTES_MAX as u64 {
        return Err(Reason::found(
            Code::LineTooLong,
            format!("{length} bytes (limit: {LINE_BYTES_MAX})"),
        ));
    }
    (shape.parse)(bytes)
}

/// Messages of a dialogue with its answer, as the text files hold them.
#[must_use]
pub fn with_answer<'row>(
    dialogue: &'row Dialogue,
    answer: Option<&'row str>,
) -> Vec<(&'row str, &'row str)> {
    debug_assert!(
        answer.is_none() || dialogue.replies == Replies::Inline,
        "the completions of a paired row must be in its pairs"
    );
    let turns = dialogue.turns.iter().map(|turn| (turn.role.name(), turn.text.as_str()));
    turns.chain(answer.map(|answer| ("assistant", answer))).collect()
}
