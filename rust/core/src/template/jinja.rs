//! Any other chat template: minijinja set up as `transformers` sets up Jinja, and the search for the trained ranges.
//!
//! Ranges come from `{% generation %}` tags where a template has them. Elsewhere two characters that occur nowhere in the row are put
//! round each answer; where they come out again shows what became of it, and a second rendering without them must give the same text.

use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind, context};
use regex::Regex;

use super::{Rendered, tojson};
use crate::dialogue::{Role, Turn};
use crate::error::{Error, Result};
use crate::stage::Reason;
use crate::tokenize::SpecialTokens;

const NAME: &str = "chat_template";
/// A thousand times what the longest known template uses on a canary; a row that needs more is quarantined.
const FUEL: u64 = 5_000_000;

pub(super) struct Jinja {
    environment: Environment<'static>,
    special: SpecialTokens,
    /// Tokens that may end an assistant's turn.
    ends: Vec<String>,
    has_generation_tags: bool,
}

impl std::fmt::Debug for Jinja {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Jinja")
    }
}

impl Jinja {
    pub(super) fn new(name: &str, text: &str, special: &SpecialTokens, control: &[String]) -> Result<Jinja> {
        let refused = |why: &str| Error::Recipe(format!("template `{name}` is refused: {why}"));
        if text.contains("strftime_now") {
            return Err(refused("it calls `strftime_now`, so its bytes would depend on the date; write the date into a copy of it"));
        }
        let (source, has_generation_tags) = with_generation_filter(text);
        let mut environment = environment();
        environment.add_template_owned(NAME, source).map_err(|error| refused(&described(&error)))?;
        let mut ends = control.to_vec();
        ends.extend(special.eos.clone());
        ends.sort_by_key(|end| std::cmp::Reverse(end.len()));
        let jinja = Jinja { environment, special: special.clone(), ends, has_generation_tags };
        let turn = |role, text: &str| Turn { role, text: text.to_owned() };
        let canary = [turn(Role::User, "Question?"), turn(Role::Assistant, "Answer.")];
        jinja.render_text(&canary, false, None).map_err(|error| refused(&described(&error)))?;
        Ok(jinja)
    }

    pub(super) fn render_prompt(&self, turns: &[Turn]) -> std::result::Result<String, Reason> {
        self.render_text(turns, true, None).map_err(|error| Reason::found("template", described(&error)))
    }

    pub(super) fn render(&self, turns: &[Turn]) -> std::result::Result<Rendered, Reason> {
        let failed = |error: minijinja::Error| Reason::found("template", described(&error));
        let text = self.render_text(turns, false, None).map_err(failed)?;
        let answers = turns.iter().filter(|turn| turn.role == Role::Assistant).count();
        let marks = unused_marks(turns);
        let trials: &[Mark] = if self.has_generation_tags { &[Mark::Tags] } else { &[Mark::Whole, Mark::Trimmed] };
        for mark in trials {
            let marked = self.render_text(turns, false, Some((*mark, marks))).map_err(failed)?;
            let (unmarked, ranges) = unmark(&marked, marks);
            if unmarked == text && ranges.len() == answers {
                let trained = ranges.into_iter().map(|range| self.with_end(&text, range)).collect();
                return Ok(Rendered { text, trained });
            }
        }
        Err(Reason::found("mask", "the template changes an answer so that its place in the text cannot be proven"))
    }

    /// The range with the token that ends the turn, where one follows; generation tags say it themselves.
    fn with_end(&self, text: &str, range: Range<usize>) -> Range<usize> {
        if self.has_generation_tags {
            return range;
        }
        let rest = text[range.end..].trim_start();
        let skipped = text.len() - range.end - rest.len();
        let end = self.ends.iter().find(|end| rest.starts_with(end.as_str()));
        range.start..range.end + end.map_or(0, |end| skipped + end.len())
    }

    fn render_text(&self, turns: &[Turn], prompt: bool, mark: Option<(Mark, [char; 2])>) -> std::result::Result<String, minijinja::Error> {
        let content = |turn: &Turn| match mark {
            Some((Mark::Whole, [open, close])) if turn.role == Role::Assistant => format!("{open}{}{close}", turn.text),
            Some((Mark::Trimmed, [open, close])) if turn.role == Role::Assistant => {
                let core = turn.text.trim();
                let start = turn.text.len() - turn.text.trim_start().len();
                let (lead, trail) = (&turn.text[..start], &turn.text[start + core.len()..]);
                format!("{lead}{open}{core}{close}{trail}")
            }
            _ => turn.text.clone(),
        };
        let messages: Vec<Value> = turns.iter().map(|turn| context! { role => turn.role.name(), content => content(turn) }).collect();
        let [open, close] = match mark {
            Some((Mark::Tags, [open, close])) => [Some(open), Some(close)],
            _ => [None, None],
        };
        let special = self.special.pairs().into_iter().map(|(name, token)| (name, Value::from(token)));
        let values = Value::from_pairs(special.chain([
            ("messages", Value::from(messages)),
            ("tools", Value::from(())),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(prompt)),
            ("__open", Value::from(open.map(String::from))),
            ("__close", Value::from(close.map(String::from))),
        ]));
        self.environment.get_template(NAME)?.render(values)
    }
}

/// What the marks are put round.
#[derive(Clone, Copy)]
enum Mark {
    /// What the template's own generation tags enclose.
    Tags,
    /// The whole answer.
    Whole,
    /// The answer without the white space at its ends, for templates that trim.
    Trimmed,
}

/// Two of Unicode's non-characters that the row does not contain.
fn unused_marks(turns: &[Turn]) -> [char; 2] {
    let mut marks = ('\u{FDD0}'..='\u{FDEF}').filter(|mark| !turns.iter().any(|turn| turn.text.contains(*mark)));
    [marks.next().unwrap_or('\u{FDD0}'), marks.next().unwrap_or('\u{FDD1}')]
}

/// The text without the marks, and the ranges that stood between them.
fn unmark(marked: &str, [open, close]: [char; 2]) -> (String, Vec<Range<usize>>) {
    let mut text = String::with_capacity(marked.len());
    let mut ranges = Vec::new();
    let mut start = 0;
    for letter in marked.chars() {
        if letter == open {
            start = text.len();
        } else if letter == close {
            ranges.push(start..text.len());
        } else {
            text.push(letter);
        }
    }
    (text, ranges)
}

/// The template with its generation tags as filter blocks, which trim white space as Jinja's own blocks do.
fn with_generation_filter(text: &str) -> (String, bool) {
    let open = Regex::new(r"\{%([-+]?)\s*generation\s*([-+]?)%\}").expect("the pattern is constant");
    let close = Regex::new(r"\{%([-+]?)\s*endgeneration\s*([-+]?)%\}").expect("the pattern is constant");
    if !open.is_match(text) {
        return (text.to_owned(), false);
    }
    let text = open.replace_all(text, "{%$1 filter __generation $2%}");
    (close.replace_all(&text, "{%$1 endfilter $2%}").into_owned(), true)
}

/// Jinja as `transformers` sets it up for chat templates.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().expect("the delimiters are the defaults");
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(64);
    environment.set_debug(false);
    environment.add_filter("tojson", |value: &Value, arguments: Kwargs| tojson::tojson(value, &arguments));
    environment.add_filter("__generation", |state: &minijinja::State, body: String| {
        let mark = |name: &str| state.lookup(name).filter(|mark| !mark.is_none()).map(|mark| mark.to_string()).unwrap_or_default();
        format!("{}{body}{}", mark("__open"), mark("__close"))
    });
    environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment
}

/// An error with the line of the template it stands for.
fn described(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    error.line().map_or_else(|| what.clone(), |line| format!("line {line}: {what}"))
}
