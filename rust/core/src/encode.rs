//! Turns the text of kept rows into token ids with the chat template and the tokenizer.

use std::borrow::Cow;
use std::path::Path;

use crate::dialogue::{Pair, Role, Script, Turn};
use crate::disk;
use crate::error::{Error, Result};
use crate::recipe::{Compat, Recipe, TrainOn};
use crate::sample::{Sample, TokenPair};
use crate::stage::{Code, Reason};
use crate::template::{TEMPLATES, Template, UnknownTemplate};
use crate::tokenize::Tokenizer;

/// Maximum size of a template's file in bytes. Real templates are far smaller.
const TEMPLATE_FILE_BYTES_MAX: usize = 1 << 20;
/// Maximum number of tokens in one row. More indicate damage or an attack.
const TOKENS_MAX: usize = 1_000_000;

/// The name of the tokenizer's own template in recipes.
const OF_TOKENIZER: &str = "tokenizer";

/// A template and a tokenizer.
pub struct Encoding {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template.
    pub template: Template,
    compat: Compat,
    train_on: TrainOn,
    seq_len: usize,
    max_length: usize,
}

/// The tokens of a row, and the number of truncated ones.
#[derive(Debug)]
pub struct Encoded {
    /// The tokens.
    pub tokens: Tokens,
    /// Tokens cut off.
    pub tokens_truncated: usize,
    /// The number of those that contribute to the loss.
    pub label_tokens_truncated: usize,
    /// Characters of a dialogue's text.
    pub chars: usize,
}

impl Encoded {
    /// The result for a row whose text is written without tokens.
    #[must_use]
    pub fn of_text() -> Encoded {
        Encoded { tokens: Tokens::None, tokens_truncated: 0, label_tokens_truncated: 0, chars: 0 }
    }
}

/// The tokens of a dialogue or of pairs.
#[derive(Debug)]
pub enum Tokens {
    /// No tokens, because only text is written.
    None,
    /// A dialogue.
    Sample(Sample),
    /// Pairs, each with its number within the row.
    Pairs(Vec<(i32, TokenPair)>),
}

impl Encoding {
    /// Creates the encoding for a resolved recipe and a tokenizer.
    pub fn new(recipe: &Recipe, tokenizer: Tokenizer) -> Result<Encoding> {
        if recipe.compat == Compat::Trl07 && tokenizer.eos_id().is_none() {
            return Err(Error::Config(
                "`compat = \"trl-0.7\"` appends EOS to each text, but the tokenizer has no EOS \
                token"
                    .to_owned(),
            ));
        }
        let (name, text) = template_text(&recipe.template.name, &tokenizer)?;
        let template = Template::new(&name, &text, &tokenizer.special, &tokenizer.special_texts())?;
        Ok(Encoding {
            tokenizer,
            template,
            compat: recipe.compat,
            train_on: recipe.tokenize.train_on,
            seq_len: recipe.pack.seq_len,
            max_length: recipe.binarize.as_ref().map_or(0, |binarize| binarize.max_length),
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
        let whole = self.tokenizer.sample(&rendered, self.train_on)?;
        let (tokens, trained) = (whole.ids.len(), whole.label_tokens());
        check_count(tokens)?;
        let fits = tokens <= self.seq_len || self.compat == Compat::Trl07;
        let sample = if fits { whole } else { self.cut(script, whole) };
        if sample.label_tokens() == 0 {
            let kept = sample.ids.len();
            return Err(Reason::found(
                Code::NoAssistantTokens,
                format!("no assistant token in the first {kept} of {tokens} tokens"),
            ));
        }
        Ok(Encoded {
            tokens_truncated: tokens - sample.ids.len(),
            label_tokens_truncated: trained - sample.label_tokens(),
            tokens: Tokens::Sample(sample),
            chars: rendered.text.chars().count(),
        })
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
            let rendered = self.template.render(script.until(end));
            let Ok(sample) =
                rendered.and_then(|rendered| self.tokenizer.sample(&rendered, self.train_on))
            else {
                continue;
            };
            if sample.ids.len() <= self.seq_len {
                return sample;
            }
        }
        whole.truncate(self.seq_len);
        whole
    }

    /// Whether the text has few enough tokens. This separate check saves time, because proving the
    /// mask renders most templates many times, too many to do so at every possible end of a
    /// dialogue.
    fn may_fit(&self, script: Script<'_>) -> bool {
        let Some(text) = self.template.text_alone(script) else { return true };
        text.and_then(|text| self.tokenizer.ids(&text)).is_ok_and(|ids| ids.len() <= self.seq_len)
    }

    /// Returns the tokens of a prompt's pairs, or the reason why there are none.
    pub fn pairs<'row>(
        &self,
        script: impl Into<Script<'row>>,
        pairs: &[Pair],
    ) -> std::result::Result<Encoded, Reason> {
        let script = script.into();
        let prompt_ids =
            self.template.render_prompt(script).and_then(|text| self.tokenizer.ids(&text))?;
        let room = self.max_length.checked_sub(prompt_ids.len()).filter(|room| *room > 0);
        let room = room.ok_or_else(|| {
            Reason::found(
                Code::PromptTooLong,
                format!("{} tokens (limit: {})", prompt_ids.len(), self.max_length),
            )
        })?;
        let mut encoded = Vec::with_capacity(pairs.len());
        let mut lost = 0;
        for (number, pair) in (0..).zip(pairs) {
            let mut answer = |text: &str| -> std::result::Result<Vec<u32>, Reason> {
                let mut answer = self.answer(script, &prompt_ids, text)?;
                lost += answer.len().saturating_sub(room);
                answer.truncate(room);
                Ok(answer)
            };
            let (chosen_ids, rejected_ids) = (answer(&pair.chosen)?, answer(&pair.rejected)?);
            let (score_chosen, score_rejected) = (pair.score_chosen, pair.score_rejected);
            let prompt_ids = prompt_ids.clone();
            encoded.push((
                number,
                TokenPair { prompt_ids, chosen_ids, rejected_ids, score_chosen, score_rejected },
            ));
        }
        Ok(Encoded {
            tokens: Tokens::Pairs(encoded),
            tokens_truncated: lost,
            label_tokens_truncated: lost,
            chars: 0,
        })
    }

    /// Returns the ids of a completion: those of the full text without those of the prompt, which
    /// must be its prefix.
    fn answer(
        &self,
        script: Script<'_>,
        prompt: &[u32],
        answer: &str,
    ) -> std::result::Result<Vec<u32>, Reason> {
        let mut whole = script.turns.to_vec();
        whole.push(Turn::new(Role::Assistant, answer));
        let script = Script { turns: &whole, ..script };
        let ids =
            self.template.render(script).and_then(|rendered| self.tokenizer.ids(&rendered.text))?;
        check_count(ids.len())?;
        ids.strip_prefix(prompt).map(<[u32]>::to_vec).ok_or_else(|| {
            let index =
                ids.iter().zip(prompt).take_while(|(id, of_prompt)| id == of_prompt).count();
            Reason::found(
                Code::PromptNotPrefix,
                format!("token {index} of the {} prompt tokens differs", prompt.len()),
            )
        })
    }
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

/// Returns the template of a recipe as the JSON of an [`UnknownTemplate`] unless it is bundled.
/// Such a template must first be tried with a canary.
pub fn unknown_template(recipe: &Recipe, tokenizer: &Path) -> Result<Option<String>> {
    if packaged(&recipe.template.name).is_some() {
        return Ok(None);
    }
    let tokenizer = Tokenizer::load_reference(tokenizer)?;
    let (name, text) = template_text(&recipe.template.name, &tokenizer)?;
    if Template::is_packaged(&text) {
        return Ok(None);
    }
    let control = tokenizer.special_texts();
    let unknown = UnknownTemplate { name, text, special: tokenizer.special, control };
    serde_json::to_string(&unknown).map(Some).map_err(|error| Error::Internal(error.to_string()))
}

/// Name and text of the recipe's template.
pub(crate) fn template_text(name: &str, tokenizer: &Tokenizer) -> Result<(String, String)> {
    if let Some(text) = packaged(name) {
        return Ok((name.to_owned(), text.to_owned()));
    }
    match name {
        OF_TOKENIZER => {
            let text = tokenizer.chat_template.clone();
            let text = text.ok_or_else(|| {
                Error::Config(
                    "`template.name = \"tokenizer\"`, but the tokenizer has no chat \
                    template"
                        .to_owned(),
                )
            })?;
            Ok((name.to_owned(), text))
        }
        path => template_file(path),
    }
}

/// The text of a bundled template.
fn packaged(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The template names that recipes can use. Any other value is the path of a file.
#[must_use]
pub fn template_names() -> Vec<&'static str> {
    TEMPLATES.iter().map(|(name, _)| *name).chain([OF_TOKENIZER]).collect()
}

fn template_file(path: &str) -> Result<(String, String)> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::Config(format!(
            "cannot read template `{path}`: {error}; use a .jinja file or one of: {}",
            template_names().join(", ")
        ))
    };
    let bytes =
        disk::read(Path::new(path), TEMPLATE_FILE_BYTES_MAX).map_err(|error| failed(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| failed(&error))?;
    let base = Path::new(path)
        .file_name()
        .map_or_else(|| path.to_owned(), |base| base.to_string_lossy().into_owned());
    Ok((base, text))
}
