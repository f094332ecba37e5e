//! The trained ranges of assistant messages with calls or reasoning. Such a message has several
//! parts, and the template writes brackets of its own around them: `<think>`, `<tool_call>`.
//!
//! The range starts behind what the template writes before any answer. The first of these that
//! applies is used:
//!
//! 1. The text rendered before the message, with the generation prompt, if it is a prefix of the
//!    full text.
//! 2. The last generation prompt before the first part. Templates that rewrite earlier messages
//!    leave it unchanged.
//! 3. What the rendering shares with that of the same dialogue in which the message is replaced by
//!    a single character: nothing before the difference depends on what the assistant says.
//!
//! It ends with the first end token behind the last part, within what is also written if the
//! dialogue stops there. Neither end may be beyond the text of another message.

use std::ops::Range;

use super::jinja::Jinja;
use super::marks::{Marking, unmark};
use super::mask::Located;
use super::prefixes::Prefixes;
use crate::dialogue::{Script, Turn};

/// The trained ranges of all such messages that are trained.
pub(super) fn trained(
    jinja: &Jinja,
    script: Script<'_>,
    text: &str,
    located: &Located,
    prefixes: &Prefixes<'_>,
) -> Result<Vec<Range<usize>>, String> {
    let Some(contents) = located.contents else { return Ok(Vec::new()) };
    let is_wanted = |(_, turn): &(usize, &Turn)| contents.is_in_parts(turn) && turn.is_trained();
    let wanted = script.turns.iter().enumerate().filter(is_wanted);
    wanted.map(|(index, _)| range(jinja, script, text, located, prefixes, index)).collect()
}

/// The trained range of a message.
fn range(
    jinja: &Jinja,
    script: Script<'_>,
    text: &str,
    located: &Located,
    prefixes: &Prefixes<'_>,
    index: usize,
) -> Result<Range<usize>, String> {
    let lost = || {
        format!("the template changes message {index}, so its calls or reasoning cannot be located")
    };
    let own = own_parts(located.found.parts.iter(), index).ok_or_else(lost)?;
    let bounds = room(located, index, &own, text.len())
        .ok_or("the template mixes the text of several messages")?;
    let start = start(jinja, script, text, prefixes, index, bounds.start..own.start)
        .ok_or("the start of an assistant message cannot be proven")?;
    let tail = &text[own.end..bounds.end];
    let shared =
        stopped_tail(jinja, script, located, index).map_or(0, |stopped| shared(tail, &stopped));
    let length = jinja
        .ends
        .within(&tail[..shared])
        .ok_or("an assistant message is not followed by an end-of-turn token")?;
    Ok(start..own.end + length)
}

/// From the first part of a message to its last.
pub(super) fn own_parts<'found>(
    parts: impl Iterator<Item = &'found (usize, Range<usize>)>,
    index: usize,
) -> Option<Range<usize>> {
    parts
        .filter(|(of, _)| *of == index)
        .map(|(_, part)| part.clone())
        .reduce(|all, part| all.start.min(part.start)..all.end.max(part.end))
}

/// The text around a message's parts up to the text of other messages; `None` if that is between
/// them.
fn room(
    located: &Located,
    index: usize,
    own: &Range<usize>,
    length: usize,
) -> Option<Range<usize>> {
    let found = &located.found;
    let foreign = found.parts.iter().filter(|(of, _)| *of != index).map(|(_, part)| part);
    let mut room = 0..length;
    for other in found.answers.iter().chain(&found.others).chain(foreign) {
        if other.end <= own.start {
            room.start = room.start.max(other.end);
        } else if other.start >= own.end {
            room.end = room.end.min(other.start);
        } else {
            return None;
        }
    }
    Some(room)
}

/// The start of a message whose first part starts at the end of `room`.
fn start(
    jinja: &Jinja,
    script: Script<'_>,
    text: &str,
    prefixes: &Prefixes<'_>,
    index: usize,
    room: Range<usize>,
) -> Option<usize> {
    if index > 0 {
        let prompt = prefixes.text(index, true);
        if let Some(prompt) = &prompt
            && text.starts_with(&**prompt)
            && (room.start..=room.end).contains(&prompt.len())
        {
            return Some(prompt.len());
        }
        let alone = prefixes.text(index, false);
        let opening = prompt
            .as_ref()
            .zip(alone.as_ref())
            .and_then(|(prompt, alone)| prompt.strip_prefix(&**alone))
            .filter(|opening| !opening.is_empty());
        if let Some(opening) = opening
            && let Some(at) = text[room.clone()].rfind(opening)
        {
            return Some(room.start + at + opening.len());
        }
    }
    let mut turns = script.turns.to_vec();
    turns[index] = Turn::new(turns[index].role.clone(), super::marks::STAND_IN);
    let other = jinja.text(Script { turns: &turns, ..script }, false, None).ok()?;
    let start = shared(text, &other);
    (room.start..=room.end).contains(&start).then_some(start)
}

/// What follows the last part of a message if the dialogue stops with it.
fn stopped_tail(
    jinja: &Jinja,
    script: Script<'_>,
    located: &Located,
    index: usize,
) -> Option<String> {
    let marking = Marking {
        letters: located.letters,
        contents: located.contents,
        tools: false,
        seals: false,
    };
    let marked = jinja.text(script.until(index + 1), false, Some(&marking)).ok()?;
    let stopped = unmark(&marked, located.letters)?;
    let own = own_parts(stopped.parts.iter(), index)?;
    stopped.text.get(own.end..).map(str::to_owned)
}

/// The length of the text with which both texts begin.
fn shared(one: &str, other: &str) -> usize {
    let letters = one.chars().zip(other.chars()).take_while(|(one, other)| one == other);
    letters.map(|(letter, _)| letter.len_utf8()).sum()
}
