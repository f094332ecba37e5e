//! Chat templates: they render dialogues as the text that a model reads, with the ranges that
//! contribute to the loss.
//!
//! The Zephyr template is implemented natively. All other templates run in minijinja with the
//! settings and functions that `transformers` uses for Jinja, and without access to files, the
//! network or the clock.

mod date;
mod ends;
mod guards;
mod jinja;
mod json;
mod left_out;
mod letters;
mod limits;
mod lists;
mod marks;
mod markup;
mod mask;
mod methods;
mod page;
mod parts;
mod prefixes;
mod python;
mod skeleton;
mod source;
mod strings;
mod thinking;
mod tojson;
mod usage;
mod ways;
mod written;
mod zephyr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::page::Page;

use self::page::Pages;
use self::skeleton::{Skeletons, Wanted};
use crate::control_tokens;
use crate::dialogue::Script;
use crate::error::{Error, Result};
use crate::normal::sha256_hex;
use crate::recipe::TrainEnd;
use crate::sample::Rendered;
use crate::stage::Reason;
use crate::tokenize::SpecialTokens;

impl TemplateSource {
    fn plain(
        name: &str,
        text: &str,
        special: &SpecialTokens,
        control: &[String],
    ) -> TemplateSource {
        TemplateSource {
            name: name.to_owned(),
            text: text.to_owned(),
            special: special.clone(),
            control: control.to_vec(),
            date: None,
            args: Map::new(),
            train_end: TrainEnd::Require,
        }
    }
}

/// The version of rendering and of the ranges.
pub const VERSION: u32 = 3;

/// The bundled templates, by their names in recipes.
pub const TEMPLATES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// The Zephyr template, identical to the one in the model's `tokenizer_config.json` plus a final
/// newline. It is the only one that is rendered natively.
pub const ZEPHYR: &str = include_str!("../../../../python/zephyr_fast/templates/zephyr.jinja");

/// A template that is not yet loaded, with everything that a run loads it with, because any of it
/// may affect whether the template is harmful.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TemplateSource {
    /// Its name in recipes.
    pub name: String,
    /// Its Jinja source.
    pub text: String,
    /// The tokenizer's special tokens by use.
    pub special: SpecialTokens,
    /// The texts of all special tokens.
    pub control: Vec<String>,
    /// The date that `strftime_now` returns.
    pub date: Option<String>,
    /// Further arguments of the template.
    pub args: Map<String, Value>,
    /// Action if it writes no token at the end of a message.
    pub train_end: TrainEnd,
}

/// A template, ready to render.
#[derive(Debug)]
pub struct Template {
    name: String,
    text: String,
    kind: Kind,
    pages: Pages,
}

#[derive(Debug)]
enum Kind {
    Zephyr { eos: String },
    Jinja { jinja: Box<jinja::Jinja>, skeletons: Skeletons },
}

impl Template {
    /// Compiles a template and renders a canary with it. Rejects templates that cannot be rendered
    /// faithfully.
    pub fn load(mut source: TemplateSource) -> Result<Template> {
        // Jinja drops one newline at the end of a source, so one is dropped here if the template
        // stays the same.
        let text = &source.text;
        source.text = text
            .strip_suffix('\n')
            .filter(|rest| !rest.ends_with(['\n', '\r']))
            .unwrap_or(text)
            .to_owned();
        check_used(&source)?;
        let is_zephyr = Some(source.text.as_str()) == ZEPHYR.strip_suffix('\n');
        let kind = match (&source.special.eos, is_zephyr) {
            (Some(eos), true) => Kind::Zephyr { eos: eos.clone() },
            (None, true) => {
                return Err(Error::Config(
                    "the zephyr template needs an `eos_token` in \
                    tokenizer_config.json"
                        .to_owned(),
                ));
            }
            (_, false) => Kind::Jinja {
                jinja: Box::new(jinja::Jinja::new(&source)?),
                skeletons: Skeletons::default(),
            },
        };
        Ok(Template { name: source.name, text: source.text, kind, pages: Pages::default() })
    }

    /// Loads a template without a date and arguments. It must write an end for every message.
    pub fn new(
        name: &str,
        text: &str,
        special: &SpecialTokens,
        control: &[String],
    ) -> Result<Template> {
        Template::load(TemplateSource::plain(name, text, special, control))
    }

    /// The name of the bundled template with this source.
    #[must_use]
    pub fn bundled_name(text: &str) -> Option<&'static str> {
        let without_end = |text: &str| text.strip_suffix('\n').unwrap_or(text).to_owned();
        let is_same = |bundled: &str| without_end(bundled) == without_end(text);
        TEMPLATES.iter().find(|(_, bundled)| is_same(bundled)).map(|(name, _)| *name)
    }

    /// Loads a template exactly as a run would. A hostile template can exhaust a process's stack or
    /// time, so this should run in a separate process. If it succeeds, so does loading it in the
    /// run, which takes the same steps. `unknown` is the JSON of a [`TemplateSource`].
    pub fn canary(unknown: &str) -> Result<()> {
        let unknown: TemplateSource =
            serde_json::from_str(unknown).map_err(|error| Error::Internal(error.to_string()))?;
        Template::load(unknown).map(|_| ())
    }

    /// Its name in recipes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its Jinja source.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The role markers and other structure that the template writes. Content must not contain
    /// them.
    #[must_use]
    pub fn markers(&self) -> Vec<String> {
        match &self.kind {
            Kind::Zephyr { .. } => control_tokens::structure(&self.text, &[], |_| false),
            Kind::Jinja { jinja, .. } => jinja.markers.clone(),
        }
    }

    /// The texts that end a trained assistant message.
    #[must_use]
    pub fn ends(&self) -> Vec<String> {
        match &self.kind {
            Kind::Zephyr { eos } => vec![eos.clone()],
            Kind::Jinja { jinja, .. } => jinja.ends.texts(),
        }
    }

    /// SHA-256 of its source, hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        sha256_hex(self.text.as_bytes())
    }

    /// The text of a whole dialogue. Refuses a dialogue of which something would not be in the text.
    pub fn render<'row>(
        &self,
        script: impl Into<Script<'row>>,
    ) -> std::result::Result<Page<'_>, Reason> {
        let script = script.into();
        match &self.kind {
            Kind::Zephyr { eos } => {
                zephyr::check(&self.name, script)?;
                let mut page = self.pages.blank();
                zephyr::write(script.turns, eos, &mut page.rendered);
                Ok(page)
            }
            Kind::Jinja { jinja, skeletons } => {
                let mut page = self.pages.blank();
                if skeletons.fill(jinja, script, Wanted::Whole, &mut page.rendered) {
                    return Ok(page);
                }
                jinja.render(script).map(Page::from)
            }
        }
    }

    /// Renders a dialogue without computing which ranges contribute to the loss. Returns `None` if
    /// that would not save much work.
    #[must_use]
    pub fn text_alone<'row>(
        &self,
        script: impl Into<Script<'row>>,
    ) -> Option<std::result::Result<String, Reason>> {
        match &self.kind {
            Kind::Zephyr { .. } => None,
            Kind::Jinja { jinja, skeletons } => {
                let (script, mut page) = (script.into(), Rendered::default());
                if skeletons.fill(jinja, script, Wanted::Text, &mut page) {
                    return Some(Ok(page.text));
                }
                Some(jinja.render_text(script))
            }
        }
    }

    /// Renders the text before a completion: the dialogue so far and the generation prompt. Only
    /// [`Template::render`], which is called for the completion, refuses what would be left out.
    pub fn render_prompt<'row>(
        &self,
        script: impl Into<Script<'row>>,
    ) -> std::result::Result<String, Reason> {
        let script = script.into();
        match &self.kind {
            Kind::Zephyr { eos } => {
                let mut rendered = Rendered::default();
                zephyr::write(script.turns, eos, &mut rendered);
                Ok(rendered.text + if script.turns.is_empty() { "" } else { "<|assistant|>\n" })
            }
            Kind::Jinja { jinja, skeletons } => {
                let mut page = Rendered::default();
                if skeletons.fill(jinja, script, Wanted::Prompt, &mut page) {
                    return Ok(page.text);
                }
                jinja.render_prompt(script)
            }
        }
    }
}

/// Rejects a date and arguments that a template does not read.
fn check_used(source: &TemplateSource) -> Result<()> {
    let date = source.date.as_ref().map(|_| ("template.date".to_owned(), "strftime_now"));
    let args = source.args.keys().map(|name| (format!("template.args.{name}"), name.as_str()));
    match args.chain(date).find(|(_, name)| !source.text.contains(name)) {
        Some((key, name)) => Err(Error::Config(format!(
            "`{key}` has no effect: the template `{}` does not use `{name}`; remove it",
            source.name
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
