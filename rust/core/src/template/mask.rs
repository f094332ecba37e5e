//! Finds the bytes of a rendered dialogue that contribute to the loss. They are derived in three
//! ways, which must agree if they apply: from the template's own `{% generation %}` tags, from
//! marks around the content of every message, and from the text rendered before each assistant
//! message, if that is a prefix of the full text.
//!
//! Marks are Unicode non-characters that neither the row nor the template contains. A marked
//! rendering counts only if removing its marks yields the plain text. A template that depends on
//! the marks therefore proves nothing.
//!
//! An example (`the_example_at_the_head_is_trained_on_its_answer`): the user asks `q`, the
//! assistant answers `yes`, and the template writes `<role>`, the content and `<e>` for each
//! message. The marks are shown as brackets.
//!
//! ```text
//! plain     <user>q<e><assistant>yes<e>
//! marked    <user>(q)<e><assistant>[yes]<e>    without its marks it is the plain text
//! contents  `q` is at bytes 6..7, the answer `yes` at 21..24
//! end       the canaries have shown that `<e>` ends an answer, so 21..27 is trained
//! tags      with `{% generation %}` round the answer and its `<e>`, the tags give 21..27 too
//! prefix    <user>q<e><assistant>              21 bytes, with the generation prompt; `yes` is next
//! ```

use std::ops::Range;

use super::jinja::Jinja;
use super::marks::{Contents, Letters, Marking, Unmarked, has_parts, unmark};
use super::prefixes::Prefixes;
use super::ways::ways;
use super::{parts, thinking};
use crate::dialogue::{Role, Script, Turn};

/// A proven rendering: where everything is, and what of it is trained.
#[derive(Debug)]
pub(super) struct Proven {
    /// The ranges that contribute to the loss.
    pub(super) trained: Vec<Range<usize>>,
    /// Where the contents of all assistant messages end, in order; empty if one was not located.
    pub(super) answers: Vec<usize>,
    /// The offset to insert an end at that the template does not write.
    pub(super) append: Option<usize>,
    /// The contents of all other messages that were located.
    pub(super) others: Vec<Range<usize>>,
    /// The parts of messages with calls or reasoning that were located, each with the index of its
    /// message.
    pub(super) parts: Vec<(usize, Range<usize>)>,
    /// The tools whose names were located, by their numbers.
    pub(super) tools: Vec<usize>,
}

/// A marked rendering that equals the plain text without its marks.
pub(super) struct Located {
    pub(super) found: Unmarked,
    pub(super) contents: Option<Contents>,
    /// The indices of the assistant messages whose content is in `found.answers`, in order.
    pub(super) whole: Vec<usize>,
    pub(super) letters: Letters,
    /// The tools whose names were located, by their numbers.
    tools: Vec<usize>,
}

impl Located {
    /// Where an assistant message was found: its content, or from its first part to its last.
    fn span(&self, index: usize) -> Option<Range<usize>> {
        match self.whole.iter().position(|whole| *whole == index) {
            Some(number) => self.found.answers.get(number).cloned(),
            None => parts::own_parts(self.found.parts.iter(), index),
        }
    }
}

/// Finds a marked rendering that equals the plain text without its marks and contains every
/// assistant message. Without tags, the first such rendering has the widest ranges. With tags,
/// contents are only compared with them, so a rendering that leaves white space outside is
/// sufficient.
pub(super) fn locate(jinja: &Jinja, script: Script<'_>, text: &str) -> Option<Located> {
    let letters = Letters::unused(jinja, script)?;
    let has_tools = script.inputs.is_some_and(|inputs| inputs.tools.is_some());
    ways(jinja, script).enumerate().find_map(|(way, contents)| {
        let located = |tools| {
            located(jinja, script, text, Marking { letters, contents, tools, seals: false })
        };
        let with_tools = has_tools && jinja.tool_marks.are_in(way);
        if let Some(found) = with_tools.then(|| located(true)).flatten() {
            return Some(found);
        }
        let found = located(false)?;
        if has_tools {
            jinja.tool_marks.succeeded_without(way);
        }
        Some(found)
    })
}

/// A marked rendering, if it equals the plain text without its marks and contains every assistant
/// message.
fn located(jinja: &Jinja, script: Script<'_>, text: &str, marking: Marking) -> Option<Located> {
    let Marking { letters, contents, .. } = marking;
    let marked = jinja.text(script, false, Some(&marking)).ok()?;
    let mut found = unmark(&marked, letters).filter(|found| found.text == text)?;
    let messages = script.turns.len();
    let tools = found.parts.extract_if(.., |(index, _)| *index >= messages);
    let tools = tools.map(|(index, _)| index - messages).collect();
    let is_whole = |index: &usize| {
        contents.is_some_and(|contents| !contents.is_in_parts(&script.turns[*index]))
    };
    let whole: Vec<usize> = assistant_indices(script.turns).filter(is_whole).collect();
    let has_all = contents.is_none() || found.answers.len() == whole.len();
    let prompts = whole.iter().map(|index| begins(jinja, script.until(*index), true, text));
    thinking::join(text, &mut found.answers, &found.reasoning, prompts).filter(|()| has_all)?;
    Some(Located { found, contents, whole, letters, tools })
}

/// The length of the text of the first messages, if the whole text starts with it.
fn begins(jinja: &Jinja, before: Script<'_>, prompt: bool, text: &str) -> Option<usize> {
    let start = jinja.text(before, prompt, None).ok()?;
    text.starts_with(&start).then_some(start.len())
}

/// The trained ranges of a dialogue that renders as `text`, or why they cannot be proven.
pub(super) fn derive(jinja: &Jinja, script: Script<'_>, text: &str) -> Result<Proven, String> {
    let Some(located) = locate(jinja, script, text) else {
        return Err(
            "the template changes an assistant message, so it cannot be located in the rendered \
                text"
                .to_owned(),
        );
    };
    let prefixes = Prefixes::new(jinja, script);
    let (mut trained, append) = if jinja.has_tags {
        of_tags(jinja, script.turns, text, &located)?
    } else {
        of_contents(jinja, script, text, &located, &prefixes)?
    };
    trained.retain(|range| !range.is_empty());
    trained.sort_by_key(|range| range.start);
    check_apart(&trained, &located.found)?;
    compare_prefixes(script.turns, text, &trained, &located, &prefixes)?;
    if append.is_some_and(|offset| trained.iter().any(|range| range.end > offset)) {
        return Err("the last message is not the last one in the text".to_owned());
    }
    let answers = answers(script.turns, &located);
    let Located { found: Unmarked { others, parts, .. }, tools, .. } = located;
    Ok(Proven { trained, answers, append, others, parts, tools })
}

/// The ranges of contents and parts with the ends behind them, and the offset for an end that is to
/// be appended.
fn of_contents(
    jinja: &Jinja,
    script: Script<'_>,
    text: &str,
    located: &Located,
    prefixes: &Prefixes<'_>,
) -> Result<(Vec<Range<usize>>, Option<usize>), String> {
    let turns = script.turns;
    let wanted = located.whole.iter().filter(|index| turns[**index].is_trained());
    let answers: Vec<Range<usize>> = wanted.filter_map(|index| located.span(*index)).collect();
    let mut trained = answers.clone();
    let last = turns.last().is_some_and(Turn::is_trained)
        && located.whole.last().is_some_and(|index| index + 1 == turns.len());
    let append = jinja.ends.extend(text, &answers, &mut trained, false, last)?;
    trained.extend(parts::trained(jinja, script, text, located, prefixes)?);
    Ok((trained, append))
}

/// The ranges of the template's tags, and the offset for an end that is to be appended.
fn of_tags(
    jinja: &Jinja,
    turns: &[Turn],
    text: &str,
    located: &Located,
) -> Result<(Vec<Range<usize>>, Option<usize>), String> {
    let mut trained = tagged(turns, located)?;
    let wanted = assistant_indices(turns).filter(|index| turns[*index].is_trained());
    let spans: Vec<Range<usize>> = wanted.filter_map(|index| located.span(index)).collect();
    let last = turns.last().is_some_and(Turn::is_trained);
    let append = jinja.ends.extend(text, &spans, &mut trained, true, last)?;
    let is_whole = located.whole.last().is_some_and(|index| index + 1 == turns.len());
    if append.is_some() && !is_whole {
        return Err("no end can be appended to a message with calls or reasoning".to_owned());
    }
    Ok((trained, append))
}

/// Where the contents of all assistant messages end. Empty if it is not known to which message each
/// range belongs: one was not located, they are not in order, or a tag touches none of them.
fn answers(turns: &[Turn], located: &Located) -> Vec<usize> {
    let spans: Option<Vec<Range<usize>>> =
        assistant_indices(turns).map(|index| located.span(index)).collect();
    let spans = spans.unwrap_or_default();
    let is_in_order = spans.windows(2).all(|pair| pair[0].end <= pair[1].start);
    let is_of_one = |tag: &Range<usize>| {
        tag.is_empty() || spans.iter().any(|span| tag.start <= span.end && span.start <= tag.end)
    };
    if !is_in_order || !located.found.tags.iter().all(is_of_one) {
        return Vec::new();
    }
    spans.into_iter().map(|span| span.end).collect()
}

/// Fails if a trained range includes what others say, or overlaps the next one.
fn check_apart(trained: &[Range<usize>], found: &Unmarked) -> Result<(), String> {
    let overlaps =
        |one: &Range<usize>, other: &Range<usize>| one.start < other.end && other.start < one.end;
    if found.others.iter().any(|other| trained.iter().any(|range| overlaps(range, other))) {
        return Err("the trained range includes text that is not from the assistant".to_owned());
    }
    if trained.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return Err("the trained ranges of two assistant messages overlap".to_owned());
    }
    Ok(())
}

/// The ranges of the generation tags, without those of messages that are not to be trained.
fn tagged(turns: &[Turn], located: &Located) -> Result<Vec<Range<usize>>, String> {
    let Located { found, whole, .. } = located;
    let parts = found.parts.iter().map(|(index, range)| (*index, range));
    let spans: Vec<(usize, &Range<usize>)> =
        whole.iter().copied().zip(&found.answers).chain(parts).collect();
    let holds =
        |tag: &Range<usize>, span: &Range<usize>| tag.start <= span.start && span.end <= tag.end;
    let is_tagged = |span: &Range<usize>| found.tags.iter().any(|tag| holds(tag, span));
    if spans.iter().any(|(_, span)| !span.is_empty() && !is_tagged(span)) {
        return Err("an assistant message is outside the template's generation tags".to_owned());
    }
    let is_lost = |(index, turn): (usize, &Turn)| {
        has_parts(turn) && found.parts.iter().all(|(found, _)| *found != index)
    };
    if turns.iter().enumerate().any(is_lost) {
        return Err(
            "the template changes a call or a reasoning, so it cannot be located".to_owned()
        );
    }
    if turns.iter().all(|turn| turn.role != Role::Assistant || turn.is_trained()) {
        return Ok(found.tags.clone());
    }
    let mut trained = Vec::new();
    for tag in &found.tags {
        let within = spans.iter().filter(|(_, span)| holds(tag, span));
        let mut flags = within.map(|(index, _)| turns[*index].is_trained());
        let first = flags.next().filter(|first| flags.all(|flag| flag == *first));
        match first {
            Some(true) => trained.push(tag.clone()),
            Some(false) => {}
            None => {
                return Err("it is not clear whose text is within a generation tag, and some \
                    messages are not to be trained"
                    .to_owned());
            }
        }
    }
    Ok(trained)
}

/// Compares with the third derivation. If the text rendered before an assistant message is a prefix
/// of the full text, the message and its range must start after it. They may start inside the
/// generation prompt, for example if both contain `<think>`, but must not contain all of it.
fn compare_prefixes(
    turns: &[Turn],
    text: &str,
    trained: &[Range<usize>],
    located: &Located,
    prefixes: &Prefixes<'_>,
) -> Result<(), String> {
    let begins = |end: usize, prompt: bool| {
        let start = prefixes.text(end, prompt)?;
        text.starts_with(&*start).then_some(start.len())
    };
    let found = &located.found;
    for (number, index) in assistant_indices(turns).enumerate().filter(|(_, index)| *index > 0) {
        let Some(prompt) = begins(index, true) else { continue };
        let straddles = |range: &Range<usize>| range.start < prompt && prompt < range.end;
        let answer = located.whole.iter().position(|whole| *whole == index);
        let early = answer
            .and_then(|answer| found.answers.get(answer))
            .into_iter()
            .filter(|answer| answer.start < prompt)
            .chain(trained.iter().filter(|range| straddles(range)));
        let Some(first) = early.map(|range| range.start).min() else { continue };
        if begins(index, false).is_none_or(|before| first <= before) {
            return Err(format!(
                "the trained range of assistant message {} overlaps the prompt before it",
                number + 1
            ));
        }
    }
    Ok(())
}

/// The indices of the assistant messages.
pub(super) fn assistant_indices(turns: &[Turn]) -> impl Iterator<Item = usize> {
    turns
        .iter()
        .enumerate()
        .filter(|(_, turn)| turn.role == Role::Assistant)
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::super::TemplateSource;
    use super::super::marks::{Calls, Thinking};
    use super::*;

    #[test]
    fn the_example_at_the_head_is_trained_on_its_answer() {
        let tagged = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}\
            {% generation %}{{ m.content }}<e>{% endgeneration %}\
            {% else %}{{ m.content }}<e>{% endif %}{% endfor %}\
            {% if add_generation_prompt %}<assistant>{% endif %}";
        let plain = tagged.replace("{% generation %}", "").replace("{% endgeneration %}", "");
        let turn = |role, text: &str| Turn::new(role, text);
        let turns = [turn(Role::User, "q"), turn(Role::Assistant, "yes")];
        let script = Script::from(&turns);
        let by_contents = "<user>(q)<e><assistant>[yes]<e>";
        let by_tags_too = "<user>(q)<e><assistant>{[yes]<e>}";
        for (template, marked) in [(plain.as_str(), by_contents), (tagged, by_tags_too)] {
            let special = crate::tokenize::SpecialTokens::default();
            let source = TemplateSource::plain("t", template, &special, &["<e>".to_owned()]);
            let jinja = Jinja::new(&source).expect("compiles");
            let text = jinja.text(script, false, None).expect("renders");
            assert_eq!(text, "<user>q<e><assistant>yes<e>");

            let letters = Letters::of(['{', '}', '[', ']', '(', ')']);
            let contents = Some(Contents {
                answers_only: false,
                strips: [false, false],
                thinking: Thinking::Whole,
                calls: Calls::Nothing,
            });
            let marking = Marking { letters, contents, tools: false, seals: false };
            let rendered = jinja.text(script, false, Some(&marking)).expect("renders");
            assert_eq!(rendered, marked);
            let found = unmark(&rendered, letters).expect("marks are whole");
            let tags = jinja.has_tags.then_some(&(21..27));
            assert_eq!((&found.text, found.tags.first()), (&text, tags));
            assert_eq!((&found.others[0], &found.answers[0]), (&(6..7), &(21..24)));

            let trained = jinja.render(script).expect("is proven").trained;
            assert_eq!((trained.len(), &trained[0]), (1, &(21..27)));
            let prompt = jinja.text(script.until(1), true, None).expect("renders");
            assert_eq!((prompt.as_str(), prompt.len()), ("<user>q<e><assistant>", 21));
        }
    }
}
