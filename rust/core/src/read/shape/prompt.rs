//! The column `prompt`: messages that come before the others, or a text, which most sources write
//! in addition to the message that says it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::raw::{is_empty, text};
use super::{Cursor, Message, object, place};

/// What the column holds.
#[derive(Default)]
pub(super) enum Prompt<'row> {
    #[default]
    Nothing,
    Text(Cow<'row, str>),
    Messages(Vec<Message>),
    /// A list of something else, and what is wrong with it.
    Malformed(String),
    /// A value that is neither a text nor a list.
    Other,
}

impl<'row> Prompt<'row> {
    pub(super) fn quick(cursor: &mut Cursor<'row>) -> Option<Prompt<'row>> {
        if cursor.eat_empty() {
            return Some(Prompt::Nothing);
        }
        match cursor.peek()? {
            b'"' => cursor.borrowed_text().map(Prompt::Text),
            b'[' => {
                let messages = cursor.list(Message::quick)?;
                // Empty messages may not be a prompt at all: serde_json decides.
                let is_said = messages.iter().any(|message| !message.is_empty());
                is_said.then_some(Prompt::Messages(messages))
            }
            _ => None,
        }
    }
}

pub(super) fn prompt<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Prompt<'de>, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?;
    if is_empty(value) {
        return Ok(Prompt::Nothing);
    }
    if !value.get().starts_with('[') {
        return Ok(text(value).map_or(Prompt::Other, |text| Prompt::Text(text.into())));
    }
    let messages: Result<_, serde_json::Error> =
        object::list(&mut serde_json::Deserializer::from_str(value.get()));
    Ok(messages.map_or_else(
        |error| Prompt::Malformed(place::told(&error, value.get(), "prompt")),
        Prompt::Messages,
    ))
}
