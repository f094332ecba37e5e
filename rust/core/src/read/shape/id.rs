//! Ids of rows and messages.

use serde::Deserialize;

use super::Cursor;

/// Ids come as strings and as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Id {
    Text(String),
    Number(serde_json::Number),
}

impl Id {
    pub(super) fn quick(cursor: &mut Cursor) -> Option<Id> {
        if cursor.peek()? == b'"' {
            return cursor.text().map(Id::Text);
        }
        cursor.digits()?.parse::<u64>().ok().map(|number| Id::Number(number.into()))
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        match id {
            Id::Text(text) => text,
            Id::Number(number) => number.to_string(),
        }
    }
}
