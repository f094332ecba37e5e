//! Any chat template but Zephyr's: minijinja set up as `transformers` sets up Jinja, under limits.

use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, Value};
use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value as Json};

use super::date::{Date, strftime_now};
use super::ends::Ends;
use super::limits::{self, Draft};
use super::marks::{self, Marking};
use super::mask::{self, Proven};
use super::skeleton::watched;
use super::ways::ToolMarks;
use super::{TemplateSource, guards, json, left_out, python, source, usage};
use crate::control_tokens::{markers, structure};
use crate::dialogue::{Role, Script, Turn};
use crate::error::{Error, Result};
use crate::sample::Rendered;
use crate::stage::{Code, Reason};
use crate::tokenize::SpecialTokens;

const NAME: &str = "chat_template";
const WATCHED: &str = "watched";

pub(super) struct Jinja {
    name: String,
    source: String,
    by_fuel: Vec<Environment<'static>>,
    /// Whether a block of a watched source removes white space around its text.
    pub(super) strips_blocks: bool,
    pub(super) special: SpecialTokens,
    /// Everything the template writes by itself: its source and the output for the canaries.
    pub(super) written: String,
    /// The markers that it uses for structure.
    pub(super) markers: Vec<String>,
    pub(super) has_tags: bool,
    pub(super) ends: Ends,
    /// The arguments of the recipe.
    pub(super) args: Map<String, Json>,
    /// How tools are marked.
    pub(super) tool_marks: ToolMarks,
    /// These and the special tokens, as the template sees them.
    fixed: Arc<Vec<(String, Value)>>,
}

impl std::fmt::Debug for Jinja {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Jinja")
    }
}

impl Jinja {
    pub(super) fn new(template: &TemplateSource) -> Result<Jinja> {
        let TemplateSource { name, text, .. } = template;
        let refused = |why: &str| Error::Config(format!("template `{name}` rejected: {why}"));
        if text.len() > limits::TEMPLATE_BYTES_MAX {
            return Err(refused(&format!(
                "its size is {} bytes (limit: {})",
                text.len(),
                limits::TEMPLATE_BYTES_MAX
            )));
        }
        let date = date(template.date.as_deref())?;
        let source::Prepared { source, has_tags, odd_escape } = source::prepared(text);
        if let Some(escape) = odd_escape {
            return Err(refused(&format!(
                "a string contains the escape `{escape}`, which Python interprets differently; \
                    write the character itself"
            )));
        }
        let mut environment = environment(date);
        let strips_blocks = limits::add(&mut environment, [NAME, WATCHED], &source)
            .map_err(|error| refused(&described(&error)))?;
        let by_fuel = limits::by_fuel(environment);
        let mut jinja = Jinja {
            name: name.to_owned(),
            source: text.to_owned(),
            by_fuel,
            strips_blocks,
            special: template.special.clone(),
            written: text.to_owned(),
            markers: Vec::new(),
            has_tags,
            ends: Ends::unknown(),
            args: arguments(template)?.clone(),
            tool_marks: ToolMarks::default(),
            fixed: Arc::new(fixed(template)),
        };
        let canaries = jinja.canaries().map_err(|error| refused(&described(&error)))?;
        let mut tokens = template.control.clone();
        tokens.extend(template.special.eos.clone());
        tokens.extend(markers(&jinja.written));
        jinja.ends = Ends::from_trials(&jinja, &canaries, tokens, template.train_end)
            .map_err(|why| refused(&why))?;
        for canary in &canaries {
            jinja
                .prove(canary.into())
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
        let (mut rendered, mut texts, mut failure) = (Vec::new(), Vec::new(), None);
        for canary in all {
            match self.text(Script::from(&canary), true, None) {
                Ok(text) => {
                    texts.push(text);
                    rendered.push(canary);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let said: Vec<&str> = rendered.iter().flatten().map(|turn| turn.text.as_str()).collect();
        let encloses = |part: &str| said.iter().any(|said| part.contains(said));
        self.markers = structure(&self.written, &texts, encloses);
        self.written.push_str(&texts.concat());
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
        let (mut text, proven) = self.prove(script)?;
        left_out::check(self, script, &text, &proven.others)
            .map_err(|why| Reason::found(Code::MaskNotProvable, why))?;
        usage::check(self, script, &text, &proven.parts, &proven.tools)?;
        let Proven { mut trained, answers, append, .. } = proven;
        if let Some(offset) = append {
            let end = self.ends.appended();
            text.insert_str(offset, end);
            // The range of the last message, unless the message is empty.
            match trained.last_mut().filter(|range| range.end == offset) {
                Some(range) => range.end += end.len(),
                None => trained.push(offset..offset + end.len()),
            }
        }
        let started = |end: &usize| trained.partition_point(|range| range.start <= *end);
        let answers = answers.iter().map(started).collect();
        Ok(Rendered { text, trained, answers })
    }

    /// The text of a dialogue, and where everything is in it.
    fn prove(&self, script: Script<'_>) -> std::result::Result<(String, Proven), Reason> {
        let text = self.render_text(script)?;
        let proven = mask::derive(self, script, &text)
            .map_err(|why| Reason::found(Code::MaskNotProvable, why))?;
        Ok((text, proven))
    }

    /// The text of a dialogue, with the generation prompt or without, marked or plain.
    pub(super) fn text(
        &self,
        script: Script<'_>,
        prompt: bool,
        marking: Option<&Marking>,
    ) -> std::result::Result<String, minijinja::Error> {
        self.text_of(script, marks::messages(script, marking), prompt, marking)
    }

    /// The text of a dialogue whose messages already are as the template sees them.
    pub(super) fn text_of(
        &self,
        script: Script<'_>,
        messages: Vec<Value>,
        prompt: bool,
        marking: Option<&Marking>,
    ) -> std::result::Result<String, minijinja::Error> {
        self.rendered(NAME, script, messages, prompt, marking)
    }

    /// The marked text of a dialogue, unless a content is looked into.
    pub(super) fn watched(
        &self,
        script: Script<'_>,
        prompt: bool,
        marking: &Marking,
    ) -> Option<String> {
        let messages = marks::messages(script, Some(marking));
        self.rendered(WATCHED, script, messages, prompt, Some(marking)).ok()
    }

    fn rendered(
        &self,
        name: &str,
        script: Script<'_>,
        messages: Vec<Value>,
        prompt: bool,
        marking: Option<&Marking>,
    ) -> std::result::Result<String, minijinja::Error> {
        let tools = script.inputs.and_then(|inputs| inputs.tools.as_ref());
        let args = script.inputs.into_iter().flat_map(|inputs| &inputs.args);
        let [open, close] = marking
            .map_or_else(Default::default, |marking| marking.tags().map(|tag| tag.to_string()));
        let variables = Variables {
            messages: Value::from(messages),
            tools: tools.map_or_else(
                || Value::from(()),
                |tools| match marking {
                    Some(marking) if marking.tools => marking.tools(script.turns.len(), tools),
                    Some(marking) => marking.value(tools),
                    None => json::value(tools),
                },
            ),
            prompt: Value::from(prompt),
            tags: [open, close].map(Value::from),
            of_row: args.map(|(name, value)| (name.clone(), json::value(value))).collect(),
            fixed: Arc::clone(&self.fixed),
        };
        let values = Value::from_object(variables);
        let bytes = limits::row_bytes(script);
        let class = if name == WATCHED { limits::HALF } else { limits::fuel_class(bytes) };
        let mut draft = Draft::new(bytes);
        self.by_fuel[class].get_template(name)?.render_captured_to(values, &mut draft)?;
        Ok(draft.text())
    }
}

/// The variables of one rendering. Most of it is shared, not copied.
#[derive(Debug)]
struct Variables {
    messages: Value,
    tools: Value,
    prompt: Value,
    tags: [Value; 2],
    of_row: Vec<(String, Value)>,
    fixed: Arc<Vec<(String, Value)>>,
}

impl Object for Variables {
    fn get_value(self: &Arc<Self>, name: &Value) -> Option<Value> {
        self.get_value_by_str(name.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Value> {
        let [open, close] = &self.tags;
        Some(match name {
            MESSAGES => self.messages.clone(),
            TOOLS => self.tools.clone(),
            DOCUMENTS => Value::from(()),
            PROMPT => self.prompt.clone(),
            OPEN => open.clone(),
            CLOSE => close.clone(),
            // Arguments of the row go before those of the recipe, and both before special tokens.
            _ => {
                let all = self.of_row.iter().chain(self.fixed.iter());
                all.into_iter().find(|(known, _)| known == name)?.1.clone()
            }
        })
    }
}

/// The special tokens and the arguments of the recipe, which go before them.
fn fixed(template: &TemplateSource) -> Vec<(String, Value)> {
    let args = template.args.iter().map(|(name, value)| (name.clone(), json::value(value)));
    let tokens = template.special.pairs().into_iter();
    args.chain(tokens.map(|(name, token)| (name.to_owned(), Value::from(token)))).collect()
}

/// The internal names of the marks for generation tags.
const OPEN: &str = "__open";
const CLOSE: &str = "__close";

const MESSAGES: &str = "messages";
const TOOLS: &str = "tools";
const DOCUMENTS: &str = "documents";
const PROMPT: &str = "add_generation_prompt";
/// The names that arguments of a recipe cannot have.
const RESERVED: [&str; 4] = [MESSAGES, TOOLS, DOCUMENTS, PROMPT];

/// The arguments of the recipe, by name, if none has the name of another variable.
fn arguments(template: &TemplateSource) -> Result<&Map<String, Json>> {
    if let Some(name) = template.args.keys().find(|name| {
        RESERVED.contains(&name.as_str()) || name.starts_with('_') || name.ends_with("_token")
    }) {
        return Err(Error::Config(format!(
            "`template.args.{name}` cannot be set: the value comes from the rows or the tokenizer"
        )));
    }
    Ok(&template.args)
}

fn date(text: Option<&str>) -> Result<Option<Date>> {
    text.map(|text| {
        Date::parse(text).ok_or_else(|| {
            Error::Config(format!("`template.date` is `{text}`; expected a day such as 2024-07-26"))
        })
    })
    .transpose()
}

/// Jinja as `transformers` sets it up for chat templates.
fn environment(date: Option<Date>) -> Environment<'static> {
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
    environment.add_function("strftime_now", move |format: &str| strftime_now(date, format));
    guards::add(&mut environment);
    watched::add(&mut environment);
    environment.add_filter(source::FILTER, |state: &minijinja::State, body: String| {
        let mark = |name: &str| state.lookup(name).map(|mark| mark.to_string()).unwrap_or_default();
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
