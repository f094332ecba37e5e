//! Renders most dialogues without Jinja, by writing their texts into a text that was rendered once
//! for their sequence of roles.
//!
//! That is possible if no content affects the text around it. A watched rendering proves this for a
//! sequence: it fails where the template looks into a content, except for a few questions to which
//! nearly all contents have the same answer, such as whether `</think>` is in them. Calls and tools
//! are watched as well. A dialogue with other answers is rendered with Jinja. The result is the same.
//!
//! An example (`the_example_at_the_head_is_filled`): the placeholders are shown as digits.
//!
//! ```text
//! rendered  <user>0</s><bot>1</s>     for the roles user and assistant; 15..20 is trained
//! pieces    `<user>` 0 `</s><bot>` 1 `</s>`
//! filled    <user>Why?</s><bot>So.</s>
//! trained   the first bound follows one content, and moves by 3 bytes; the second follows two
//! ```

mod kept;
pub(super) mod sealed;
mod slots;
pub(super) mod watched;

use std::collections::BTreeMap;
use std::ops::Range;

pub(super) use self::kept::Skeletons;
use self::sealed::Seals;
use self::slots::{Slot, is_placeholder, number, replace_in_members, slots, with_placeholders};
use self::watched::{Asked, recorded};
use crate::dialogue::{Role, Script, Turn};
use crate::sample::Rendered;
use crate::template::jinja::Jinja;
use crate::template::letters::{REASONING_BEFORE, has_mark};
use crate::template::marks::{
    Calls, Contents, Letters, Marking, Thinking, Unmarked, can_split, unmark,
};
use crate::template::mask::assistant_indices;
use crate::template::python::is_space;
use crate::template::tojson::is_written_raw;

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

/// A text with slots.
#[derive(Debug)]
struct Skeleton {
    /// What is written before each slot, and the number of the slot.
    pieces: Vec<(String, usize)>,
    tail: String,
    trained: Vec<Range<Bound>>,
    answers: Vec<usize>,
    asked: Asked,
}

/// An offset in the text of a dialogue.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// The offset without the texts in the slots.
    own: usize,
    /// The number of slots before it.
    slots: usize,
}

impl Skeleton {
    /// Renders the sequence of a dialogue, unless more than this decides about the result.
    fn of_sequence(
        jinja: &Jinja,
        script: Script<'_>,
        wanted: Wanted,
        seals: Seals,
    ) -> Option<Skeleton> {
        let (turns, inputs) = with_placeholders(script, seals);
        let script = Script { turns: &turns, inputs: inputs.as_ref() };
        let slots = slots(script, seals);
        let letters = Letters::unused(jinja, script)?;
        let prompt = wanted == Wanted::Prompt;
        let (found, mut asked) = watched(jinja, script, prompt, letters)?;
        let dumps = asked.dumped(&slots, u64::MAX)?;
        let slots = with_texts(&slots, &dumps);
        if jinja.text(script, prompt, None).ok()? != found.text {
            return None;
        }
        let rendered = if wanted == Wanted::Whole {
            let rendered = jinja.render(script).ok()?;
            check_prefixes(jinja, script, letters, &rendered, &slots, &mut asked)?;
            rendered
        } else {
            Rendered { text: found.text.clone(), ..Rendered::default() }
        };
        if asked.literals.iter().any(|literal| literal.contains(is_placeholder)) {
            return None;
        }
        asked.edges |= jinja.has_tags || jinja.strips_blocks;
        if !dumps.is_empty() {
            // The end of an answer is searched after its last text, which may be in a slot now.
            asked.literals.extend(jinja.ends.all().map(str::to_owned));
            // The value may not contain a literal that its replacement contains.
            if asked.literals.iter().any(|text| dumps.values().any(|json| json.contains(text))) {
                return None;
            }
        }
        let skeleton = Skeleton::cut(&rendered, asked, &slots)?;
        (skeleton.is_exact(&slots, &found) && skeleton.has_certain_ends(jinja, &turns, &slots))
            .then_some(skeleton)
    }

    /// Cuts a rendering at its slots. `None` if a range starts or ends within one.
    fn cut(rendered: &Rendered, asked: Asked, slots: &[Slot<'_>]) -> Option<Skeleton> {
        let text = rendered.text.as_str();
        let (mut pieces, mut ranges, mut start) = (Vec::new(), Vec::<Range<usize>>::new(), 0);
        while let Some(offset) = text[start..].find(is_placeholder).map(|offset| start + offset) {
            let slot = text[offset..].chars().next().and_then(number)?;
            let written = slots.get(slot)?.text;
            let opens = offset.checked_sub(written.find(is_placeholder)?)?;
            let before = text.get(start..opens)?;
            if !text[opens..].starts_with(written) {
                return None;
            }
            pieces.push((before.to_owned(), slot));
            start = opens + written.len();
            ranges.push(opens..start);
        }
        let bound = |offset: usize| {
            let before = ranges.iter().take_while(|range| range.start < offset);
            let filled: usize = before.clone().map(ExactSizeIterator::len).sum();
            let is_within = before.clone().any(|range| offset < range.end);
            (!is_within).then(|| Bound { own: offset - filled, slots: before.count() })
        };
        let trained = rendered.trained.iter().map(|at| Some(bound(at.start)?..bound(at.end)?));
        Some(Skeleton {
            pieces,
            tail: text[start..].to_owned(),
            trained: trained.collect::<Option<_>>()?,
            answers: rendered.answers.clone(),
            asked,
        })
    }

    /// Whether each content is written once, and any other text at most once, between its marks.
    /// Otherwise, the template might write a placeholder itself.
    fn is_exact(&self, slots: &[Slot<'_>], found: &Unmarked) -> bool {
        let parts = found.parts.iter().map(|(_, range)| range);
        let contents = found.answers.iter().chain(&found.others).chain(parts);
        let between = |range: &Range<usize>| &found.text[range.clone()];
        let contents: Vec<&str> = contents.map(between).collect();
        let others: Vec<&str> = found.reasoning.iter().map(between).collect();
        let is_exact = |(number, slot): (usize, &Slot<'_>)| {
            let located = if slot.is_content { &contents } else { &others };
            let located = located.iter().filter(|text| **text == slot.text).count();
            let written = self.pieces.iter().filter(|(_, of)| *of == number).count();
            let must_be = slot.is_content || slot.sealed.is_some();
            located == written && (written == 1 || written == 0 && !must_be)
        };
        self.pieces.iter().all(|(_, slot)| *slot < slots.len())
            && slots.iter().enumerate().all(is_exact)
    }

    /// Whether no end could be found that starts behind an answer and ends in the next slot.
    fn has_certain_ends(&self, jinja: &Jinja, turns: &[Turn], slots: &[Slot<'_>]) -> bool {
        self.pieces.windows(2).all(|pair| {
            let message = slots[pair[0].1].message.map(|message| &turns[message]);
            // The first character of the JSON.
            let start = slots[pair[1].1].sealed.map_or("", |_| "{");
            message.is_none_or(|turn| turn.role != Role::Assistant)
                || jinja.ends.is_certain(&format!("{}{start}", pair[1].0))
        })
    }

    fn bytes(&self) -> usize {
        self.pieces.iter().map(|(text, _)| text.len()).sum::<usize>() + self.tail.len()
    }

    /// The length of the text with these in the slots.
    fn bytes_with(&self, slots: &[Slot<'_>]) -> usize {
        let filled = self.pieces.iter().map(|(_, slot)| slots[*slot].text.len());
        self.bytes() + filled.sum::<usize>()
    }

    /// Whether all texts answer every question as the placeholders did, and contain no mark.
    fn fits(&self, turns: &[Turn], slots: &[Slot<'_>]) -> bool {
        let Asked { literals, edges, json, .. } = &self.asked;
        let fits = |(number, Slot { text, is_bare, .. }): (usize, &Slot<'_>)| {
            let has_edges = text.starts_with(is_space) || text.ends_with(is_space);
            !(has_edges && (*edges || *is_bare))
                && !literals.iter().any(|literal| text.contains(literal))
                && (!json.contains(&number) || is_written_raw(text))
                && !has_mark(text)
        };
        slots.iter().enumerate().all(fits) && !turns.iter().any(can_split)
    }

    /// Writes the text. It is within the limit of a rendering, because each slot is written at most
    /// once.
    fn fill(&self, slots: &[Slot<'_>], page: &mut Rendered) {
        page.text.reserve(self.bytes_with(slots));
        // The bytes in slots up to each.
        let mut filled = Vec::with_capacity(self.pieces.len() + 1);
        filled.push(0);
        for (before, slot) in &self.pieces {
            let text = slots[*slot].text;
            page.text.push_str(before);
            page.text.push_str(text);
            filled.push(filled[filled.len() - 1] + text.len());
        }
        page.text.push_str(&self.tail);
        let offset = |bound: Bound| bound.own + filled[bound.slots];
        let trained = self.trained.iter().map(|range| offset(range.start)..offset(range.end));
        page.trained.extend(trained);
        page.answers.extend(&self.answers);
    }
}

/// The same slots with the JSON of the sealed values.
fn with_texts<'row>(slots: &[Slot<'row>], dumps: &'row BTreeMap<usize, String>) -> Vec<Slot<'row>> {
    let with_text = |(number, slot): (usize, &Slot<'row>)| Slot {
        text: dumps.get(&number).map_or(slot.text, String::as_str),
        ..*slot
    };
    slots.iter().enumerate().map(with_text).collect()
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
    let marking = Marking { letters, contents: Some(contents), tools: false, seals: true };
    // No answer has its reasoning in its content, so these marks are free for all other texts.
    let [open, close] = letters.pair(REASONING_BEFORE);
    let mut turns = script.turns.to_vec();
    replace_in_members(&mut turns, Seals::default(), &mut |text| {
        format!("{open}{}{close}", text.as_str().unwrap_or_default()).into()
    });
    let script = Script { turns: &turns, ..script };
    let (marked, asked) = recorded(|| jinja.watched(script, prompt, &marking));
    let marked = marked.filter(|_| !asked.is_read)?;
    Some((unmark(&marked, letters)?, asked))
}

/// Checks that what is written before each answer, with the generation prompt, is a prefix of the
/// whole text that ends before the answer.
fn check_prefixes(
    jinja: &Jinja,
    script: Script<'_>,
    letters: Letters,
    rendered: &Rendered,
    slots: &[Slot<'_>],
    asked: &mut Asked,
) -> Option<()> {
    for index in assistant_indices(script.turns).filter(|index| *index > 0) {
        let (prefix, more) = watched(jinja, script.until(index), true, letters)?;
        asked.add(more)?;
        let end = prefix.text.len();
        let own = slots.iter().filter(|slot| slot.message == Some(index));
        let answer = own.filter_map(|slot| rendered.text.find(slot.text)).min()?;
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
