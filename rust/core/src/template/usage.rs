//! Refuses rows of which the template would leave something out: nothing may be lost in silence.
//!
//! A field is used if the text changes without it, or if marks show that it is written. Two kinds of
//! fields may be left out: those that only connect a call with its result, and the reasoning of
//! earlier messages, if the template writes the reasoning of a last message.

use std::ops::Range;

use serde_json::Value;

use super::jinja::Jinja;
use super::marks::{STAND_IN, tool_name};
use super::written::Written;
use crate::dialogue::{CALLS, Content, REASONING, Role, Script, TemplateInputs, Turn};
use crate::stage::{Code, Reason};

/// The member of a call that holds its name and arguments, unless the call itself does.
pub(super) const FUNCTION: &str = "function";
/// Members of a call that only connect it with its result, or say what every call is.
const CALL_LINKS: [&str; 3] = ["id", "type", "index"];

/// Maximum work for the checks of one row: the number of renderings times the bytes of each. It
/// allows a hundred calls in half a megabyte. Without a limit, a row of calls takes quadratic time.
const WORK_MAX: usize = 256 << 20;
/// So many renderings are always allowed, because a long row may have a few calls.
const RENDERINGS_MIN: usize = 16;

/// Refuses a row if a field of it is not used in its text.
pub(super) fn check(
    jinja: &Jinja,
    script: Script<'_>,
    text: &str,
    parts: &[(usize, Range<usize>)],
    tools: &[usize],
) -> Result<(), Reason> {
    check_work(script, text.len())?;
    if let Some(inputs) = script.inputs {
        check_inputs(jinja, script, inputs, text, tools)?;
    }
    if script.turns.iter().any(|turn| turn.content() == Content::Missing) {
        check_missing_content(jinja, script, text)?;
    }
    (0..script.turns.len()).try_for_each(|index| {
        let written = Written::of(script, index, text, parts);
        check_members(jinja, script, index, text, &written)
    })
}

/// Refuses a row with so many tools or calls that checking each would take too long.
pub(super) fn check_work(script: Script<'_>, text_bytes: usize) -> Result<(), Reason> {
    let tools = script.inputs.and_then(|inputs| inputs.tools.as_ref());
    let mut members: Vec<(&String, &Value)> = Vec::new();
    for turn in script.turns {
        let all = turn.extras.iter().flat_map(|extras| &extras.members);
        members.extend(all.filter(|(name, _)| !is_link(turn, name)));
    }
    let of_tools = tools.and_then(Value::as_array).map_or(0, Vec::len);
    let of_members: usize = members.iter().map(|(name, value)| renderings(name, value)).sum();
    let all = of_tools + of_members;
    if all <= RENDERINGS_MIN {
        return Ok(());
    }
    let values = members.iter().map(|(_, value)| *value).chain(tools);
    let bytes = text_bytes + values.map(|value| value.to_string().len()).sum::<usize>();
    if all.saturating_mul(bytes) <= WORK_MAX {
        return Ok(());
    }
    let field = if of_tools > of_members { "tools" } else { CALLS };
    Err(Reason::found(
        Code::UnsupportedField,
        format!(
            "`{field}`: too many to check that the template writes each: {all} renderings of \
                {bytes} bytes; split the dialogue"
        ),
    ))
}

/// How often a dialogue is rendered to check one member of a message.
fn renderings(name: &str, value: &Value) -> usize {
    let of_call = |call: &Value| {
        let holder = call.get(FUNCTION).filter(|function| function.is_object()).unwrap_or(call);
        1 + holder.as_object().map_or(0, serde_json::Map::len)
    };
    let calls = value.as_array().filter(|_| name == CALLS);
    1 + calls.into_iter().flatten().map(of_call).sum::<usize>()
}

/// Refuses a row if a missing content is not the same as null for the template: it is missing in
/// JSON, but null once the row has been in a table.
fn check_missing_content(jinja: &Jinja, script: Script<'_>, text: &str) -> Result<(), Reason> {
    let mut turns = script.turns.to_vec();
    let missing = turns.iter_mut().filter_map(|turn| turn.extras.as_mut());
    missing
        .filter(|extras| extras.content == Content::Missing)
        .for_each(|extras| extras.content = Content::Null);
    if is_same(jinja, script, &turns, text) {
        return Ok(());
    }
    let index = script.turns.iter().position(|turn| turn.content() == Content::Missing);
    Err(Reason::found(
        Code::UnsupportedField,
        format!(
            "`messages[{}].content`: it is missing, and the template `{}` writes null differently; \
                write null or an empty string",
            index.unwrap_or_default(),
            jinja.name()
        ),
    ))
}

fn check_inputs(
    jinja: &Jinja,
    script: Script<'_>,
    inputs: &TemplateInputs,
    text: &str,
    written: &[usize],
) -> Result<(), Reason> {
    check_tools(jinja, script, inputs, text, written)?;
    let is_other = |(name, value): &(&String, &Value)| {
        jinja.args.get(*name).is_some_and(|of_recipe| of_recipe != *value)
    };
    if let Some((name, _)) = inputs.args.iter().find(is_other) {
        return Err(Reason::found(
            Code::UnsupportedField,
            format!(
                "`chat_template_kwargs.{name}`: the recipe sets `template.args.{name}` to another \
                    value; remove one of them"
            ),
        ));
    }
    match inputs.args.keys().find(|name| !jinja.names(name)) {
        Some(name) => Err(unused(jinja.name(), &format!("chat_template_kwargs.{name}"))),
        None => Ok(()),
    }
}

/// Refuses tools that make no difference, or one of several. A tool whose name is in the text is
/// used. Unless marks have located all names, each gets a number, because a call may contain the
/// same name.
fn check_tools(
    jinja: &Jinja,
    script: Script<'_>,
    inputs: &TemplateInputs,
    text: &str,
    written: &[usize],
) -> Result<(), Reason> {
    let Some(Value::Array(tools)) = &inputs.tools else { return Ok(()) };
    if (0..tools.len()).all(|tool| written.contains(&tool)) {
        return Ok(());
    }
    let render = |tools: Option<Value>| {
        let inputs = TemplateInputs { tools, args: inputs.args.clone() };
        jinja.text(Script { inputs: Some(&inputs), ..script }, false, None)
    };
    let is_same = |tools| render(tools).is_ok_and(|other| other == text);
    if !tools.is_empty() && is_same(None) {
        return Err(unused(jinja.name(), "tools"));
    }
    if tools.len() < 2 {
        return Ok(());
    }
    let number = |index: usize| format!("{STAND_IN}{index}{STAND_IN}");
    let mut numbered = tools.clone();
    for (index, tool) in numbered.iter_mut().enumerate() {
        if let Some(name) = tool_name(tool) {
            name.push_str(&number(index));
        }
    }
    let numbered = render(Some(numbered.into())).unwrap_or_default();
    for index in (0..tools.len()).filter(|index| !numbered.contains(&number(*index))) {
        let mut others = tools.clone();
        others.remove(index);
        if is_same(Some(others.into())) {
            return Err(unused(jinja.name(), &format!("tools[{index}]")));
        }
    }
    Ok(())
}

/// Refuses a member that makes no difference, or a part of a call.
fn check_members(
    jinja: &Jinja,
    script: Script<'_>,
    index: usize,
    text: &str,
    written: &Written<'_>,
) -> Result<(), Reason> {
    let turn = &script.turns[index];
    let Some(extras) = &turn.extras else { return Ok(()) };
    for (name, value) in &extras.members {
        if is_link(turn, name) || is_blank(value) {
            continue;
        }
        let is_reasoning = REASONING.contains(&name.as_str());
        let is_written = match value {
            Value::String(text) => is_reasoning && written.has(text),
            Value::Array(calls) => name == CALLS && calls.iter().any(|call| written.has_call(call)),
            _ => false,
        };
        let without = || with(script, index, |turn| remove(turn, name));
        if !is_written
            && is_same(jinja, script, &without(), text)
            && !(is_reasoning && is_used_if_last(jinja, script, index, name))
        {
            return Err(unused(jinja.name(), &format!("messages[{index}].{name}")));
        }
        if let Some(calls) = value.as_array().filter(|_| name == CALLS) {
            check_calls(jinja, script, index, calls, text, written)?;
        }
    }
    Ok(())
}

/// Refuses a call of several, or a member of a call, that makes no difference.
fn check_calls(
    jinja: &Jinja,
    script: Script<'_>,
    index: usize,
    calls: &[Value],
    text: &str,
    written: &Written<'_>,
) -> Result<(), Reason> {
    let is_unused = |change: &dyn Fn(&mut Vec<Value>)| {
        let without = with(script, index, |turn| change_calls(turn, change));
        is_same(jinja, script, &without, text)
    };
    for (number, call) in calls.iter().enumerate() {
        let path = format!("messages[{index}].{CALLS}[{number}]");
        if calls.len() > 1
            && !written.has_call(call)
            && is_unused(&|calls| drop(calls.remove(number)))
        {
            return Err(unused(jinja.name(), &path));
        }
        let has_function = call.get(FUNCTION).is_some_and(Value::is_object);
        let (holder, path) =
            if has_function { (&call[FUNCTION], path + "." + FUNCTION) } else { (call, path) };
        for (name, value) in holder.as_object().into_iter().flatten() {
            let is_needed = !value.is_null() && !is_blank(value) && !CALL_LINKS.contains(&&**name);
            let without = |calls: &mut Vec<Value>| {
                let call = &mut calls[number];
                let holder = if has_function { &mut call[FUNCTION] } else { call };
                holder.as_object_mut().map(|members| members.shift_remove(name));
            };
            if is_needed && !written.has_of_call(name, value) && is_unused(&without) {
                return Err(unused(jinja.name(), &format!("{path}.{name}")));
            }
        }
    }
    Ok(())
}

/// Whether a member only connects a result with its call, or names the tool of a result.
fn is_link(turn: &Turn, name: &str) -> bool {
    name == "tool_call_id"
        || name == "name"
            && !matches!(turn.role, Role::User | Role::Assistant | Role::System | Role::Developer)
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim().is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Whether a member of a message changes the text of a dialogue that stops with the message.
fn is_used_if_last(jinja: &Jinja, script: Script<'_>, index: usize, name: &str) -> bool {
    let stopped = script.until(index + 1);
    let Ok(text) = jinja.text(stopped, false, None) else { return false };
    let without = with(stopped, index, |turn| remove(turn, name));
    !is_same(jinja, script, &without, &text)
}

/// Whether changed messages have the same text.
pub(super) fn is_same(jinja: &Jinja, script: Script<'_>, turns: &[Turn], text: &str) -> bool {
    jinja.text(Script { turns, ..script }, false, None).is_ok_and(|other| other == text)
}

/// The messages of a dialogue with one of them changed.
pub(super) fn with(script: Script<'_>, index: usize, change: impl FnOnce(&mut Turn)) -> Vec<Turn> {
    let mut turns = script.turns.to_vec();
    change(&mut turns[index]);
    turns
}

fn remove(turn: &mut Turn, name: &str) {
    if let Some(extras) = &mut turn.extras {
        extras.members.shift_remove(name);
    }
}

fn change_calls(turn: &mut Turn, change: &dyn Fn(&mut Vec<Value>)) {
    let calls = turn.extras.as_mut().and_then(|extras| extras.members.get_mut(CALLS));
    if let Some(Value::Array(calls)) = calls {
        change(calls);
    }
}

/// The refusal of a field that makes no difference to the text.
pub(super) fn unused(template: &str, field: &str) -> Reason {
    Reason::found(
        Code::UnsupportedField,
        format!(
            "`{field}`: the template `{template}` ignores it; use a template that writes it, or \
                remove the field"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::Extras;

    #[test]
    fn the_work_of_a_row_has_a_limit_and_a_few_renderings_are_free() {
        let call = serde_json::json!({"function": {"name": "f", "arguments": {"x": 1}}});
        let checked = |calls: usize, text_bytes: usize| {
            let calls = Value::from(vec![call.clone(); calls]);
            let members = [(CALLS.to_owned(), calls)].into_iter().collect();
            let extras = Some(Box::new(Extras { members, ..Extras::default() }));
            let turns = [Turn { extras, ..Turn::new(Role::Assistant, "a") }];
            check_work((&turns[..]).into(), text_bytes)
        };
        assert!(checked(100, 500 << 10).is_ok());
        assert!(checked(5, 16 << 20).is_ok());
        assert!(checked(6, 16 << 20).is_err());
        let refused = checked(10_000, 500 << 10).expect_err("is too much");
        assert!(refused.detail.is_some_and(|detail| detail.starts_with("`tool_calls`: too many")));
    }
}
