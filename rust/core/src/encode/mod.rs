//! Turns the text of kept rows into token ids with the chat template and the tokenizer.

mod choice;
mod encoded;

use std::borrow::Cow;
use std::ops::Range;

use crate::dialogue::{Example, Role, Script, Turn};
use crate::error::{Error, Result};
use crate::recipe::{Compat, Recipe, TrainOn};
use crate::sample::{Answered, Rendered, Sample};
use crate::stage::{Code, Reason};
use crate::template::Template;
use crate::tokenize::Tokenizer;
use choice::OF_BASE;

pub(crate) use choice::template_source;
pub use choice::{template_names, unknown_template};
pub use encoded::{Encoded, Tokens};

/// Maximum number of tokens in one row. More indicate damage or an attack.
const TOKENS_MAX: usize = 1_000_000;

/// A template and a tokenizer.
pub struct Encoding {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template.
    pub template: Template,
    compat: Compat,
    train_on: TrainOn,
    tokens_max: usize,
}

impl Encoding {
    /// Creates the encoding for a resolved recipe and a tokenizer. `tokens_max` is the maximum number
    /// of tokens of an example.
    pub fn new(recipe: &Recipe, tokenizer: Tokenizer, tokens_max: usize) -> Result<Encoding> {
        if recipe.compat == Compat::Trl07 && tokenizer.eos_id().is_none() {
            return Err(Error::Config(
                "`compat = \"trl-0.7\"` appends EOS to each text, but the tokenizer has no EOS \
                token"
                    .to_owned(),
            ));
        }
        let template = Template::load(template_source(recipe, &tokenizer)?)?;
        Ok(Encoding {
            tokenizer,
            template,
            compat: recipe.compat,
            train_on: recipe.tokenize.train_on,
            tokens_max,
        })
    }

    /// Returns the tokens of a dialogue, or the reason why there are none.
    pub fn dialogue<'row>(
        &self,
        script: impl Into<Script<'row>>,
    ) -> std::result::Result<Encoded, Reason> {
        let script = script.into();
        let turns = if self.compat == Compat::Trl07 {
            self.with_system(script.turns)
        } else {
            Cow::Borrowed(script.turns)
        };
        let script = Script { turns: &turns, ..script };
        self.check_flags(script.turns)?;
        let rendered = self.template.render(script)?;
        let whole = self.sample(script.turns, &rendered)?;
        let tokens = whole.ids.len();
        check_count(tokens)?;
        let fits = tokens <= self.tokens_max || self.compat == Compat::Trl07;
        let (sample, label_tokens_truncated) = if fits {
            (whole, 0)
        } else {
            let trained = whole.trained.clone();
            let sample = self.cut(script, whole);
            let lost = tokens_from(&trained, sample.ids.len());
            (sample, lost)
        };
        if sample.label_tokens() == 0 {
            let kept = sample.ids.len();
            return Err(Reason::found(
                Code::NoAssistantTokens,
                format!("no assistant token in the first {kept} of {tokens} tokens"),
            ));
        }
        Ok(Encoded {
            tokens_truncated: tokens - sample.ids.len(),
            label_tokens_truncated,
            tokens: Tokens::Sample(sample),
            chars: rendered.text.chars().count(),
            identical: Vec::new(),
        })
    }

    /// Returns the tokens of a rendered dialogue with the labels that the recipe selects.
    fn sample(&self, turns: &[Turn], rendered: &Rendered) -> std::result::Result<Sample, Reason> {
        let answers =
            |turns: &[Turn]| turns.iter().filter(|turn| turn.role == Role::Assistant).count();
        let skipped = match self.train_on {
            TrainOn::All => return self.tokenizer.sample_of_all(&rendered.text),
            TrainOn::Assistant => 0,
            TrainOn::Last => answers(turns).saturating_sub(1),
            TrainOn::Completion => {
                let asked = turns.iter().rposition(|turn| turn.role == Role::User);
                answers(&turns[..asked.map_or(0, |index| index + 1)])
            }
        };
        let trained = rendered.trained_after(skipped).ok_or_else(|| {
            let why = "the template changes an assistant message, so it is not known which one its \
                generation tags belong to";
            Reason::found(Code::MaskNotProvable, why.to_owned())
        })?;
        self.tokenizer.sample(&rendered.text, trained)
    }

    /// The ids of the tokens that end a trained assistant message, as far as each is one token.
    #[must_use]
    pub fn end_tokens(&self) -> Vec<u32> {
        let own = self.tokenizer.added_texts();
        let last = |end: &String| {
            let id = |token: &str| self.tokenizer.id_of(token);
            let of_several = || own.iter().filter(|token| end.ends_with(token.as_str()));
            id(end).or_else(|| id(of_several().max_by_key(|token| token.len())?))
        };
        let mut ids: Vec<u32> = self.template.ends().iter().filter_map(last).collect();
        ids.extend(self.tokenizer.eos_id().filter(|_| self.compat == Compat::Trl07));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Markers of the template that this tokenizer splits into several tokens, which suggests that
    /// the template was written for another model. Empty for the tokenizer's own template, and for
    /// Zephyr's if the tokenizer has no template.
    #[must_use]
    pub fn foreign_markers(&self) -> Vec<String> {
        let text = self.template.text();
        let is_own = match &self.tokenizer.chat_template {
            Some(own) => own.as_ref().is_ok_and(|own| own.trim_end() == text.trim_end()),
            None => Template::bundled_name(text) == Some(OF_BASE),
        };
        let mut markers = if is_own { Vec::new() } else { self.template.markers() };
        markers.retain(|marker| self.tokenizer.id_of(marker).is_none());
        markers
    }

    /// Refuses a message that is not to be trained if all messages are trained.
    fn check_flags(&self, turns: &[Turn]) -> std::result::Result<(), Reason> {
        let is_left_out = |turn: &Turn| turn.role == Role::Assistant && !turn.is_trained();
        match turns.iter().position(is_left_out) {
            Some(index) if self.train_on == TrainOn::All => Err(Reason::found(
                Code::UnsupportedField,
                format!(
                    "`messages[{index}]`: it is marked as not trained, but \
                        `tokenize.train_on = \"all\"` trains all messages; use \"assistant\""
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Returns the messages as the alignment handbook passed them on at the time: with an empty
    /// system message first, if the template supports system messages.
    fn with_system<'row>(&self, turns: &'row [Turn]) -> Cow<'row, [Turn]> {
        if turns.first().is_some_and(|turn| turn.role == Role::System)
            || !self.template.text().contains("system")
        {
            return Cow::Borrowed(turns);
        }
        let system = Turn::new(Role::System, String::new());
        Cow::Owned(std::iter::once(system).chain(turns.iter().cloned()).collect())
    }

    /// Shortens an over-long dialogue after the last assistant message that fits, or at the token
    /// limit if none fits.
    fn cut(&self, script: Script<'_>, mut whole: Sample) -> Sample {
        let ends = script
            .turns
            .iter()
            .enumerate()
            .filter(|(_, turn)| turn.role == Role::Assistant)
            .map(|(index, _)| index + 1);
        for end in ends.rev().skip(1) {
            if !self.may_fit(script.until(end)) {
                continue;
            }
            let shorter = script.until(end);
            let rendered = self.template.render(shorter);
            let Ok(sample) = rendered.and_then(|rendered| self.sample(shorter.turns, &rendered))
            else {
                continue;
            };
            if sample.ids.len() <= self.tokens_max {
                return sample;
            }
        }
        whole.truncate(self.tokens_max);
        whole
    }

    /// Whether the text has few enough tokens. This separate check saves time, because proving the
    /// mask may render a template many times, too many to do so at every possible end of a dialogue.
    fn may_fit(&self, script: Script<'_>) -> bool {
        let Some(text) = self.template.text_alone(script) else { return true };
        text.and_then(|text| self.tokenizer.ids(&text))
            .is_ok_and(|ids| ids.len() <= self.tokens_max)
    }

    /// Returns the tokens of a prompt's examples, or the reason why there are none. Without
    /// `keeps_identical`, examples whose completions are equal once truncated get no tokens.
    pub fn examples<'row>(
        &self,
        script: impl Into<Script<'row>>,
        examples: &[Example],
        keeps_identical: bool,
    ) -> std::result::Result<Encoded, Reason> {
        let script = script.into();
        let prompt_ids =
            self.template.render_prompt(script).and_then(|text| self.tokenizer.ids(&text))?;
        let room = self.tokens_max.checked_sub(prompt_ids.len()).filter(|room| *room > 0);
        let room = room.ok_or_else(|| {
            Reason::found(
                Code::PromptTooLong,
                format!("{} tokens (limit: {})", prompt_ids.len(), self.tokens_max),
            )
        })?;
        // The dialogue with each completion in turn.
        let mut whole = script.turns.to_vec();
        whole.push(Turn::new(Role::Assistant, String::new()));
        let mut encoded = Vec::with_capacity(examples.len());
        let mut lost = 0;
        let mut identical = Vec::with_capacity(examples.len());
        for example in examples {
            let mut lost_here = 0;
            let mut answer = |text: &String| -> std::result::Result<Vec<u32>, Reason> {
                text.clone_into(&mut whole[script.turns.len()].text);
                let mut answer = self.answer(Script { turns: &whole, ..script }, &prompt_ids)?;
                lost_here += answer.len().saturating_sub(room);
                answer.truncate(room);
                Ok(answer)
            };
            let answers = example.completions.iter().map(&mut answer);
            let answers: Vec<Vec<u32>> = answers.collect::<std::result::Result<_, _>>()?;
            let is_identical = are_equal(&answers);
            identical.push(is_identical);
            if is_identical && !keeps_identical {
                continue;
            }
            lost += lost_here;
            encoded.push(answers);
        }
        Ok(Encoded {
            tokens: Tokens::Answered(Answered { prompt_ids, examples: encoded }),
            tokens_truncated: lost,
            label_tokens_truncated: lost,
            chars: 0,
            identical,
        })
    }

    /// Returns the ids of the completion that ends a dialogue: those of the full text without those
    /// of the prompt, which must be its prefix.
    fn answer(&self, whole: Script<'_>, prompt: &[u32]) -> std::result::Result<Vec<u32>, Reason> {
        let mut ids =
            self.template.render(whole).and_then(|rendered| self.tokenizer.ids(&rendered.text))?;
        check_count(ids.len())?;
        if ids.starts_with(prompt) {
            ids.drain(..prompt.len());
            return Ok(ids);
        }
        let index = ids.iter().zip(prompt).take_while(|(id, of_prompt)| id == of_prompt).count();
        Err(Reason::found(
            Code::PromptNotPrefix,
            format!("token {index} of the {} prompt tokens differs", prompt.len()),
        ))
    }
}

/// The number of tokens in ranges, from an index on.
fn tokens_from(ranges: &[Range<u32>], index: usize) -> usize {
    let start = index as u32;
    ranges.iter().map(|range| range.end.saturating_sub(range.start.max(start)) as usize).sum()
}

/// Whether several completions are all the same.
fn are_equal(answers: &[Vec<u32>]) -> bool {
    matches!(answers, [first, rest @ ..] if !rest.is_empty() && rest.iter().all(|one| one == first))
}

fn check_count(tokens: usize) -> std::result::Result<(), Reason> {
    if tokens > TOKENS_MAX {
        return Err(Reason::found(
            Code::TooManyTokens,
            format!("{tokens} tokens (limit: {TOKENS_MAX})"),
        ));
    }
    Ok(())
}
