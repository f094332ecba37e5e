//! Raw UltraChat: `{"id": "0", "data": ["user", "assistant", "user", …]}`, the user first.

use serde::Deserialize;

use super::{Id, Malformed, check_count, fields};
use crate::dialogue::{Dialogue, Replies, Role, Turn};

#[derive(Deserialize)]
struct Row {
    id: Option<Id>,
    data: Vec<String>,
}

pub(super) fn parse(row: &[u8]) -> Result<Dialogue, Malformed> {
    let row: Row = fields(row)?;
    check_count(row.data.len())?;
    let speakers = [Role::User, Role::Assistant].into_iter().cycle();
    let turns = row.data.into_iter().zip(speakers).map(|(text, role)| Turn { role, text }).collect();
    Ok(Dialogue { id: row.id.map(String::from), source: None, turns, replies: Replies::Inline })
}
