//! Dialogues that are one text, as in HH-RLHF: `\n\nHuman: … \n\nAssistant: …`.

use super::{check_count, not_of_shape};
use crate::dialogue::{Role, Turn};
use crate::stage::Reason;

const MARKERS: [(&str, Role); 2] =
    [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];

/// Whether a text is such a dialogue.
pub(super) fn is_one(text: &str) -> bool {
    starts(text).next().is_some_and(|(start, ..)| start == 0)
}

/// The messages of such a text. What follows a marker is taken as it is, without the space that
/// separates them.
pub(super) fn turns(text: &str, field: &str) -> Result<Vec<Turn>, Reason> {
    if !is_one(text) {
        return Err(not_of_shape(format!("`{field}` does not begin with `\\n\\nHuman:`")));
    }
    let found: Vec<_> = starts(text).collect();
    check_count(found.len())?;
    let ends = found.iter().skip(1).map(|(start, ..)| *start).chain([text.len()]);
    let turn = |((_, said, role), end): (&(usize, usize, Role), usize)| {
        let said = &text[*said..end];
        Turn::new(role.clone(), said.strip_prefix(' ').unwrap_or(said).to_owned())
    };
    Ok(found.iter().zip(ends).map(turn).collect())
}

/// The messages of a prompt, without the empty answer that it ends with.
pub(super) fn prompt(text: &str, field: &str) -> Result<Vec<Turn>, Reason> {
    let mut turns = turns(text, field)?;
    if turns.last().is_some_and(|turn| turn.role == Role::Assistant && turn.text.is_empty()) {
        turns.pop();
    }
    Ok(turns)
}

/// Where each marker starts and ends, and whose it is.
fn starts(text: &str) -> impl Iterator<Item = (usize, usize, Role)> {
    memchr::memmem::find_iter(text.as_bytes(), "\n\n").filter_map(move |start| {
        let (marker, role) =
            MARKERS.iter().find(|(marker, _)| text[start..].starts_with(marker))?;
        Some((start, start + marker.len(), role.clone()))
    })
}
