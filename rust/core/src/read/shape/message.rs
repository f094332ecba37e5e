//! One message as most sources write it: `{"role", "content"}`, and the members that a template
//! may read.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use super::deciding::{Level, may_decide};
use super::raw::{Object, text};
use super::{Cursor, check_count, members, once};
use crate::dialogue::{Content, Extras, Role, Turn};
use crate::stage::Reason;

/// A message.
pub(super) struct Message {
    role: String,
    content: String,
    extras: Option<Box<Extras>>,
}

impl Message {
    pub(super) fn quick(cursor: &mut Cursor) -> Option<Message> {
        let (mut role, mut content, mut extras) = (None, None, None);
        cursor.object(|cursor, key| match key {
            "role" => once(&mut role, cursor.text()),
            "content" => once(&mut content, Said::quick(cursor)),
            _ if !may_decide(key, Level::Message) => cursor.skip(),
            _ => match members::member(key) {
                Some(member) => members::add(&mut extras, key, member, cursor.raw()?).ok(),
                None => cursor.ignore(key, Level::Message),
            },
        })?;
        let role = role?;
        if members::misplaced(&role, extras.as_deref()).is_some() {
            return None;
        }
        Message::new(role, content.unwrap_or(Said::MISSING), extras).ok()
    }

    /// A message, if it may have such content.
    fn new(role: String, said: Said, mut extras: Option<Box<Extras>>) -> Result<Message, Content> {
        let Said { text, how } = said;
        if matches!(how, Content::Null | Content::Missing)
            && !members::may_lack_content(&role, extras.as_deref())
        {
            return Err(how);
        }
        if how != Content::Text {
            extras.get_or_insert_default().content = how;
        }
        Ok(Message { role, content: text, extras })
    }

    /// Whether no member says anything.
    pub(super) fn is_empty(&self) -> bool {
        self.role.is_empty() && self.content.is_empty() && self.extras.is_none()
    }
}

impl From<Message> for Turn {
    fn from(message: Message) -> Turn {
        let Message { role, content, extras } = message;
        Turn { role: Role::named(role), text: content, extras }
    }
}

/// The turns of a list of messages.
pub(super) fn turns(messages: Vec<Message>) -> Result<Vec<Turn>, Reason> {
    check_count(messages.len())?;
    Ok(messages.into_iter().map(Turn::from).collect())
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Message;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        let (mut role, mut content, mut extras) = (None, None, None);
        while let Some(key) = map.next_key::<Cow<str>>()? {
            match key.as_ref() {
                "role" if role.is_some() => return Err(Error::duplicate_field("role")),
                "content" if content.is_some() => return Err(Error::duplicate_field("content")),
                "role" => role = Some(map.next_value::<String>()?),
                "content" => content = Some(map.next_value::<Said>()?),
                key => {
                    let json = map.next_value::<&RawValue>()?;
                    if let Some(member) = members::member(key) {
                        members::add(&mut extras, key, member, json).map_err(Error::custom)?;
                    }
                }
            }
        }
        let role = role.ok_or_else(|| Error::missing_field("role"))?;
        let said = content.unwrap_or(Said::MISSING);
        Message::new(role, said, extras).map_err(|how| match how {
            Content::Null => Error::invalid_type(Unexpected::Unit, &"a string"),
            _ => Error::missing_field("content"),
        })
    }
}

/// The content of a message.
struct Said {
    text: String,
    how: Content,
}

impl Said {
    const MISSING: Said = Said { text: String::new(), how: Content::Missing };

    fn quick(cursor: &mut Cursor) -> Option<Said> {
        let text = cursor.maybe(Cursor::text)?;
        let how = if text.is_some() { Content::Text } else { Content::Null };
        Some(Said { text: text.unwrap_or_default(), how })
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnySaid)
    }
}

struct AnySaid;

impl<'de> Visitor<'de> for AnySaid {
    type Value = Said;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Said, E> {
        Ok(Said { text: text.to_owned(), how: Content::Text })
    }

    fn visit_unit<E>(self) -> Result<Said, E> {
        Ok(Said { text: String::new(), how: Content::Null })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Said, A::Error> {
        let part = parts.next_element::<&RawValue>()?.and_then(text_of_part);
        match (part, parts.next_element::<&RawValue>()?) {
            (Some(text), None) => Ok(Said { text, how: Content::Part }),
            _ => Err(Error::invalid_type(Unexpected::Seq, &self)),
        }
    }
}

/// The text of a part of a content, if it is nothing but text.
pub(super) fn text_of_part(part: &RawValue) -> Option<String> {
    let part = Object::of(part.get())?;
    let (mut kind, mut said) = (None, None);
    for (key, value) in &part.0 {
        match key.as_str() {
            "type" if kind.is_none() => kind = Some(text(value)?),
            "text" if said.is_none() => said = Some(text(value)?),
            _ if value.get() == "null" => {}
            _ => return None,
        }
    }
    said.filter(|_| kind.as_deref() == Some("text"))
}
