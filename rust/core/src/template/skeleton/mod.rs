//! Renders most dialogues without Jinja, by writing their contents into a text that was rendered once
//! for their sequence of roles.
//!
//! That is possible if the text depends on no content but by holding it. A watched rendering proves
//! this for a sequence of roles: it fails where the template looks into a content, except for a few
//! questions to which nearly all contents give the same answer, such as whether `</think>` is in it.
//! A dialogue that answers otherwise, and any that has more than roles and texts, is rendered with
//! Jinja. The result is the same.
//!
//! An example (`the_example_at_the_head_is_filled`): the placeholders are shown as digits.
//!
//! ```text
//! rendered  <user>0</s><bot>1</s>     for the roles user and assistant; 15..20 is trained
//! pieces    `<user>` 0 `</s><bot>` 1 `</s>`
//! filled    <user>Why?</s><bot>So.</s>
//! trained   the first bound follows one content, and moves by 3 bytes; the second follows two
//! ```

pub(super) mod watched;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use self::watched::{Asked, recorded};
use crate::dialogue::{Role, Script, Turn};
use crate::sample::Rendered;
use crate::template::jinja::Jinja;
use crate::template::letters::has_mark;
use crate::template::marks::{
    Calls, Contents, Letters, Marking, Thinking, Unmarked, can_split, unmark,
};
use crate::template::mask::assistant_indices;
use crate::template::python::is_space;

/// Longer dialogues are rendered with Jinja, and so are those whose skeleton is longer.
const MESSAGES_MAX: usize = 32;
const BYTES_MAX: usize = 256 << 10;
/// The placeholder of the first content, which those of the others follow: private characters.
const FIRST: char = '\u{F0000}';
const PLACEHOLDER_BYTES: usize = FIRST.len_utf8();

/// What is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    /// The text with its trained ranges.
    Whole,
    /// The text only, without an end that is appended.
    Text,
    /// The text and the generation prompt.
    Prompt,
}

/// The sequence of roles of a usual dialogue: a question and an answer in turn, after a system
/// message or none. Others are rendered with Jinja, since there are too many sequences to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    wanted: Wanted,
    has_system: bool,
    messages: usize,
}

/// The skeletons of a template by the roles of the dialogues. `None` if there is none for them.
#[derive(Debug, Default)]
pub(super) struct Skeletons(RwLock<HashMap<Key, Option<Arc<Skeleton>>>>);

impl Skeletons {
    /// Writes a dialogue into an empty `page`. Returns `false`, with the page unchanged, if the
    /// dialogue must be rendered with Jinja.
    pub(super) fn fill(
        &self,
        jinja: &Jinja,
        script: Script<'_>,
        wanted: Wanted,
        page: &mut Rendered,
    ) -> bool {
        let Some(key) = key(script, wanted) else { return false };
        let Some(skeleton) = self.of(key, jinja, script) else { return false };
        let fits = skeleton.fits(script.turns);
        if fits {
            skeleton.fill(script.turns, page);
        }
        fits
    }

    fn of(&self, key: Key, jinja: &Jinja, script: Script<'_>) -> Option<Arc<Skeleton>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let skeleton = Skeleton::of_roles(jinja, script, key.wanted)
                .filter(|made| made.bytes() <= BYTES_MAX)
                .map(Arc::new);
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            all.entry(key).or_insert(skeleton).clone()
        })
    }
}

/// The sequence of a dialogue, if it is usual and has only roles and texts.
fn key(script: Script<'_>, wanted: Wanted) -> Option<Key> {
    let turns = script.turns;
    let has_system = turns.first()?.role == Role::System;
    let is_usual = |(index, turn): (usize, &Turn)| {
        let role = if index % 2 == 0 { Role::User } else { Role::Assistant };
        turn.role == role
    };
    let is_usual = turns[usize::from(has_system)..].iter().enumerate().all(is_usual)
        && turns.iter().all(|turn| turn.extras.is_none())
        && script.inputs.is_none()
        && turns.len() <= MESSAGES_MAX;
    is_usual.then_some(Key { wanted, has_system, messages: turns.len() })
}

/// A text with a place for each content.
#[derive(Debug)]
struct Skeleton {
    /// What is written before each content, and the index of its message.
    pieces: Vec<(String, usize)>,
    tail: String,
    trained: Vec<Range<Bound>>,
    answers: Vec<Bound>,
    asked: Asked,
}

/// An offset in the text of a dialogue.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// The offset without contents.
    own: usize,
    /// The number of contents before it.
    contents: usize,
}

impl Skeleton {
    /// Renders the roles of a dialogue, unless more than these decides about the text.
    fn of_roles(jinja: &Jinja, script: Script<'_>, wanted: Wanted) -> Option<Skeleton> {
        let turns: Vec<Turn> = (FIRST..)
            .zip(script.turns)
            .map(|(letter, turn)| Turn::new(turn.role.clone(), letter))
            .collect();
        let script = Script::from(&turns);
        let letters = Letters::unused(jinja, script)?;
        let prompt = wanted == Wanted::Prompt;
        let (found, mut asked) = watched(jinja, script, prompt, letters)?;
        if jinja.text(script, prompt, None).ok()? != found.text {
            return None;
        }
        let contents = found.answers.len() + found.others.len();
        let rendered = if wanted == Wanted::Whole {
            let rendered = jinja.render(script).ok()?;
            check_prefixes(jinja, script, letters, &rendered, &mut asked)?;
            rendered
        } else {
            Rendered { text: found.text, ..Rendered::default() }
        };
        if asked.literals.iter().any(|literal| literal.contains(is_place)) {
            return None;
        }
        asked.edges |= jinja.has_tags || jinja.strips_blocks;
        let skeleton = Skeleton::cut(&rendered, asked);
        let mut written: Vec<usize> = skeleton.pieces.iter().map(|(_, index)| *index).collect();
        written.sort_unstable();
        // Each content is written once, and the template itself writes no placeholder.
        let is_exact = contents == turns.len() && written.into_iter().eq(0..contents);
        (is_exact && skeleton.has_certain_ends(jinja, &turns)).then_some(skeleton)
    }

    /// Cuts a rendering at its placeholders.
    fn cut(rendered: &Rendered, asked: Asked) -> Skeleton {
        let mut pieces = Vec::new();
        let mut rest = rendered.text.as_str();
        while let Some(offset) = rest.find(is_place) {
            let index = rest[offset..].chars().next().map_or(0, |at| at as usize - FIRST as usize);
            pieces.push((rest[..offset].to_owned(), index));
            rest = &rest[offset + PLACEHOLDER_BYTES..];
        }
        let bound = |offset: usize| {
            let contents = rendered.text[..offset].matches(is_place).count();
            Bound { own: offset - contents * PLACEHOLDER_BYTES, contents }
        };
        Skeleton {
            pieces,
            tail: rest.to_owned(),
            trained: rendered.trained.iter().map(|at| bound(at.start)..bound(at.end)).collect(),
            answers: rendered.answers.iter().map(|at| bound(*at)).collect(),
            asked,
        }
    }

    /// Whether no end could be found that starts behind an answer and ends in the next content.
    fn has_certain_ends(&self, jinja: &Jinja, turns: &[Turn]) -> bool {
        let following = self.pieces.iter().skip(1).map(|(text, _)| text);
        self.pieces.iter().zip(following).all(|((_, index), text)| {
            turns[*index].role != Role::Assistant || jinja.ends.is_certain(text)
        })
    }

    fn bytes(&self) -> usize {
        self.pieces.iter().map(|(text, _)| text.len()).sum::<usize>() + self.tail.len()
    }

    /// Whether contents answer every question as the placeholders did, and contain no mark.
    fn fits(&self, turns: &[Turn]) -> bool {
        turns.iter().all(|turn| {
            let text = turn.text.as_str();
            let [first, last] = [text.chars().next(), text.chars().next_back()];
            let is_bare = !first.is_none_or(is_space) && !last.is_none_or(is_space);
            (is_bare || !self.asked.edges && !text.chars().all(is_space))
                && !self.asked.literals.iter().any(|literal| text.contains(literal))
                && !can_split(turn)
                && !has_mark(text)
        })
    }

    fn fill(&self, turns: &[Turn], page: &mut Rendered) {
        // The bytes of the contents up to each.
        let mut contents = [0; MESSAGES_MAX + 1];
        let own = self.bytes();
        page.text.reserve(own + turns.iter().map(|turn| turn.text.len()).sum::<usize>());
        for (number, (before, index)) in self.pieces.iter().enumerate() {
            let content = &turns[*index].text;
            page.text.push_str(before);
            page.text.push_str(content);
            contents[number + 1] = contents[number] + content.len();
        }
        page.text.push_str(&self.tail);
        let offset = |bound: Bound| bound.own + contents[bound.contents];
        let trained = self.trained.iter().map(|range| offset(range.start)..offset(range.end));
        page.trained.extend(trained);
        page.answers.extend(self.answers.iter().map(|bound| offset(*bound)));
    }
}

/// Whether a character is a placeholder.
fn is_place(letter: char) -> bool {
    (FIRST..).take(MESSAGES_MAX).any(|place| place == letter)
}

/// A watched rendering without its marks, and what it asked.
fn watched(
    jinja: &Jinja,
    script: Script<'_>,
    prompt: bool,
    letters: Letters,
) -> Option<(Unmarked, Asked)> {
    let contents = Contents {
        answers_only: false,
        strips: [false, false],
        thinking: Thinking::Whole,
        calls: Calls::Nothing,
    };
    let marking = Marking { letters, contents: Some(contents), tools: false };
    let (marked, asked) = recorded(|| jinja.watched(script, prompt, &marking));
    Some((unmark(&marked?, letters)?, asked))
}

/// Checks that what is written before each answer, with the generation prompt, is a prefix of the
/// whole text that ends before the answer.
fn check_prefixes(
    jinja: &Jinja,
    script: Script<'_>,
    letters: Letters,
    rendered: &Rendered,
    asked: &mut Asked,
) -> Option<()> {
    for index in assistant_indices(script.turns).filter(|index| *index > 0) {
        let (prefix, more) = watched(jinja, script.until(index), true, letters)?;
        asked.literals.extend(more.literals);
        asked.edges |= more.edges;
        let end = prefix.text.len();
        let answer = rendered.text.find(script.turns[index].text.as_str())?;
        let straddles = |range: &Range<usize>| range.start < end && end < range.end;
        if !rendered.text.starts_with(&prefix.text)
            || end > answer
            || rendered.trained.iter().any(straddles)
        {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
