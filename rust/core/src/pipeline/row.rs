//! What happens to one row, start to end but for dedup: the part of the walk that any thread may run.
//!
//! [`Walk::visit`] takes a row to where dedup can judge it; [`Walk::finish`] makes text and tokens of a row that stays.

use crate::binarize::{self, Rules};
use crate::control_tokens::ControlTokens;
use crate::decontaminate::Index;
use crate::dedup::{Signature, sign, sign_bytes};
use crate::dialogue::{Dialogue, Pair, Replies};
use crate::encode::{Encoding, Product};
use crate::error::{Error, Result};
use crate::filter;
use crate::normal::{hash64, normalised, sha256_hex};
use crate::progress::Watch;
use crate::read::LINE_BYTES_MAX;
use crate::read::shape::{self, Shape};
use crate::recipe::{Action, Command, Compared, Compat, IdFrom, Recipe, TrainOn};
use crate::stage::{Notes, Reason, Stage, Verdict};
use crate::tokenize::Tokenizer;
use crate::truecase::Truecase;

/// The version of the rule that splits train from test.
pub const SPLIT_VERSION: u32 = 1;

/// Everything a row meets, built once and shared by all threads.
pub struct Walk {
    /// Which command this is.
    pub command: Command,
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

/// A row that reached dedup.
#[derive(Debug)]
pub struct Alive {
    /// The dialogue, cleaned.
    pub dialogue: Dialogue,
    /// Its pairs; none in `prep`.
    pub pairs: Vec<Pair>,
    /// What dedup compares, where it is on.
    pub signature: Option<Signature>,
}

/// Where a row ended before dedup, or that it is alive.
#[derive(Debug)]
pub enum Fate {
    /// It goes on.
    Alive(Box<Alive>),
    /// A stage dropped it.
    Dropped(Reason),
    /// It was set aside by policy.
    Quarantined(Reason),
    /// It could not be read.
    Unreadable(Reason),
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
    /// Where it ended, or that it goes on.
    pub fate: Fate,
}

impl Walk {
    /// Builds all parts of the walk; whatever is wrong with recipe, tokenizer or template is found here. A tokenizer goes with a recipe that
    /// wants tokens.
    pub fn new(command: Command, recipe: Recipe, tokenizer: Option<Tokenizer>) -> Result<Walk> {
        Walk::watched(command, recipe, tokenizer, &Watch::default())
    }

    /// The same, until a watch says stop: evaluation sets take a while to read.
    pub fn watched(command: Command, mut recipe: Recipe, tokenizer: Option<Tokenizer>, watch: &Watch) -> Result<Walk> {
        resolve(command, &mut recipe)?;
        if recipe.shards.tokens != tokenizer.is_some() {
            let what = if recipe.shards.tokens { "tokens need a tokenizer" } else { "`shards.tokens` is false, so no tokenizer is of use" };
            return Err(Error::Recipe(what.to_owned()));
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
            ControlTokens::new(&encoding.tokenizer.special_texts(), encoding.template.written(), recipe.tokenize.control_tokens)
        });
        let rules = recipe.binarize.as_ref().map(|binarize| Rules::new(binarize, recipe.seed));
        let shape = match recipe.source.shape.as_str() {
            "auto" => None,
            name => Some(shape::named(name)?),
        };
        let evaluation_sets = Index::load(&recipe.decontaminate, watch)?;
        Ok(Walk { command, recipe, encoding, evaluation_sets, stages, rules, control: control.transpose()?, shape })
    }

    /// The shape of an input, told by its first readable row unless the recipe names it.
    #[must_use]
    pub fn shape<'row>(&self, mut rows: impl Iterator<Item = &'row [u8]>) -> &'static Shape {
        let compares = self.command == Command::Binarize;
        let of_command = || shape::SHAPES.iter().rfind(|shape| shape.compares == compares).expect("each command has a shape");
        self.shape.or_else(|| rows.find_map(|row| shape::detect(row, compares))).unwrap_or_else(of_command)
    }

    /// Reads, cleans, filters and pairs a row. `length` is the row's true length, which `bytes` may be cut short of.
    #[must_use]
    pub fn visit(&self, shape: &Shape, bytes: &[u8], length: u64) -> Visited {
        let unreadable = |reason| Visited { id: None, prompt_id: None, notes: Notes::default(), fate: Fate::Unreadable(reason) };
        if length > LINE_BYTES_MAX as u64 {
            return unreadable(Reason::found("line_too_long", format!("{length} bytes; at most {LINE_BYTES_MAX}")));
        }
        let mut dialogue = match (shape.parse)(bytes) {
            Ok(dialogue) => dialogue,
            Err(malformed) => return unreadable(Reason::found(malformed.code, malformed.detail)),
        };
        let id = dialogue.id.take();
        let mut notes = Notes::default();
        let raw_prompt_id = (self.recipe.truecase.id_from == IdFrom::Raw).then(|| sha256_hex(dialogue.prompt().as_bytes()));
        let dropped = self.stages.iter().find_map(|stage| match stage.visit(&mut dialogue, &mut notes) {
            Verdict::Keep => None,
            Verdict::Drop(reason) => Some(reason),
        });
        notes.control_tokens = self.control.as_ref().map_or(0, |control| control.neutralize(&mut dialogue));
        let prompt_id = raw_prompt_id.unwrap_or_else(|| sha256_hex(dialogue.prompt().as_bytes()));
        let fate = match dropped {
            Some(reason) => Fate::Dropped(reason),
            None => self.judge(dialogue, bytes, &prompt_id, &mut notes),
        };
        Visited { id, prompt_id: Some(prompt_id), notes, fate }
    }

    /// Pairs a cleaned dialogue, looks for control tokens and evaluation sets, and signs it.
    fn judge(&self, mut dialogue: Dialogue, bytes: &[u8], prompt_id: &str, notes: &mut Notes) -> Fate {
        let pairs = match self.rules.as_ref().map(|rules| rules.pairs(&mut dialogue, prompt_id)) {
            Some(Err(reason)) => return Fate::Dropped(reason),
            Some(Ok(pairs)) => pairs,
            None => Vec::new(),
        };
        let turns = dialogue.turns.iter().map(|turn| turn.text.as_str());
        let answers = pairs.iter().flat_map(|pair| [pair.chosen.as_str(), pair.rejected.as_str()]);
        if let Some(token) = self.control.as_ref().and_then(|control| turns.chain(answers).find_map(|text| control.find(text))) {
            return Fate::Quarantined(Reason::found("control_token", token));
        }
        if let Some(sets) = &self.evaluation_sets {
            notes.contamination = sets.find(&dialogue);
            if !notes.contamination.is_empty() && self.recipe.decontaminate.action == Action::Drop {
                return Fate::Dropped(Reason::found("contaminated", sets.names(&notes.contamination)));
            }
        }
        let dedup = &self.recipe.dedup;
        let signature = (dedup.exact || dedup.near).then(|| match self.command {
            Command::Prep => sign(&dialogue, dedup),
            Command::Binarize => sign_bytes(bytes),
        });
        Fate::Alive(Box::new(Alive { dialogue, pairs, signature }))
    }

    /// The tokens of a row that stays, or why there are none. `Err` within is the row's fault, outside it is ours.
    pub fn finish(&self, alive: &Alive) -> Result<std::result::Result<Product, Fate>> {
        match (&self.encoding, self.command) {
            (None, _) => Ok(Ok(Product::of_text())),
            (Some(encoding), Command::Prep) => encoding.sample(&alive.dialogue.turns),
            (Some(encoding), Command::Binarize) => encoding.pairs(alive),
        }
    }

    /// The split a dialogue belongs to: by its first prompt alone, so that no prompt is on both sides and splits stay as data are added.
    #[must_use]
    pub fn split(&self, dialogue: &Dialogue) -> &'static str {
        let hash = hash64(&format!("split:{}", normalised(dialogue.prompt())));
        let bound = self.recipe.shards.test_fraction * 2_f64.powi(64);
        if (hash as f64) < bound { "test" } else { "train" }
    }
}

/// Fills in what depends on the command, and refuses what does not fit it.
fn resolve(command: Command, recipe: &mut Recipe) -> Result<()> {
    if !recipe.shards.tokens && !recipe.shards.text {
        return Err(Error::Recipe("`shards.tokens = false` and `shards.text = false` leave nothing to write".to_owned()));
    }
    if recipe.source.shape != "auto" {
        let shape = shape::named(&recipe.source.shape)?;
        if shape.compares != (command == Command::Binarize) {
            let other = if shape.compares { "`zephyr-fast binarize`" } else { "`zephyr-fast prep`" };
            return Err(Error::Recipe(format!("rows of shape `{}` are for {other}", shape.name)));
        }
    }
    if recipe.compat == Compat::Trl07 {
        if command == Command::Binarize {
            return Err(Error::Recipe("`compat = \"trl-0.7\"` is about windows, for `zephyr-fast prep`".to_owned()));
        }
        if !recipe.shards.tokens {
            return Err(Error::Recipe("`compat = \"trl-0.7\"` is about windows of tokens, and `shards.tokens` is false".to_owned()));
        }
        recipe.tokenize.train_on = TrainOn::All;
    }
    match (command, &mut recipe.binarize) {
        (Command::Prep, Some(_)) => Err(Error::Recipe("a recipe with [binarize] is for `zephyr-fast binarize`".to_owned())),
        (Command::Prep, None) => Ok(()),
        (Command::Binarize, None) => Err(Error::Recipe("`zephyr-fast binarize` needs a recipe with [binarize]".to_owned())),
        (Command::Binarize, Some(_)) if recipe.dedup.near => {
            Err(Error::Recipe("`dedup.near` compares dialogues; `zephyr-fast binarize` only knows `dedup.exact`".to_owned()))
        }
        (Command::Binarize, Some(_)) if recipe.dedup.of != Compared::Dialogue => {
            Err(Error::Recipe("`dedup.of` is for dialogues; `zephyr-fast binarize` compares whole rows as the source has them".to_owned()))
        }
        (Command::Binarize, Some(binarize)) => {
            // The published sets kept rows that repeat; their presets keep them too.
            recipe.dedup.exact &= binarize.preset.is_none_or(binarize::Preset::drops_duplicates);
            binarize::resolve(binarize);
            Ok(())
        }
    }
}

/// Messages of a dialogue with its answer, as the text files hold them.
#[must_use]
pub fn with_answer<'row>(dialogue: &'row Dialogue, answer: Option<&'row str>) -> Vec<(&'row str, &'row str)> {
    debug_assert!(answer.is_none() || dialogue.replies == Replies::Inline, "answers stand in pairs once a row is paired");
    let turns = dialogue.turns.iter().map(|turn| (turn.role.name(), turn.text.as_str()));
    turns.chain(answer.map(|answer| ("assistant", answer))).collect()
}
