//! What a template asks of contents while a source that [`crate::template::guards::watch`] made is rendered.

use std::cell::RefCell;
use std::collections::BTreeSet;

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error};

use crate::template::guards::watch::{BLIND, EDGES, HOLDS, WHOLE};
use crate::template::letters::is_mark;
use crate::template::python::differs;

/// Values within values at most.
const DEPTH_MAX: usize = 16;

/// What was asked of contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Literals that were compared with contents or searched for in them. None was found.
    pub(super) literals: BTreeSet<String>,
    /// Whether white space at the ends of contents makes a difference.
    pub(super) edges: bool,
}

thread_local! {
    static ASKED: RefCell<Asked> = RefCell::default();
}

/// Returns the result of a rendering, and what it asked.
pub(super) fn recorded<T>(render: impl FnOnce() -> T) -> (T, Asked) {
    ASKED.take();
    let result = render();
    (result, ASKED.take())
}

/// Adds the filters that watched sources call.
pub(in crate::template) fn add(environment: &mut Environment) {
    environment.add_filter(BLIND, |value: &Value| {
        if holds_content(value, 0) { Err(seen()) } else { Ok(value.clone()) }
    });
    environment.add_filter(WHOLE, |value: &Value| {
        if marked(value).is_some() { Err(seen()) } else { Ok(value.clone()) }
    });
    environment.add_filter(EDGES, |value: &Value| {
        if marked(value).is_some() {
            ASKED.with_borrow_mut(|asked| asked.edges = true);
        }
        value.clone()
    });
    environment.add_filter(HOLDS, |value: &Value, literal: &str| {
        let is_seen = match (marked(value), value.kind()) {
            (Some(text), _) => {
                if !literal.is_empty() {
                    ASKED.with_borrow_mut(|asked| asked.literals.insert(literal.to_owned()));
                }
                !is_one_content(text)
            }
            // Only the keys are searched, which hold none.
            (None, ValueKind::Map) => false,
            _ => holds_content(value, 0),
        };
        if is_seen { Err(seen()) } else { Ok(value.clone()) }
    });
}

fn seen() -> Error {
    differs("looking into a content")
}

/// The text of a value with marks in it.
fn marked(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| text.contains(is_mark))
}

/// Whether a text is a content with its marks, and no more.
fn is_one_content(text: &str) -> bool {
    let mut letters = text.chars();
    let (first, last) = (letters.next(), letters.next_back());
    first.is_some_and(is_mark) && last.is_some_and(is_mark) && !letters.any(is_mark)
}

/// Whether a value is a text with a content in it, holds such a text, or may do so.
fn holds_content(value: &Value, depth: usize) -> bool {
    let holds = |value: &Value| holds_content(value, depth + 1);
    match value.kind() {
        ValueKind::Undefined | ValueKind::None | ValueKind::Bool | ValueKind::Number => false,
        ValueKind::String => marked(value).is_some(),
        ValueKind::Seq | ValueKind::Iterable if depth < DEPTH_MAX => {
            value.try_iter().map_or(true, |mut items| items.any(|item| holds(&item)))
        }
        ValueKind::Map if depth < DEPTH_MAX => value.try_iter().map_or(true, |mut keys| {
            keys.any(|key| holds(&key) || value.get_item(&key).map_or(true, |item| holds(&item)))
        }),
        _ => true,
    }
}
