//! The Zephyr template, without Jinja.

use crate::dialogue::{Content, Role, Script, TemplateInputs, Turn};
use crate::sample::Rendered;
use crate::stage::{Code, Reason};

use super::left_out;
use super::usage::unused;

/// Refuses what the template would leave out or fail on: it only writes the text of system, user
/// and assistant messages.
pub(super) fn check(name: &str, script: Script<'_>) -> Result<(), Reason> {
    if let Some(inputs) = script.inputs {
        check_inputs(name, inputs)?;
    }
    script.turns.iter().enumerate().try_for_each(|(index, turn)| check_turn(name, index, turn))
}

fn check_inputs(name: &str, inputs: &TemplateInputs) -> Result<(), Reason> {
    let is_given = |tools: &serde_json::Value| tools.as_array().is_none_or(|all| !all.is_empty());
    if inputs.tools.as_ref().is_some_and(is_given) {
        return Err(unused(name, "tools"));
    }
    match inputs.args.keys().next() {
        Some(arg) => Err(unused(name, &format!("chat_template_kwargs.{arg}"))),
        None => Ok(()),
    }
}

fn check_turn(name: &str, index: usize, turn: &Turn) -> Result<(), Reason> {
    if header(turn).is_none() {
        let why = left_out::of_role(index, &turn.role);
        return Err(Reason::found(Code::MaskNotProvable, why));
    }
    let Some(extras) = &turn.extras else { return Ok(()) };
    let is_said = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => !text.trim().is_empty(),
        serde_json::Value::Array(values) => !values.is_empty(),
        _ => true,
    };
    let mut members = extras.members.iter();
    if let Some((member, _)) =
        members.find(|(member, value)| *member != "tool_call_id" && is_said(value))
    {
        return Err(unused(name, &format!("messages[{index}].{member}")));
    }
    match extras.content {
        Content::Text => Ok(()),
        Content::Null | Content::Missing | Content::Part => Err(Reason::found(
            Code::TemplateError,
            format!("the content of message {index} is not a string"),
        )),
    }
}

/// What is written before a message, if the template writes it.
fn header(turn: &Turn) -> Option<&'static str> {
    match turn.role {
        Role::System => Some("<|system|>\n"),
        Role::User => Some("<|user|>\n"),
        Role::Assistant => Some("<|assistant|>\n"),
        Role::Developer | Role::Tool | Role::Other(_) => None,
    }
}

/// Writes `<|role|>`, the text and EOS of each message, each on one line.
pub(super) fn write(turns: &[Turn], eos: &str, rendered: &mut Rendered) {
    let bytes: usize = turns.iter().map(|turn| turn.text.len() + eos.len() + 16).sum();
    rendered.text.reserve(bytes);
    for turn in turns {
        let Some(header) = header(turn) else { continue };
        rendered.text.push_str(header);
        let start = rendered.text.len();
        rendered.text.push_str(&turn.text);
        rendered.text.push_str(eos);
        if turn.is_trained() {
            rendered.trained.push(start..rendered.text.len());
        }
        if turn.role == Role::Assistant {
            rendered.answers.push(rendered.trained.len());
        }
        rendered.text.push('\n');
    }
}
