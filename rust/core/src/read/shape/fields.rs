//! Parses a row into the fields of a shape, after the checks that all shapes share.

use serde::Deserialize;

use super::cursor::{Cursor, whole};
use super::unsupported::{self, List, Row};
use super::{DEPTH_MAX, not_of_shape, place};
use crate::stage::{Code, Reason};

/// Parses JSON into a shape's own fields, telling broken JSON from JSON of another shape: by
/// `quick` where that is sure of them, else by serde_json. Refuses a row that would lose a field
/// which decides what is trained; such fields are searched in the row and in the objects of
/// `lists`.
pub(super) fn fields<'row, T>(
    row: &'row [u8],
    lists: &[List],
    quick: impl FnOnce(&mut Cursor<'row>) -> Option<T>,
) -> Result<T, Reason>
where
    T: Deserialize<'row>,
{
    fields_of(row, Row::WithoutInputs, lists, quick)
}

/// As [`fields`], for shapes that read the columns of [`inputs`].
pub(super) fn fields_with_inputs<'row, T>(
    row: &'row [u8],
    lists: &[List],
    quick: impl FnOnce(&mut Cursor<'row>) -> Option<T>,
) -> Result<T, Reason>
where
    T: Deserialize<'row>,
{
    fields_of(row, Row::WithInputs, lists, quick)
}

fn fields_of<'row, T>(
    row: &'row [u8],
    kind: Row,
    lists: &[List],
    quick: impl FnOnce(&mut Cursor<'row>) -> Option<T>,
) -> Result<T, Reason>
where
    T: Deserialize<'row>,
{
    let text = row_text(row)?;
    if let Some(fields) = whole(text, quick) {
        return Ok(fields);
    }
    check_depth(text)?;
    // serde would take the places of an array for the fields in their order.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(place::check_object(text).err().unwrap_or_else(|| not_of_shape("")));
    }
    unsupported::check(text, kind, lists)?;
    serde_json::from_str(text).map_err(|error| place::malformed(&error, text))
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
