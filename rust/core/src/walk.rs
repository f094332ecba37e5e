//! What happens to one row, start to end but for dedup: the part of the walk that any thread may run.
//!
//! [`Walk::visit`] takes a row to where dedup can judge it; [`Walk::finish`] makes text and tokens of a row that stays.

use std::borrow::Cow;
use std::path::Path;

use crate::binarize::{self, Rules};
use crate::control::ControlTokens;
use crate::decontaminate::Index;
use crate::dedup::{Signature, sign, sign_bytes};
use crate::dialogue::{Dialogue, Pair, Replies, Role, Turn};
use crate::error::{Error, Result};
use crate::filter;
use crate::read::LINE_BYTES_MAX;
use crate::read::shape::{self, Shape};
use crate::recipe::{Action, Command, Compared, Compat, IdFrom, Recipe, TrainOn};
use crate::sample::Sample;
use crate::shard::TokenPair;
use crate::stage::{Notes, Reason, Stage, Verdict};
use crate::template::{Template, ZEPHYR};
use crate::text::{hash64, normalised, sha256_hex};
use crate::tokenize::Tokenizer;
use crate::truecase::Truecase;

/// The version of the rule that splits train from test.
pub const SPLIT_VERSION: u32 = 1;

/// Tokens of one row; more is damage or an attack.
const TOKENS_MAX: usize = 1_000_000;

/// Everything a row meets, built once and shared by all threads.
pub struct Walk {
    /// Which command this is.
    pub command: Command,
    /// The recipe, resolved.
    pub recipe: Recipe,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template.
    pub template: Template,
    /// The evaluation sets to keep out, where the recipe names any.
    pub evaluation_sets: Option<Index>,
    stages: Vec<Box<dyn Stage>>,
    rules: Option<Rules>,
    control: ControlTokens,
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

/// Tokens of a row, and what was cut off.
#[derive(Debug)]
pub struct Product {
    /// The tokens.
    pub tokens: Tokens,
    /// Tokens cut off.
    pub tokens_lost: usize,
    /// Of those, the ones that would have been trained.
    pub trained_tokens_lost: usize,
    /// Characters of a dialogue's text.
    pub chars: usize,
}

/// Tokens of either kind.
#[derive(Debug)]
pub enum Tokens {
    /// A dialogue.
    Sample(Sample),
    /// Pairs, each with its number within the row.
    Pairs(Vec<(i32, TokenPair)>),
}

impl Walk {
    /// Builds all parts of the walk; whatever is wrong with recipe, tokenizer or template is found here.
    pub fn new(command: Command, mut recipe: Recipe, tokenizer: Tokenizer) -> Result<Walk> {
        resolve(command, &mut recipe)?;
        let mut stages: Vec<Box<dyn Stage>> = Vec::new();
        if recipe.truecase.enabled {
            stages.push(Box::new(Truecase));
        }
        for table in recipe.filters.clone() {
            stages.push(filter::build(table)?);
        }
        if recipe.compat == Compat::Trl07 && tokenizer.eos_id().is_none() {
            return Err(Error::Recipe("`compat = \"trl-0.7\"` puts EOS behind each text, but the tokenizer names none".to_owned()));
        }
        let special = tokenizer.special_texts();
        let (name, text) = template_text(&recipe.template.name, &tokenizer)?;
        let template = Template::new(&name, &text, &tokenizer.special, &special)?;
        let control = ControlTokens::new(&special, template.written(), recipe.tokenize.control_tokens)?;
        let rules = recipe.binarize.as_ref().map(|binarize| Rules::new(binarize, recipe.seed));
        let shape = match recipe.source.shape.as_str() {
            "auto" => None,
            name => Some(shape::named(name)?),
        };
        let evaluation_sets = Index::load(&recipe.decontaminate)?;
        Ok(Walk { command, recipe, tokenizer, template, evaluation_sets, stages, rules, control, shape })
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
        notes.control_tokens = self.control.neutralize(&mut dialogue);
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
        if let Some(token) = turns.chain(answers).find_map(|text| self.control.find(text)) {
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
        match self.command {
            Command::Prep => self.sample(&alive.dialogue.turns),
            Command::Binarize => self.token_pairs(alive),
        }
    }

    /// The split a dialogue belongs to: by its first prompt alone, so that no prompt is on both sides and splits stay as data are added.
    #[must_use]
    pub fn split(&self, dialogue: &Dialogue) -> &'static str {
        let hash = hash64(&format!("split:{}", normalised(dialogue.prompt())));
        let bound = self.recipe.shards.test_fraction * 2_f64.powi(64);
        if (hash as f64) < bound { "test" } else { "train" }
    }

    fn sample(&self, turns: &[Turn]) -> Result<std::result::Result<Product, Fate>> {
        let compat = self.recipe.compat;
        let turns = if compat == Compat::Trl07 { self.with_system(turns) } else { Cow::Borrowed(turns) };
        let rendered = match self.template.render(&turns) {
            Ok(rendered) => rendered,
            Err(reason) => return Ok(Err(Fate::Quarantined(reason))),
        };
        let whole = self.tokenizer.sample(&rendered, self.recipe.tokenize.train_on)?;
        let (tokens, trained) = (whole.ids.len(), whole.trained_tokens());
        if tokens > TOKENS_MAX {
            return Ok(Err(too_many_tokens(tokens)));
        }
        let fits = tokens <= self.recipe.pack.seq_len || compat == Compat::Trl07;
        let sample = if fits { whole } else { self.cut(&turns, whole)? };
        if sample.trained_tokens() == 0 {
            return Ok(Err(Fate::Dropped(Reason::found("nothing_to_train", format!("{tokens} tokens")))));
        }
        Ok(Ok(Product {
            tokens_lost: tokens - sample.ids.len(),
            trained_tokens_lost: trained - sample.trained_tokens(),
            tokens: Tokens::Sample(sample),
            chars: rendered.text.chars().count(),
        }))
    }

    /// The turns as the handbook of the time handed them on: with an empty system turn in front, where the template knows such turns.
    fn with_system<'row>(&self, turns: &'row [Turn]) -> Cow<'row, [Turn]> {
        if turns.first().is_some_and(|turn| turn.role == Role::System) || !self.template.text().contains("system") {
            return Cow::Borrowed(turns);
        }
        let system = Turn { role: Role::System, text: String::new() };
        Cow::Owned(std::iter::once(system).chain(turns.iter().cloned()).collect())
    }

    /// An over-long dialogue, ended after the last assistant turn that fits; if none does, cut by token.
    fn cut(&self, turns: &[Turn], mut whole: Sample) -> Result<Sample> {
        let seq_len = self.recipe.pack.seq_len;
        let ends = turns.iter().enumerate().filter(|(_, turn)| turn.role == Role::Assistant).map(|(place, _)| place + 1);
        for end in ends.rev().skip(1) {
            let Ok(rendered) = self.template.render(&turns[..end]) else { continue };
            // One byte is one token at most, but a longer text may still fit: only encode what could.
            let sample = self.tokenizer.sample(&rendered, self.recipe.tokenize.train_on)?;
            if sample.ids.len() <= seq_len {
                return Ok(sample);
            }
        }
        whole.truncate(seq_len);
        Ok(whole)
    }

    fn token_pairs(&self, alive: &Alive) -> Result<std::result::Result<Product, Fate>> {
        let turns = &alive.dialogue.turns;
        let prompt = match self.template.render_prompt(turns) {
            Ok(text) => self.tokenizer.ids(&text)?,
            Err(reason) => return Ok(Err(Fate::Quarantined(reason))),
        };
        let room = self.recipe.binarize.as_ref().map_or(0, |binarize| binarize.max_length);
        if prompt.len() >= room {
            return Ok(Err(Fate::Dropped(Reason::found("prompt_too_long", format!("{} tokens", prompt.len())))));
        }
        let mut pairs = Vec::with_capacity(alive.pairs.len());
        let mut lost = 0;
        for (number, pair) in (0..).zip(&alive.pairs) {
            let mut answers = Vec::with_capacity(2);
            for answer in [&pair.chosen, &pair.rejected] {
                let mut answer = match self.answer(turns, &prompt, answer)? {
                    Ok(answer) => answer,
                    Err(fate) => return Ok(Err(fate)),
                };
                lost += answer.len().saturating_sub(room - prompt.len());
                answer.truncate(room - prompt.len());
                answers.push(answer);
            }
            let (Some(rejected_ids), Some(chosen_ids)) = (answers.pop(), answers.pop()) else { continue };
            let (score_chosen, score_rejected) = (pair.score_chosen, pair.score_rejected);
            pairs.push((number, TokenPair { prompt_ids: prompt.clone(), chosen_ids, rejected_ids, score_chosen, score_rejected }));
        }
        Ok(Ok(Product { tokens: Tokens::Pairs(pairs), tokens_lost: lost, trained_tokens_lost: lost, chars: 0 }))
    }

    /// The ids of an answer: those of the whole text behind those of the prompt, which must come first in it.
    fn answer(&self, turns: &[Turn], prompt: &[u32], answer: &str) -> Result<std::result::Result<Vec<u32>, Fate>> {
        let mut whole = turns.to_vec();
        whole.push(Turn { role: Role::Assistant, text: answer.to_owned() });
        let rendered = match self.template.render(&whole) {
            Ok(rendered) => rendered,
            Err(reason) => return Ok(Err(Fate::Quarantined(reason))),
        };
        let ids = self.tokenizer.ids(&rendered.text)?;
        if ids.len() > TOKENS_MAX {
            return Ok(Err(too_many_tokens(ids.len())));
        }
        Ok(ids.strip_prefix(prompt).map(<[u32]>::to_vec).ok_or_else(|| Fate::Quarantined(Reason::code("prompt_not_prefix"))))
    }
}

fn too_many_tokens(tokens: usize) -> Fate {
    Fate::Quarantined(Reason::found("too_many_tokens", format!("{tokens} tokens; at most {TOKENS_MAX}")))
}

/// Fills in what depends on the command, and refuses what does not fit it.
fn resolve(command: Command, recipe: &mut Recipe) -> Result<()> {
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

/// Name and text of the template a recipe asks for, unless it is one of ours: what a canary must be tried with first.
pub fn unknown_template(recipe: &Recipe, tokenizer: &Path) -> Result<Option<(String, String)>> {
    let name = recipe.template.name.as_str();
    if name == "zephyr" {
        return Ok(None);
    }
    let found = if name == "tokenizer" { template_text(name, &Tokenizer::load(tokenizer)?)? } else { template_file(name)? };
    Ok(Some(found).filter(|(_, text)| !Template::is_known(text)))
}

/// Name and text of the template a recipe asks for.
pub(crate) fn template_text(name: &str, tokenizer: &Tokenizer) -> Result<(String, String)> {
    match name {
        "zephyr" => Ok((name.to_owned(), ZEPHYR.to_owned())),
        "tokenizer" => {
            let text = tokenizer.chat_template.clone();
            let text = text.ok_or_else(|| {
                Error::Recipe("`template.name = \"tokenizer\"`, but the tokenizer's folder has no chat template".to_owned())
            })?;
            Ok((name.to_owned(), text))
        }
        path => template_file(path),
    }
}

fn template_file(path: &str) -> Result<(String, String)> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Recipe(format!("template `{path}`: {error}; known names: zephyr, tokenizer")))?;
    let base = Path::new(path).file_name().map_or_else(|| path.to_owned(), |base| base.to_string_lossy().into_owned());
    Ok((base, text))
}

/// Messages of a dialogue with its answer, as the text files hold them.
#[must_use]
pub fn with_answer<'row>(dialogue: &'row Dialogue, answer: Option<&'row str>) -> Vec<(&'row str, &'row str)> {
    debug_assert!(answer.is_none() || dialogue.replies == Replies::Inline, "answers stand in pairs once a row is paired");
    let turns = dialogue.turns.iter().map(|turn| (turn.role.name(), turn.text.as_str()));
    turns.chain(answer.map(|answer| ("assistant", answer))).collect()
}
