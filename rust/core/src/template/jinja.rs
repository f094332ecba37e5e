//! Any chat template but Zephyr's: minijinja set up as `transformers` sets up Jinja, under limits.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind};

use super::limits::{self, Draft};
use super::marks::{self, Marking};
use super::mask::{self, EndTokens};
use super::{guards, python, source, usage};
use crate::control_tokens::markers;
use crate::dialogue::{Role, Script, Turn};
use crate::error::{Error, Result};
use crate::sample::Rendered;
use crate::stage::{Code, Reason};
use crate::tokenize::SpecialTokens;

const NAME: &str = "chat_template";

pub(super) struct Jinja {
    name: String,
    source: String,
    by_fuel: Vec<Environment<'static>>,
    special: SpecialTokens,
    /// Everything the template writes by itself: its source and the output for the canaries.
    pub(super) written: String,
    pub(super) has_tags: bool,
    ends: EndTokens,
}

impl std::fmt::Debug for Jinja {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Jinja")
    }
}

impl Jinja {
    pub(super) fn new(
        name: &str,
        text: &str,
        special: &SpecialTokens,
        control: &[String],
    ) -> Result<Jinja> {
        let refused = |why: &str| Error::Config(format!("template `{name}` rejected: {why}"));
        if text.len() > limits::TEMPLATE_BYTES_MAX {
            return Err(refused(&format!(
                "its size is {} bytes (limit: {})",
                text.len(),
                limits::TEMPLATE_BYTES_MAX
            )));
        }
        if text.contains("strftime_now") {
            return Err(refused(
                "it calls `strftime_now`, so the output would depend on the date; use a copy with \
                    a fixed date",
            ));
        }
        let source::Prepared { source, has_tags, odd_escape } = source::prepared(text);
        if let Some(escape) = odd_escape {
            return Err(refused(&format!(
                "a string contains the escape `{escape}`, which Python interprets differently; \
                    write the character itself"
            )));
        }
        let mut environment = environment();
        limits::add(&mut environment, NAME, &source)
            .map_err(|error| refused(&described(&error)))?;
        let by_fuel = limits::by_fuel(environment);
        let mut jinja = Jinja {
            name: name.to_owned(),
            source: text.to_owned(),
            by_fuel,
            special: special.clone(),
            written: text.to_owned(),
            has_tags,
            ends: EndTokens::default(),
        };
        let canaries = jinja.canaries().map_err(|error| refused(&described(&error)))?;
        let mut tokens = control.to_vec();
        tokens.extend(special.eos.clone());
        tokens.extend(markers(&jinja.written));
        jinja.ends =
            EndTokens::from_trials(&jinja, &canaries, tokens).map_err(|why| refused(&why))?;
        for canary in &canaries {
            jinja
                .render(canary.into())
                .map_err(|reason| refused(&reason.detail.unwrap_or_default()))?;
        }
        Ok(jinja)
    }

    /// The canaries that the template can render. Some templates require a system message and some
    /// reject it. Records the text that is written around the messages.
    fn canaries(&mut self) -> std::result::Result<Vec<Vec<Turn>>, minijinja::Error> {
        let turn = |(role, text): (Role, &str)| Turn::new(role, text);
        let round = [(Role::User, "Question?"), (Role::Assistant, "Answer.")].map(turn);
        let again = [(Role::User, "And then?"), (Role::Assistant, "More words.")].map(turn);
        let system = [turn((Role::System, "Rules."))];
        let all =
            [&[&round[..]][..], &[&round, &again], &[&system, &round], &[&system, &round, &again]]
                .map(<[&[Turn]]>::concat);
        let (mut rendered, mut failure) = (Vec::new(), None);
        for canary in all {
            match self.text(Script::from(&canary), true, None) {
                Ok(text) => {
                    self.written.push_str(&text);
                    rendered.push(canary);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.filter(|_| rendered.is_empty()).map_or(Ok(rendered), Err)
    }

    /// The template's name in recipes.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the template's source contains a variable's name.
    pub(super) fn names(&self, variable: &str) -> bool {
        let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        self.source.match_indices(variable).any(|(start, name)| {
            !self.source[..start].ends_with(is_of_name)
                && !self.source[start + name.len()..].starts_with(is_of_name)
        })
    }

    pub(super) fn render_prompt(&self, script: Script<'_>) -> std::result::Result<String, Reason> {
        self.text(script, true, None)
            .map_err(|error| Reason::found(Code::TemplateError, described(&error)))
    }

    pub(super) fn render_text(&self, script: Script<'_>) -> std::result::Result<String, Reason> {
        self.text(script, false, None)
            .map_err(|error| Reason::found(Code::TemplateError, described(&error)))
    }

    pub(super) fn render(&self, script: Script<'_>) -> std::result::Result<Rendered, Reason> {
        let text = self.render_text(script)?;
        let proven = mask::derive(self, &self.ends, script, &text)
            .map_err(|why| Reason::found(Code::MaskNotProvable, why))?;
        usage::check(self, script, &text, &proven)?;
        Ok(Rendered { text, trained: proven.trained })
    }

    /// The text of a dialogue, with the generation prompt or without, marked or plain.
    pub(super) fn text(
        &self,
        script: Script<'_>,
        prompt: bool,
        marking: Option<&Marking>,
    ) -> std::result::Result<String, minijinja::Error> {
        let messages: Vec<Value> = (0..)
            .zip(script.turns)
            .map(|(index, turn)| marks::message(index, turn, marking))
            .collect();
        let tools = script.inputs.and_then(|inputs| inputs.tools.as_ref());
        let args = script.inputs.into_iter().flat_map(|inputs| &inputs.args);
        let args = args.map(|(name, value)| (name.as_str(), marks::value_of(value)));
        let special =
            self.special.pairs().into_iter().map(|(name, token)| (name, Value::from(token)));
        let tags = marking.map(Marking::tags);
        let values = Value::from_pairs(special.chain(args).chain([
            ("messages", Value::from(messages)),
            ("tools", tools.map_or_else(|| Value::from(()), marks::value_of)),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(prompt)),
            (OPEN, Value::from(tags.map(|[open, _]| open.to_string()))),
            (CLOSE, Value::from(tags.map(|[_, close]| close.to_string()))),
        ]));
        let bytes = limits::row_bytes(script);
        let mut draft = Draft::new(bytes);
        self.by_fuel[limits::fuel_class(bytes)]
            .get_template(NAME)?
            .render_captured_to(values, &mut draft)?;
        Ok(draft.text())
    }
}

/// The internal names of the marks for generation tags.
const OPEN: &str = "__open";
const CLOSE: &str = "__close";

/// Jinja as `transformers` sets it up for chat templates.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_debug(false);
    python::set_up(&mut environment);
    guards::add(&mut environment);
    environment.add_filter(source::FILTER, |state: &minijinja::State, body: String| {
        let mark = |name: &str| {
            state
                .lookup(name)
                .filter(|mark| !mark.is_none())
                .map(|mark| mark.to_string())
                .unwrap_or_default()
        };
        format!("{}{body}{}", mark(OPEN), mark(CLOSE))
    });
    environment
}

/// An error with the line of the template it stands for.
fn described(error: &minijinja::Error) -> String {
    let what = match error.kind() {
        ErrorKind::OutOfFuel => {
            "rendering exceeds the step or output limit for a row of this size".to_owned()
        }
        ErrorKind::WriteFailure => {
            std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
        }
        _ => error.detail().map_or_else(|| error.kind().to_string(), str::to_owned),
    };
    error.line().map_or_else(|| what.clone(), |line| format!("line {line}: {what}"))
}
