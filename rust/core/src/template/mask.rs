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
use super::python::strip;
use super::thinking;
use crate::dialogue::{Role, Turn};

/// Which contents are marked, and which part of each.
#[derive(Debug, Clone, Copy)]
struct Contents {
    /// Only assistant messages, or every message.
    answers_only: bool,
    /// Whether the white space at each end stays outside, for templates that strip it there.
    strips: [bool; 2],
    /// Whether the reasoning in an answer is marked on its own, for templates that move or drop it.
    splits: bool,
}

/// The marks used in one rendering.
pub(super) struct Marking {
    /// An opening and a closing mark each around generation tags, assistant messages, other contents
    /// and reasoning.
    letters: [char; 8],
    contents: Option<Contents>,
}

impl Marking {
    /// The marks of generation tags.
    pub(super) fn tags(&self) -> [char; 2] {
        [self.letters[0], self.letters[1]]
    }

    /// Returns the content of a message with its marks.
    pub(super) fn content(&self, turn: &Turn) -> String {
        let is_answer = turn.role == Role::Assistant;
        match self.contents {
            Some(Contents { answers_only, strips: [start, end], splits })
                if is_answer || !answers_only =>
            {
                let [_, _, open, close, _, _, open_reasoning, close_reasoning] = self.letters;
                let of_reasoning = [open_reasoning, close_reasoning];
                if let Some(marked) = (is_answer && splits)
                    .then(|| thinking::marked(&turn.text, of_reasoning, [open, close], end))
                    .flatten()
                {
                    return marked;
                }
                let after_lead =
                    if start { strip(&turn.text, None, true, false) } else { &turn.text };
                let core = if end { strip(after_lead, None, false, true) } else { after_lead };
                let lead = turn.text.len() - after_lead.len();
                let [open, close] = if is_answer {
                    [self.letters[2], self.letters[3]]
                } else {
                    [self.letters[4], self.letters[5]]
                };
                format!(
                    "{}{open}{core}{close}{}",
                    &turn.text[..lead],
                    &turn.text[lead + core.len()..]
                )
            }
            _ => turn.text.clone(),
        }
    }
}

/// A text whose marks were removed, and the ranges that were between them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Unmarked {
    text: String,
    tags: Vec<Range<usize>>,
    pub(super) answers: Vec<Range<usize>>,
    pub(super) others: Vec<Range<usize>>,
    reasoning: Vec<Range<usize>>,
}

/// Removes the marks. Returns `None` if a mark has no counterpart.
fn unmark(marked: &str, letters: [char; 8]) -> Option<Unmarked> {
    let mut unmarked =
        Unmarked { text: String::with_capacity(marked.len()), ..Unmarked::default() };
    let mut open = [None; 4];
    for letter in marked.chars() {
        let Some(index) = letters.iter().position(|mark| *mark == letter) else {
            unmarked.text.push(letter);
            continue;
        };
        let here = unmarked.text.len();
        if index % 2 == 0 {
            if open[index / 2].replace(here).is_some() {
                return None;
            }
        } else {
            let range = open[index / 2].take()?..here;
            let Unmarked { tags, answers, others, reasoning, .. } = &mut unmarked;
            [tags, answers, others, reasoning][index / 2].push(range);
        }
    }
    open.iter().all(Option::is_none).then_some(unmarked)
}

/// Eight of Unicode's non-characters that neither template nor row contains.
fn unused(jinja: &Jinja, turns: &[Turn]) -> Option<[char; 8]> {
    let mut unused = ('\u{FDD0}'..='\u{FDEF}').filter(|mark| {
        !jinja.written.contains(*mark) && !turns.iter().any(|turn| turn.text.contains(*mark))
    });
    let mut letters = ['\0'; 8];
    for letter in &mut letters {
        *letter = unused.next()?;
    }
    Some(letters)
}

/// Finds a marked rendering that equals the plain text without its marks and contains every
/// assistant message. Without tags, the first such rendering has the widest ranges. With tags,
/// contents are only compared with them, so a rendering that leaves white space outside is
/// sufficient.
pub(super) fn locate(jinja: &Jinja, turns: &[Turn], text: &str) -> Option<Unmarked> {
    let letters = unused(jinja, turns)?;
    let answers = assistant_indices(turns).count();
    let strips: &[[bool; 2]] = if jinja.has_tags {
        &[[true, true]]
    } else {
        &[[false, false], [true, false], [false, true], [true, true]]
    };
    let has_reasoning =
        turns.iter().any(|turn| turn.role == Role::Assistant && thinking::is_in(&turn.text));
    let whole_or_split: &[bool] = if has_reasoning { &[false, true] } else { &[false] };
    let contents = whole_or_split.iter().flat_map(|splits| {
        strips.iter().flat_map(|strips| {
            [false, true].map(|answers_only| {
                Some(Contents { answers_only, strips: *strips, splits: *splits })
            })
        })
    });
    contents.chain(jinja.has_tags.then_some(None)).find_map(|contents| {
        let marked = jinja.text(turns, false, Some(&Marking { letters, contents })).ok()?;
        let mut found = unmark(&marked, letters).filter(|found| {
            found.text == text && (contents.is_none() || found.answers.len() == answers)
        })?;
        let prompts =
            assistant_indices(turns).map(|index| begins(jinja, &turns[..index], true, text));
        thinking::join(text, &mut found.answers, &found.reasoning, prompts)?;
        Some(found)
    })
}

/// The length of the text before a message, if the whole text starts with it.
fn begins(jinja: &Jinja, turns: &[Turn], prompt: bool, text: &str) -> Option<usize> {
    let start = jinja.text(turns, prompt, None).ok()?;
    text.starts_with(&start).then_some(start.len())
}

/// What is known about the bytes of a text.
pub(super) struct Mask {
    /// The ranges that contribute to the loss.
    pub(super) trained: Vec<Range<usize>>,
    /// Where the contents of the assistant messages end; empty if they were not located.
    pub(super) answers: Vec<usize>,
    /// The contents of all other messages that were located.
    pub(super) others: Vec<Range<usize>>,
    /// The offset to insert an end at that the template does not write.
    pub(super) append: Option<usize>,
}

/// The mask of a dialogue that renders as `text`, or why it cannot be proven.
pub(super) fn derive(jinja: &Jinja, turns: &[Turn], text: &str) -> Result<Mask, String> {
    let Some(found) = locate(jinja, turns, text) else {
        return Err(
            "the template changes an assistant message, so it cannot be located in the rendered \
                text"
                .to_owned(),
        );
    };
    let mut trained = if jinja.has_tags {
        let holds = |answer: &Range<usize>| {
            found.tags.iter().any(|tag| tag.start <= answer.start && answer.end <= tag.end)
        };
        if !found.answers.iter().all(|answer| answer.is_empty() || holds(answer)) {
            return Err("an assistant message is outside the template's generation tags".to_owned());
        }
        found.tags.clone()
    } else {
        found.answers.clone()
    };
    let last = turns.last().is_some_and(|turn| turn.role == Role::Assistant);
    let append = jinja.ends.extend(text, &found.answers, &mut trained, jinja.has_tags, last)?;
    trained.retain(|range| !range.is_empty());
    if found
        .others
        .iter()
        .any(|other| trained.iter().any(|range| range.start < other.end && other.start < range.end))
    {
        return Err("the trained range includes text that is not from the assistant".to_owned());
    }
    compare_prefixes(jinja, turns, text, &trained, &found.answers)?;
    let answers = found.answers.iter().map(|answer| answer.end).collect();
    Ok(Mask { trained, answers, others: found.others, append })
}

/// Compares with the third derivation. If the text rendered before an assistant message is a prefix
/// of the full text, the message and its range must start after it. They may start inside the
/// generation prompt, for example if both contain `<think>`, but must not contain all of it.
fn compare_prefixes(
    jinja: &Jinja,
    turns: &[Turn],
    text: &str,
    trained: &[Range<usize>],
    answers: &[Range<usize>],
) -> Result<(), String> {
    let begins = |turns: &[Turn], prompt: bool| begins(jinja, turns, prompt, text);
    for (number, index) in assistant_indices(turns).enumerate().filter(|(_, index)| *index > 0) {
        let Some(prompt) = begins(&turns[..index], true) else { continue };
        let straddles = |range: &Range<usize>| range.start < prompt && prompt < range.end;
        let early = answers
            .get(number)
            .into_iter()
            .filter(|answer| answer.start < prompt)
            .chain(trained.iter().filter(|range| straddles(range)));
        let Some(first) = early.map(|range| range.start).min() else { continue };
        if begins(&turns[..index], false).is_none_or(|before| first <= before) {
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
    use super::*;

    #[test]
    fn torn_marks_prove_nothing() {
        let letters = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
        let found = unmark("1a2c3db4", letters).expect("marks are whole");
        assert_eq!(
            (found.text.as_str(), &found.tags[0], &found.answers[0]),
            ("1234", &(1..3), &(2..3))
        );
        assert_eq!(unmark("1a2", letters), None);
        assert_eq!(unmark("b", letters), None);
        assert_eq!(unmark("aa1bb", letters), None);
    }

    #[test]
    fn the_example_at_the_head_is_trained_on_its_answer() {
        let tagged = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}\
            {% generation %}{{ m.content }}<e>{% endgeneration %}\
            {% else %}{{ m.content }}<e>{% endif %}{% endfor %}\
            {% if add_generation_prompt %}<assistant>{% endif %}";
        let plain = tagged.replace("{% generation %}", "").replace("{% endgeneration %}", "");
        let turn = |role, text: &str| Turn::new(role, text);
        let turns = [turn(Role::User, "q"), turn(Role::Assistant, "yes")];
        let by_contents = "<user>(q)<e><assistant>[yes]<e>";
        let by_tags_too = "<user>(q)<e><assistant>{[yes]<e>}";
        for (template, marked) in [(plain.as_str(), by_contents), (tagged, by_tags_too)] {
            let special = crate::tokenize::SpecialTokens::default();
            let source = TemplateSource::plain("t", template, &special, &["<e>".to_owned()]);
            let jinja = Jinja::new(&source).expect("compiles");
            let text = jinja.text(&turns, false, None).expect("renders");
            assert_eq!(text, "<user>q<e><assistant>yes<e>");

            let letters = ['{', '}', '[', ']', '(', ')', '/', '\\'];
            let contents =
                Some(Contents { answers_only: false, strips: [false, false], splits: false });
            let marking = Marking { letters, contents };
            let rendered = jinja.text(&turns, false, Some(&marking)).expect("renders");
            assert_eq!(rendered, marked);
            let found = unmark(&rendered, letters).expect("marks are whole");
            let tags = jinja.has_tags.then_some(&(21..27));
            assert_eq!((&found.text, found.tags.first()), (&text, tags));
            assert_eq!((&found.others[0], &found.answers[0]), (&(6..7), &(21..24)));

            let trained = jinja.render(&turns).expect("is proven").trained;
            assert_eq!((trained.len(), &trained[0]), (1, &(21..27)));
            let prompt = jinja.text(&turns[..1], true, None).expect("renders");
            assert_eq!((prompt.as_str(), prompt.len()), ("<user>q<e><assistant>", 21));
        }
    }
}
