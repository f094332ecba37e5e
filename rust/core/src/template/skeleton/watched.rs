//! What a template asks of contents while a source that [`crate::template::guards::watch`] made is rendered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error};

use super::sealed::Sealed;
use super::slots::{Slot, number};
use crate::template::guards::watch::{BLIND, EDGES, HOLDS, JSON, WHOLE};
use crate::template::letters::is_mark;
use crate::template::python::differs;
use crate::template::tojson::{Format, dumped};

/// Values within values at most.
const DEPTH_MAX: usize = 16;

/// What was asked of contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Literals that were compared with contents or searched for in them. None was found.
    pub(super) literals: BTreeSet<String>,
    /// Whether white space at the ends of contents makes a difference.
    pub(super) edges: bool,
    /// The slots of texts that are written as JSON.
    pub(super) json: BTreeSet<usize>,
    /// How sealed values are written as JSON, and within how many others, by their slots.
    pub(super) written: BTreeMap<usize, (Format, usize)>,
    /// Whether a sealed value is read.
    pub(super) is_read: bool,
}

impl Asked {
    /// The JSON of each sealed value. `None` if one is not written, or cannot be with this fuel.
    pub(super) fn dumped(
        &self,
        slots: &[Slot<'_>],
        mut fuel: u64,
    ) -> Option<BTreeMap<usize, String>> {
        let sealed = slots
            .iter()
            .enumerate()
            .filter_map(|(number, slot)| slot.sealed.map(|value| (number, value)));
        let dump = |(number, value)| {
            let (format, depth) = self.written.get(&number)?;
            Some((number, dumped(value, format, *depth, &mut fuel)?))
        };
        sealed.map(dump).collect()
    }

    /// Adds what another rendering asked. `None` if it writes a sealed value in another way.
    pub(super) fn add(&mut self, more: Asked) -> Option<()> {
        self.literals.extend(more.literals);
        self.edges |= more.edges;
        self.json.extend(more.json);
        more.written.iter().all(|(slot, of)| self.written.get(slot) == Some(of)).then_some(())
    }
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

/// Records that a sealed value is read.
pub(super) fn read() {
    ASKED.with_borrow_mut(|asked| asked.is_read = true);
}

/// Records that a sealed value is written as JSON. Fails if it was written in another way before.
pub(super) fn written(slot: usize, format: &Format, depth: usize) -> Result<(), Error> {
    let now = (format.clone(), depth);
    let before = ASKED.with_borrow_mut(|asked| asked.written.insert(slot, now.clone()));
    if before.is_none_or(|before| before == now) { Ok(()) } else { Err(seen()) }
}

/// Adds the filters that watched sources call.
pub(in crate::template) fn add(environment: &mut Environment) {
    environment.add_filter(BLIND, |value: &Value| {
        if holds_content(value) { Err(seen()) } else { Ok(value.clone()) }
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
    environment.add_filter(JSON, |value: &Value| {
        let mut slots = BTreeSet::new();
        let mut see = |text: &str| slots.extend(text.chars().filter_map(number));
        each_text(value, 0, true, &mut see).ok_or_else(seen)?;
        ASKED.with_borrow_mut(|asked| asked.json.append(&mut slots));
        Ok(value.clone())
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
            _ => holds_content(value),
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
    text.starts_with(is_mark)
        && text.ends_with(is_mark)
        && !text.trim_matches(is_mark).contains(is_mark)
}

/// Whether a value is a text with a content in it, holds such a text, or may do so.
fn holds_content(value: &Value) -> bool {
    let mut holds = false;
    let is_known = each_text(value, 0, false, &mut |text| holds |= text.contains(is_mark));
    holds || is_known.is_none()
}

/// Calls `see` for a value that is a text, or for each text in it, but not in sealed values if these
/// are skipped. `None` if there may be more.
fn each_text(
    value: &Value,
    depth: usize,
    skips_sealed: bool,
    see: &mut impl FnMut(&str),
) -> Option<()> {
    let mut each = |value: &Value| each_text(value, depth + 1, skips_sealed, see);
    match value.kind() {
        _ if skips_sealed && value.downcast_object_ref::<Sealed>().is_some() => {}
        ValueKind::Undefined | ValueKind::None | ValueKind::Bool | ValueKind::Number => {}
        ValueKind::String => see(value.as_str()?),
        ValueKind::Seq | ValueKind::Iterable if depth < DEPTH_MAX => {
            value.try_iter().ok()?.try_for_each(|item| each(&item))?;
        }
        ValueKind::Map if depth < DEPTH_MAX => {
            for key in value.try_iter().ok()? {
                each(&key)?;
                each(&value.get_item(&key).ok()?)?;
            }
        }
        _ => return None,
    }
    Some(())
}
