//! Dialogues that are one text, as in HH-RLHF: `\n\nHuman: … \n\nAssistant: …`.

use super::{check_count, not_of_shape};
use crate::dialogue::{Role, Turn};
use crate::stage::Reason;

const MARKERS: [(&str, Role); 2] =
    [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];

/// Whether a text is such a dialogue.
pub(super) fn is_one(text: &str) -> bool {
    MARKERS.iter().any(|(marker, _)| text.starts_with(marker))
}

/// The messages of such a text. What follows a marker is taken as it is, without the space that
/// separates them.
pub(super) fn turns(text: &str, field: &str) -> Result<Vec<Turn>, Reason> {
    if !is_one(text) {
        return Err(not_of_shape(format!("`{field}` does not begin with `\\n\\nHuman:`")));
    }
    let found = starts(text);
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
fn starts(text: &str) -> Vec<(usize, usize, Role)> {
    let mut found: Vec<_> = MARKERS
        .iter()
        .flat_map(|(marker, role)| {
            let starts = memchr::memmem::find_iter(text.as_bytes(), marker);
            starts.map(move |start| (start, start + marker.len(), role.clone()))
        })
        .collect();
    found.sort_unstable_by_key(|(start, ..)| *start);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_is_taken_apart_at_its_markers_alone() {
        let text =
            "\n\nHuman: a\n\n\nAssistant:  b \n\nHuman:\n\nAssistant: Human: c\nAssistant: d";
        let said: Vec<_> = turns(text, "chosen")
            .expect("is one")
            .into_iter()
            .map(|turn| (turn.role.name().to_owned(), turn.text))
            .collect();
        let wanted = [
            ("user", "a\n"),
            ("assistant", " b "),
            ("user", ""),
            ("assistant", "Human: c\nAssistant: d"),
        ];
        assert_eq!(said, wanted.map(|(role, text)| (role.to_owned(), text.to_owned())));
        assert!(turns("Human: a", "chosen").is_err() && turns("", "chosen").is_err());
    }
}
