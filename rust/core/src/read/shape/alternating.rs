//! Raw UltraChat: `{"id": "0", "data": ["user", "assistant", "user", …]}`, the user first.

use serde::Deserialize;

use super::unread::Unread;
use super::{Cursor, Id, Kind, Wanted, check_count, fields, once};
use crate::dialogue::{Dialogue, Role, Turn};
use crate::stage::Reason;

#[derive(Deserialize)]
struct Row {
    id: Option<Id>,
    data: Vec<String>,
}

impl Row {
    fn quick(cursor: &mut Cursor, unread: &mut Unread) -> Option<Row> {
        let (mut id, mut data) = (None, None);
        cursor.object(|cursor, key| match key {
            "id" => once(&mut id, cursor.maybe(Id::quick)),
            "data" => once(&mut data, cursor.list(Cursor::text)),
            _ => unread.pass(cursor, key),
        })?;
        Some(Row { id: id.flatten(), data: data? })
    }
}

const WANTED: Wanted = Wanted {
    kind: Kind::WithoutInputs,
    lists: &[],
    is_read: |name, _| matches!(name, "id" | "data"),
};

pub(super) fn parse(row: &[u8], unread: &mut Unread) -> Result<Dialogue, Reason> {
    let row: Row = fields(row, &WANTED, unread, Row::quick)?;
    check_count(row.data.len())?;
    let speakers = [Role::User, Role::Assistant].into_iter().cycle();
    let turns =
        row.data.into_iter().zip(speakers).map(|(text, role)| Turn::new(role, text)).collect();
    Ok(Dialogue { id: row.id.map(String::from), turns, ..Dialogue::default() })
}
