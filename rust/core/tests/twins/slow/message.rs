//! Reads messages and what reaches the template, with serde_json only.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use zephyr_core::dialogue::{Content, Extras, Role, TemplateInputs, Turn};

use super::fields;

/// A column that is passed to the template, null or not.
#[derive(Default)]
pub struct Column<'row>(Option<&'row RawValue>);

impl<'de: 'row, 'row> Deserialize<'de> for Column<'row> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(Some).map(Column)
    }
}

/// What reaches the template besides messages.
pub fn inputs(tools: Column, args: Column) -> Option<Box<TemplateInputs>> {
    let value = |name, column: Column| column.0.and_then(|value| fields::input(name, value)?);
    let tools = value("tools", tools);
    let args = match value("chat_template_kwargs", args) {
        Some(Value::Object(args)) => args,
        _ => Map::new(),
    };
    (tools.is_some() || !args.is_empty()).then(|| Box::new(TemplateInputs { tools, args }))
}

/// A message, which may have more than role and content.
pub struct Message(Turn);

impl Message {
    pub fn turn(self) -> Turn {
        self.0
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Message;
            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
                let (mut role, mut said) = (None::<String>, None::<Said>);
                let mut extras = Extras::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "role" {
                        if role.replace(map.next_value()?).is_some() {
                            return Err(Error::duplicate_field("role"));
                        }
                    } else if name == "content" {
                        if said.replace(map.next_value()?).is_some() {
                            return Err(Error::duplicate_field("content"));
                        }
                    } else {
                        let value: &RawValue = map.next_value()?;
                        if fields::is_read(&name) {
                            fields::add(&mut extras, &name, value);
                        }
                    }
                }
                let role = role.ok_or_else(|| Error::missing_field("role"))?;
                message(role, said, extras)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn message<E: Error>(role: String, said: Option<Said>, mut extras: Extras) -> Result<Message, E> {
    let speaks = |(name, value): (&String, &Value)| match value {
        Value::Array(calls) => !calls.is_empty(),
        Value::String(text) => {
            !["name", "tool_call_id"].contains(&name.as_str()) && !text.is_empty()
        }
        _ => false,
    };
    let may_be_silent = role == "assistant" && extras.members.iter().any(speaks);
    let text = match said {
        Some(Said::Text(text)) => text,
        Some(Said::Part(text)) => {
            extras.content = Content::Part;
            text
        }
        Some(Said::Null) if may_be_silent => {
            extras.content = Content::Null;
            String::new()
        }
        None if may_be_silent => {
            extras.content = Content::Missing;
            String::new()
        }
        Some(Said::Null) => return Err(E::invalid_type(Unexpected::Unit, &"a string")),
        None => return Err(E::missing_field("content")),
    };
    let has_extras = extras != Extras::default();
    let extras = has_extras.then(|| Box::new(extras));
    Ok(Message(Turn { role: Role::named(role), text, extras }))
}

enum Said {
    Text(String),
    Part(String),
    Null,
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Said;
            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_str<E>(self, text: &str) -> Result<Said, E> {
                Ok(Said::Text(text.to_owned()))
            }
            fn visit_unit<E>(self) -> Result<Said, E> {
                Ok(Said::Null)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Said, A::Error> {
                let part = parts.next_element::<&RawValue>()?.and_then(|part| {
                    fields::part(&RawValue::from_string(format!("[{part}]")).expect("a list"))
                });
                // Of a row that is JSON, this was checked. Otherwise, any error will do.
                match (part, parts.next_element::<&RawValue>()?) {
                    (Some(text), None) => Ok(Said::Part(text)),
                    _ => Err(Error::invalid_type(Unexpected::Seq, &self)),
                }
            }
        }
        deserializer.deserialize_any(Any)
    }
}
