//! Which texts of a message with calls or reasoning a template writes, as far as marks have shown it.
//! A text that is written is used, so the row need not be rendered without it.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::{Map, Value};

use super::marks::{can_split, has_parts};
use super::python::strip;
use super::usage::FUNCTION;
use crate::dialogue::{CALLS, REASONING, Script};

/// The members of a call that are marked.
const MARKED: [&str; 2] = ["name", "arguments"];

/// By text, how often a message has it, and how often it was found in the rendered text.
#[derive(Default)]
pub(super) struct Written<'row>(HashMap<&'row str, (usize, usize)>);

impl<'row> Written<'row> {
    /// The texts of a message. None are known if other texts than these may have marks.
    pub(super) fn of(
        script: Script<'row>,
        index: usize,
        text: &'row str,
        parts: &[(usize, Range<usize>)],
    ) -> Written<'row> {
        let turn = &script.turns[index];
        let mut written = Written::default();
        if !has_parts(turn) || can_split(turn) {
            return written;
        }
        written.add(&turn.text);
        for (name, value) in turn.extras.iter().flat_map(|extras| &extras.members) {
            match value {
                Value::String(text) if REASONING.contains(&name.as_str()) => written.add(text),
                Value::Array(calls) if name == CALLS => {
                    for call in calls {
                        let Some(of) = holder(call) else { return Written::default() };
                        each_text(of, &mut |text| written.add(text));
                    }
                }
                Value::Array(_) => return Written::default(),
                _ => {}
            }
        }
        for (_, part) in parts.iter().filter(|(of, _)| *of == index) {
            if let Some((_, found)) = written.0.get_mut(&text[part.clone()]) {
                *found += 1;
            }
        }
        written
    }

    fn add(&mut self, text: &'row str) {
        self.0.entry(strip(text, None, true, true)).or_default().0 += 1;
    }

    /// Whether a text is written. Unknown if the message has it twice, because a template may write
    /// one of them twice and not the other.
    pub(super) fn has(&self, text: &str) -> bool {
        let core = strip(text, None, true, true);
        !core.is_empty() && matches!(self.0.get(core), Some((1, 1..)))
    }

    /// Whether a text of a call is written.
    pub(super) fn has_call(&self, call: &Value) -> bool {
        let mut has = false;
        if let Some(of) = holder(call) {
            each_text(of, &mut |text| has |= self.has(text));
        }
        has
    }

    /// Whether a text of a member of a call is written.
    pub(super) fn has_of_call(&self, name: &str, value: &Value) -> bool {
        let mut has = false;
        if MARKED.contains(&name) {
            each_leaf(value, &mut |text| has |= self.has(text));
        }
        has
    }
}

/// The members of a call, unless they hold another call.
fn holder(call: &Value) -> Option<&Map<String, Value>> {
    let members = call.get(FUNCTION).unwrap_or(call).as_object()?;
    (!members.contains_key(FUNCTION)).then_some(members)
}

/// Calls `see` for each text of a call that is marked.
fn each_text<'row>(members: &'row Map<String, Value>, see: &mut impl FnMut(&'row str)) {
    for value in MARKED.iter().filter_map(|name| members.get(*name)) {
        each_leaf(value, see);
    }
}

fn each_leaf<'row>(value: &'row Value, see: &mut impl FnMut(&'row str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(values) => values.iter().for_each(|value| each_leaf(value, see)),
        Value::Object(members) => members.values().for_each(|value| each_leaf(value, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialogue::{Extras, Role, Turn};
    use crate::recipe::TrainEnd;
    use crate::template::jinja::Jinja;
    use crate::template::{SpecialTokens, TemplateSource, mask, usage};

    /// What templates write of a call `c` of a message `m`.
    const WRITE: [&str; 9] = [
        "{{ c.function.name }}({{ c.function.arguments | tojson }})",
        "{{ c.function.name }}({{ c.function.arguments.values() | join(',') }})",
        "{{ c.function.name }}",
        "{{ c.function.arguments | tojson }}",
        "{{ c.function.name if loop.first }}",
        "{{ c.function.name + c.function.name if loop.first }}",
        "{{ c.function.name }}{{ c.function.alias }}",
        "{{ c.function.arguments.x }}",
        "call",
    ];

    fn jinja(call: &str, reasoning: bool) -> Jinja {
        let reasoning = if reasoning { "{{ m.reasoning }};" } else { "" };
        let text = format!(
            "{{% for m in messages %}}<{{{{ m.role }}}}>{reasoning}{{{{ m.content }}}}\
            {{% for c in m.tool_calls or [] %}}[{call}]{{% endfor %}}<e>{{% endfor %}}"
        );
        let special = SpecialTokens::default();
        let plain = TemplateSource::plain("t", &text, &special, &["<e>".to_owned()]);
        Jinja::new(&TemplateSource { train_end: TrainEnd::AsIs, ..plain }).expect("compiles")
    }

    #[test]
    fn what_marks_prove_is_what_renderings_prove() {
        let calls = [
            json!([{"function": {"name": "f", "arguments": {"x": "f", "y": "b"}}}]),
            json!([{"function": {"name": "f", "arguments": {"x": 1}}}]),
            json!([{"function": {"name": "f", "arguments": {"x": ["a", {"z": "g"}]}}},
                {"function": {"name": "f", "arguments": {}, "alias": "f"}}]),
            json!([{"function": {"name": "a", "arguments": {"x": "\"q\""}}},
                {"function": {"name": "b", "arguments": {"x": " b "}}}]),
            json!([{"function": {"name": "f", "arguments": {"x": 1}, "alias": "f"}}]),
        ];
        let (mut all, mut of_marks) = (0, 0);
        for jinja in WRITE.iter().flat_map(|call| [jinja(call, true), jinja(call, false)]) {
            for (calls, content, name) in calls
                .iter()
                .flat_map(|calls| ["f", ""].map(|content| (calls, content)))
                .flat_map(|(calls, content)| ["a", ""].map(|name| (calls, content, name)))
            {
                let mut members = Map::from_iter([(CALLS.to_owned(), calls.clone())]);
                members.insert("reasoning".to_owned(), "b".into());
                members.insert("name".to_owned(), name.into());
                let extras = Some(Box::new(Extras { members, ..Extras::default() }));
                let answer = Turn { extras, ..Turn::new(Role::Assistant, content) };
                let turns = [Turn::new(Role::User, "f"), answer];
                let script = Script::from(&turns);
                let Ok(text) = jinja.render_text(script) else { continue };
                let Ok(proven) = mask::derive(&jinja, script, &text) else { continue };
                let expected = usage::check(&jinja, script, &text, &[], &[]);
                assert_eq!(
                    usage::check(&jinja, script, &text, &proven.parts, &proven.tools),
                    expected
                );
                let written = Written::of(script, 1, &text, &proven.parts);
                all += 1;
                of_marks += usize::from(calls[0].is_object() && written.has_call(&calls[0]));
            }
        }
        assert!(all > 60 && of_marks > 20 && of_marks < all, "{of_marks} of {all}");
    }
}
