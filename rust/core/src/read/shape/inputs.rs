//! What a row passes to the template besides its messages: `tools` and `chat_template_kwargs`.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Cursor;
use super::members::value_or_text;
use super::raw::is_empty;
use crate::dialogue::TemplateInputs;

/// The columns, by name.
pub(super) const COLUMNS: [&str; 2] = ["tools", "chat_template_kwargs"];

/// Arguments that `apply_chat_template` takes itself, and variables that are always set.
const TAKEN: [&str; 22] = [
    "messages",
    "conversation",
    "chat_template",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
    "self",
    "bos_token",
    "eos_token",
    "pad_token",
    "unk_token",
    "sep_token",
    "cls_token",
];

/// A column's value, or why it cannot be used.
pub(super) type Column = Result<Option<Value>, &'static str>;

/// Reads the value of such a column.
pub(super) fn column(key: &str, json: &RawValue) -> Column {
    if json.get() != "[]" && is_empty(json) {
        return Ok(None);
    }
    let value = value_or_text(json.get())?;
    match (key, &value) {
        (_, Value::Null) => return Ok(None),
        ("tools", Value::Array(tools)) if tools.iter().all(Value::is_object) => {}
        ("tools", _) => return Err("it must be a list of objects, or a string with such a list"),
        (_, Value::Array(none)) if none.is_empty() => return Ok(None),
        (_, Value::Object(args)) => {
            let is_taken = |name: &String| TAKEN.contains(&name.as_str()) || name.starts_with("__");
            if args.keys().any(is_taken) {
                return Err("an argument has the name of a variable that is always set");
            }
        }
        _ => return Err("it must be an object"),
    }
    Ok(Some(value))
}

/// The columns of a row.
#[derive(Default)]
pub(super) struct Inputs(pub(super) [Option<Value>; COLUMNS.len()]);

impl Inputs {
    /// Takes the value of such a column; `None` if serde_json must say what is wrong with it.
    pub(super) fn quick(&mut self, cursor: &mut Cursor, key: &str) -> Option<()> {
        let index = COLUMNS.iter().position(|column| *column == key)?;
        let json = cursor.raw()?;
        if self.0[index].is_some() {
            return None;
        }
        self.0[index] = Some(column(key, json).ok()?.unwrap_or_default());
        Some(())
    }

    /// What reaches the template, if anything does.
    pub(super) fn into_given(self) -> Option<Box<TemplateInputs>> {
        let [tools, args] = self.0.map(|value| value.filter(|value| !value.is_null()));
        let args = match args {
            Some(Value::Object(args)) => args,
            _ => Map::new(),
        };
        (tools.is_some() || !args.is_empty()).then(|| Box::new(TemplateInputs { tools, args }))
    }
}

/// As [`Inputs::quick`], for serde. Faults have been refused before.
pub(super) fn tools<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let json = <&RawValue>::deserialize(deserializer)?;
    column(COLUMNS[0], json).map_err(serde::de::Error::custom)
}

/// As [`tools`].
pub(super) fn args<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    let json = <&RawValue>::deserialize(deserializer)?;
    column(COLUMNS[1], json).map_err(serde::de::Error::custom)
}
