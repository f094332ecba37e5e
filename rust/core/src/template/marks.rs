//! Marks: characters put around parts of a row before it is rendered, to see where a template
//! writes them.
//!
//! Marks are Unicode non-characters that neither the row nor the template contains. A marked
//! rendering counts only if removing its marks yields the plain text. A template that depends on
//! the marks therefore proves nothing.
//!
//! An assistant message with calls or reasoning has several parts. Each of them is marked with the
//! index of its message: `{` index part `}`.

use std::ops::Range;

use minijinja::Value;
use serde_json::{Map, Value as Json};

use super::json;
pub(super) use super::letters::Letters;
use super::letters::{ANSWERS, KINDS, OTHERS, PARTS, REASONING_BEFORE, TAGS};
use super::python::strip;
use super::skeleton::sealed;
use super::thinking;
use crate::dialogue::{CALLS, Content, REASONING, Role, Script, Turn};

/// What an assistant's message is replaced by, to see what is written before it.
pub(super) const STAND_IN: &str = "\u{FFFE}";

/// Digits of a message's index, in base 16: a row has at most 1,024 messages.
const DIGITS: usize = 3;

/// Which contents are marked, and which part of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contents {
    /// Only assistant messages, or every message.
    pub(super) answers_only: bool,
    /// Whether the white space at each end stays outside, for templates that strip it there.
    pub(super) strips: [bool; 2],
    /// How answers with reasoning in their content are marked.
    pub(super) thinking: Thinking,
    /// What is marked of calls.
    pub(super) calls: Calls,
}

/// How an answer with `</think>` in its content is marked. Some templates move or drop what is
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    /// Like any other answer.
    Whole,
    /// The reasoning and the answer behind it on their own.
    Apart,
    /// As parts, split at each tag, like the reasoning and calls of other messages.
    InParts,
}

/// What is marked of an assistant's calls. Some templates compare names or parse arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    NamesAndArguments,
    Names,
    Nothing,
}

/// The marks used in one rendering.
pub(super) struct Marking {
    pub(super) letters: Letters,
    pub(super) contents: Option<Contents>,
    /// Whether the names of tools are marked, with the indices that follow those of the messages.
    pub(super) tools: bool,
    /// Whether stand-ins are sealed.
    pub(super) seals: bool,
}

/// Whether an assistant message has calls or reasoning, so that it has several parts.
pub(super) fn has_parts(turn: &Turn) -> bool {
    turn.role == Role::Assistant
        && turn.extras.as_ref().is_some_and(|extras| {
            extras.members.keys().any(|key| key == CALLS || REASONING.contains(&key.as_str()))
        })
}

/// Whether an answer would be split at its end of thinking.
pub(super) fn can_split(turn: &Turn) -> bool {
    turn.role == Role::Assistant && thinking::is_in(&turn.text)
}

impl Contents {
    /// Whether the parts of a message are marked with its index.
    pub(super) fn is_in_parts(self, turn: &Turn) -> bool {
        has_parts(turn) || self.thinking == Thinking::InParts && can_split(turn)
    }
}

impl Marking {
    /// The marks of generation tags.
    pub(super) fn tags(&self) -> [char; 2] {
        self.letters.pair(TAGS)
    }

    /// A value as the template sees it.
    pub(super) fn value(&self, json: &Json) -> Value {
        if self.seals {
            sealed::value(json, self.letters.pair(REASONING_BEFORE))
        } else {
            json::value(json)
        }
    }

    /// The content of a message with its marks.
    fn content(&self, index: usize, turn: &Turn) -> String {
        let is_answer = turn.role == Role::Assistant;
        match self.contents {
            Some(contents) if contents.is_in_parts(turn) => {
                if contents.thinking == Thinking::Whole {
                    self.part(index, &turn.text)
                } else {
                    self.split(index, &turn.text)
                }
            }
            Some(Contents { answers_only, strips, thinking, .. }) if is_answer || !answers_only => {
                let of = |kind| self.letters.pair(kind);
                if let Some(marked) = (is_answer && thinking == Thinking::Apart)
                    .then(|| {
                        let [of_reasoning, of_answer] = [REASONING_BEFORE, ANSWERS].map(of);
                        thinking::marked(&turn.text, of_reasoning, of_answer, strips[1])
                    })
                    .flatten()
                {
                    return marked;
                }
                let kind = if is_answer { ANSWERS } else { OTHERS };
                let [open, close] = of(kind);
                around(&turn.text, strips, &open.to_string(), close)
            }
            _ => turn.text.clone(),
        }
    }

    /// A part of a message with its marks. White space around it stays outside; a blank part has
    /// no marks, because templates ask whether there is one.
    fn part(&self, index: usize, text: &str) -> String {
        if strip(text, None, true, true).is_empty() {
            return text.to_owned();
        }
        let [open, close] = self.letters.pair(PARTS);
        let digit = |place: usize| self.letters.digits[index >> (4 * place) & 15];
        let open: String = [open].into_iter().chain((0..DIGITS).rev().map(digit)).collect();
        around(text, [true, true], &open, close)
    }

    /// A text with marks around what is between its tags of thinking.
    fn split(&self, index: usize, text: &str) -> String {
        let first = [thinking::OPEN, thinking::CLOSE]
            .into_iter()
            .filter_map(|tag| Some((text.find(tag)?, tag.len())))
            .min();
        let Some((start, length)) = first else { return self.part(index, text) };
        let (before, rest) = text.split_at(start);
        let (tag, after) = rest.split_at(length);
        self.part(index, before) + tag + &self.split(index, after)
    }

    /// The members of a message with its marks.
    fn members(&self, index: usize, turn: &Turn) -> Map<String, Json> {
        let mut members =
            turn.extras.as_ref().map(|extras| extras.members.clone()).unwrap_or_default();
        let contents = self.contents.filter(|_| turn.role == Role::Assistant);
        let Some(contents) = contents else { return members };
        for (name, value) in &mut members {
            match value {
                Json::String(text) if REASONING.contains(&name.as_str()) => {
                    *text = self.part(index, text);
                }
                Json::Array(calls) if contents.calls != Calls::Nothing => {
                    calls.iter_mut().for_each(|call| self.call(index, call, contents.calls));
                }
                _ => {}
            }
        }
        members
    }

    /// Marks a call: what is in `function`, or in the call itself.
    fn call(&self, index: usize, call: &mut Json, calls: Calls) {
        let Json::Object(call) = call else { return };
        if let Some(function) = call.get_mut("function") {
            return self.call(index, function, calls);
        }
        if let Some(Json::String(name)) = call.get_mut("name") {
            *name = self.part(index, name);
        }
        if calls == Calls::NamesAndArguments
            && let Some(arguments) = call.get_mut("arguments")
        {
            self.leaves(index, arguments);
        }
    }

    /// The tools of a dialogue with as many messages, with their names marked.
    pub(super) fn tools(&self, messages: usize, tools: &Json) -> Value {
        let Json::Array(tools) = tools else { return json::value(tools) };
        let mut tools = tools.clone();
        for (index, tool) in (messages..1 << (4 * DIGITS)).zip(&mut tools) {
            if let Some(name) = tool_name(tool) {
                *name = self.part(index, name);
            }
        }
        json::value(&tools.into())
    }

    /// Marks every text within a value.
    fn leaves(&self, index: usize, value: &mut Json) {
        match value {
            Json::String(text) => *text = self.part(index, text),
            Json::Array(values) => values.iter_mut().for_each(|value| self.leaves(index, value)),
            Json::Object(members) => {
                members.values_mut().for_each(|value| self.leaves(index, value));
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }
}

/// The name of a tool, which is in `function` or in the tool itself.
pub(super) fn tool_name(tool: &mut Json) -> Option<&mut String> {
    let holder = if tool.get("function").is_some() { &mut tool["function"] } else { tool };
    match holder.get_mut("name") {
        Some(Json::String(name)) => Some(name),
        _ => None,
    }
}

/// A text with marks around it, or around what is between its white space.
fn around(text: &str, [start, end]: [bool; 2], open: &str, close: char) -> String {
    let after_lead = if start { strip(text, None, true, false) } else { text };
    let core = if end { strip(after_lead, None, false, true) } else { after_lead };
    let lead = text.len() - after_lead.len();
    format!("{}{open}{core}{close}{}", &text[..lead], &text[lead + core.len()..])
}

/// The messages of a dialogue as a template sees them, marked or plain.
pub(super) fn messages(script: Script<'_>, marking: Option<&Marking>) -> Vec<Value> {
    (0..).zip(script.turns).map(|(index, turn)| message(index, turn, marking)).collect()
}

/// A message as a template sees it, marked or plain.
fn message(index: usize, turn: &Turn, marking: Option<&Marking>) -> Value {
    let text = marking.map_or_else(|| turn.text.clone(), |marking| marking.content(index, turn));
    let content = match turn.content() {
        Content::Text => Some(Value::from(text)),
        Content::Null => Some(Value::from(())),
        Content::Missing => None,
        Content::Part => Some(Value::from(vec![Value::from_pairs([
            ("type", Value::from("text")),
            ("text", Value::from(text)),
        ])])),
    };
    let role = ("role".to_owned(), Value::from(turn.role.name()));
    let content = content.map(|content| ("content".to_owned(), content));
    let members = match (marking, &turn.extras) {
        (_, None) => Map::new(),
        (None, Some(extras)) => extras.members.clone(),
        (Some(marking), Some(_)) => marking.members(index, turn),
    };
    let value = |json: &Json| marking.map_or_else(|| json::value(json), |of| of.value(json));
    let members = members.into_iter().map(|(name, member)| (name, value(&member)));
    Value::from_pairs([role].into_iter().chain(content).chain(members))
}

/// A text whose marks were removed, and the ranges that were between them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Unmarked {
    pub(super) text: String,
    pub(super) tags: Vec<Range<usize>>,
    pub(super) answers: Vec<Range<usize>>,
    pub(super) others: Vec<Range<usize>>,
    /// The reasoning before answers.
    pub(super) reasoning: Vec<Range<usize>>,
    /// The parts of messages, with the index of the message of each.
    pub(super) parts: Vec<(usize, Range<usize>)>,
}

/// Removes the marks. Returns `None` if a mark has no counterpart.
pub(super) fn unmark(marked: &str, letters: Letters) -> Option<Unmarked> {
    let mut unmarked =
        Unmarked { text: String::with_capacity(marked.len()), ..Unmarked::default() };
    let leads = letters.leads();
    let mut open = [None; KINDS];
    let mut index = None;
    let mut rest = marked.chars();
    loop {
        // Most text is between marks, and is copied at once.
        let bytes = rest.as_str().as_bytes();
        let length = bytes.iter().position(|byte| leads[usize::from(*byte)]);
        let (before, after) = rest.as_str().split_at(length.unwrap_or(bytes.len()));
        unmarked.text.push_str(before);
        rest = after.chars();
        let Some(letter) = rest.next() else { break };
        let Some(mark) = letters.marks.iter().position(|mark| *mark == letter) else {
            unmarked.text.push(letter);
            continue;
        };
        let (kind, here) = (mark / 2, unmarked.text.len());
        if mark % 2 == 0 {
            if open[kind].replace(here).is_some() {
                return None;
            }
            if kind == PARTS {
                index = Some(read_index(&mut rest, &letters)?);
            }
            continue;
        }
        let range = open[kind].take()?..here;
        match kind {
            TAGS => unmarked.tags.push(range),
            ANSWERS => unmarked.answers.push(range),
            OTHERS => unmarked.others.push(range),
            REASONING_BEFORE => unmarked.reasoning.push(range),
            _ => unmarked.parts.push((index.take()?, range)),
        }
    }
    open.iter().all(Option::is_none).then_some(unmarked)
}

fn read_index(letters: &mut std::str::Chars<'_>, known: &Letters) -> Option<usize> {
    (0..DIGITS).try_fold(0, |index, _| {
        let letter = letters.next()?;
        Some(index << 4 | known.digits.iter().position(|digit| *digit == letter)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn torn_marks_prove_nothing() {
        let letters = Letters::of(['a', 'b', 'c', 'd', 'e', 'f']);
        let found = unmark("1a2c3db4", letters).expect("marks are whole");
        assert_eq!(
            (found.text.as_str(), &found.tags[0], &found.answers[0]),
            ("1234", &(1..3), &(2..3))
        );
        assert_eq!(unmark("1a2", letters), None);
        assert_eq!(unmark("b", letters), None);
        assert_eq!(unmark("aa1bb", letters), None);
        assert_eq!(unmark("\u{1}1\u{2}", letters), None, "the index is missing");
    }

    #[test]
    fn parts_carry_the_index_of_their_message() {
        let mut letters = Letters::of(['a', 'b', 'c', 'd', 'e', 'f']);
        letters.digits = std::array::from_fn(|digit| char::from(b'A' + digit as u8));
        let marking = Marking { letters, contents: None, tools: false, seals: false };
        let marked = marking.split(0x2f0, " 1 <think> 2</think>\n3 ");
        let found = unmark(&marked, letters).expect("marks are whole");
        assert_eq!(found.text, " 1 <think> 2</think>\n3 ");
        assert_eq!(found.parts, [(0x2f0, 1..2), (0x2f0, 11..12), (0x2f0, 21..22)]);
    }
}
