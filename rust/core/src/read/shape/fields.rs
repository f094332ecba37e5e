//! Parses a row into the fields of a shape, after the checks that all shapes share.

use serde::Deserialize;

use super::columns::Columns;
use super::cursor::{Cursor, whole};
use super::unread::Unread;
use super::unsupported::{self, List, Row};
use super::{DEPTH_MAX, not_of_shape, place};
use crate::stage::{Code, Reason};

/// What the fields of a shape are.
pub(super) struct Wanted {
    /// Whether [`super::inputs`] are among them.
    pub(super) kind: Row,
    /// The lists of objects, which are searched for fields that decide what is trained.
    pub(super) lists: &'static [List],
    /// Whether the shape reads a column of that name and value.
    pub(super) is_read: fn(&str, &str) -> bool,
}

/// Parses JSON into a shape's own fields, telling broken JSON from JSON of another shape: by
/// `quick` where that is sure of them, else by serde_json. Refuses a row that would lose a field
/// which decides what is trained; such fields are searched in the row and in its lists.
pub(super) fn fields<'row, T>(
    row: &'row [u8],
    wanted: &Wanted,
    unread: &mut Unread,
    quick: impl FnOnce(&mut Cursor<'row>, &mut Unread) -> Option<T>,
) -> Result<T, Reason>
where
    T: Deserialize<'row>,
{
    let text = row_text(row)?;
    if let Some(fields) = whole(text, |cursor| quick(cursor, unread)) {
        return Ok(fields);
    }
    unread.begin();
    check_depth(text)?;
    // serde would take the places of an array for the fields in their order.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(place::check_object(text).err().unwrap_or_else(|| not_of_shape("")));
    }
    unsupported::check(text, wanted.kind, wanted.lists)?;
    let fields = serde_json::from_str(text).map_err(|error| place::malformed(&error, text))?;
    let columns = Columns::of(row)?;
    unread.add_all(columns.members().filter(|(name, value)| !(wanted.is_read)(name, value)));
    Ok(fields)
}

pub(super) fn row_text(row: &[u8]) -> Result<&str, Reason> {
    let text = simdutf8::basic::from_utf8(row).or_else(|_| std::str::from_utf8(row));
    text.map_err(|error| {
        Reason::found(
            Code::InvalidUtf8,
            format!("not UTF-8 at byte {} of the row", error.valid_up_to()),
        )
    })
}

pub(super) fn check_depth(text: &str) -> Result<(), Reason> {
    let depth = depth(text.as_bytes());
    if depth > DEPTH_MAX {
        return Err(Reason::found(
            Code::TooDeep,
            format!("arrays and objects {depth} deep; at most {DEPTH_MAX}"),
        ));
    }
    Ok(())
}

/// How deep arrays and objects lie within each other; of broken JSON, as far as its strings can be
/// told.
fn depth(row: &[u8]) -> usize {
    let (mut depth, mut deepest, mut rest) = (0_usize, 0, row);
    while let Some(place) =
        rest.iter().position(|byte| matches!(byte, b'"' | b'[' | b'{' | b']' | b'}'))
    {
        let after = &rest[place + 1..];
        rest = match rest[place] {
            b'"' => behind_text(after),
            opening_or_closing => {
                depth = if matches!(opening_or_closing, b'[' | b'{') {
                    depth + 1
                } else {
                    depth.saturating_sub(1)
                };
                deepest = deepest.max(depth);
                after
            }
        };
    }
    deepest
}

/// What follows a string whose opening quote has been read.
pub(super) fn behind_text(mut rest: &[u8]) -> &[u8] {
    while let Some(place) = memchr::memchr2(b'"', b'\\', rest) {
        if rest[place] == b'"' {
            return &rest[place + 1..];
        }
        rest = rest.get(place + 2..).unwrap_or_default();
    }
    &[]
}
