//! Locates answers with reasoning: `<think>…</think>` in the content of a message. Templates move it,
//! keep it or drop it, so the two parts of such a message are marked on their own.

use std::ops::Range;

use super::python::is_space;

/// The tags around reasoning, as models and datasets write them.
pub(super) const OPEN: &str = "<think>";
pub(super) const CLOSE: &str = "</think>";

/// The parts of a message with reasoning, as byte offsets without the white space around them.
struct Parts {
    reasoning: Range<usize>,
    answer: Range<usize>,
}

/// Splits a message at its tags: the reasoning before the first closing tag, the answer after the
/// last one. The white space after the answer is part of it unless `strips_end`.
fn parts(text: &str, strips_end: bool) -> Option<Parts> {
    let (first, last) = (text.find(CLOSE)?, text.rfind(CLOSE)? + CLOSE.len());
    let open = text[..first].rfind(OPEN);
    // Text before the reasoning is a part of the answer that neither range would hold.
    if open.is_some_and(|offset| !text[..offset].chars().all(is_space)) {
        return None;
    }
    let start = open.map_or(0, |offset| offset + OPEN.len());
    let trimmed = |start: usize, end: usize| {
        let core = text[start..end].trim_start_matches(is_space);
        let start = end - core.len();
        start..start + core.trim_end_matches(is_space).len()
    };
    let answer = trimmed(last, text.len());
    let answer_end = if strips_end { answer.end } else { text.len() };
    Some(Parts { reasoning: trimmed(start, first), answer: answer.start..answer_end })
}

/// Puts marks around both parts of a message. Returns `None` if it has no reasoning.
pub(super) fn marked(
    text: &str,
    of_reasoning: [char; 2],
    of_answer: [char; 2],
    strips_end: bool,
) -> Option<String> {
    let Parts { reasoning, answer } = parts(text, strips_end)?;
    let mut marked = String::with_capacity(text.len() + 16);
    let mut last = 0;
    for (range, [open, close]) in [(reasoning, of_reasoning), (answer, of_answer)] {
        marked.push_str(&text[last..range.start]);
        marked.push(open);
        marked.push_str(&text[range.clone()]);
        marked.push(close);
        last = range.end;
    }
    marked.push_str(&text[last..]);
    Some(marked)
}

/// Whether a message has reasoning.
pub(super) fn is_in(text: &str) -> bool {
    text.contains(CLOSE)
}

/// Extends each answer to the start of its reasoning, if the template wrote it right before the
/// answer. `prompts` are the lengths of the prompts of all answers. Returns `None` if anything but
/// the closing tag is written between the two parts.
pub(super) fn join(
    text: &str,
    answers: &mut [Range<usize>],
    reasoning: &[Range<usize>],
    prompts: impl Iterator<Item = Option<usize>>,
) -> Option<()> {
    if reasoning.is_empty() {
        return Some(());
    }
    let mut rest = reasoning.iter().peekable();
    for (answer, prompt) in answers.iter_mut().zip(prompts) {
        if let Some(own) = rest.next_if(|own| own.end <= answer.start) {
            answer.start = start(text, own, answer, prompt)?;
        }
    }
    rest.next().is_none().then_some(())
}

/// The start of an answer with reasoning. The opening tag belongs to it, unless the prompt for this
/// answer ends behind that tag.
fn start(
    text: &str,
    reasoning: &Range<usize>,
    answer: &Range<usize>,
    prompt: Option<usize>,
) -> Option<usize> {
    let between = text.get(reasoning.end..answer.start)?;
    if between.trim_matches(is_space) != CLOSE {
        return None;
    }
    let before = text[..reasoning.start].trim_end_matches(is_space);
    let tag = before.strip_suffix(OPEN).map_or(reasoning.start, str::len);
    Some(prompt.filter(|prompt| (tag..=reasoning.start).contains(prompt)).unwrap_or(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked_as(text: &str, strips_end: bool) -> Option<String> {
        marked(text, ['{', '}'], ['[', ']'], strips_end)
    }

    #[test]
    fn both_parts_of_a_message_are_marked_without_the_space_around_them() {
        let text = "<think>\nhm\n</think>\n\nyes ";
        assert_eq!(marked_as(text, false).expect("has both"), "<think>\n{hm}\n</think>\n\n[yes ]");
        assert_eq!(marked_as(text, true).expect("has both"), "<think>\n{hm}\n</think>\n\n[yes] ");
        assert_eq!(marked_as("hm</think>", false).expect("has both"), "{hm}</think>[]");
        assert_eq!(marked_as("<think>hm", false), None);
        assert_eq!(marked_as("so <think>hm</think>yes", false), None);
    }

    #[test]
    fn the_reasoning_before_an_answer_belongs_to_it() {
        let text = "<a>x</a><think>\nhm\n</think>\n\nyes";
        let answers = |prompt| {
            let mut answers = [3..4, 29..32];
            let joined = join(
                text,
                &mut answers,
                std::slice::from_ref(&(16..18)),
                [None, prompt].into_iter(),
            );
            joined.map(|()| answers[1].start)
        };
        assert_eq!(answers(None), Some(8));
        assert_eq!(answers(Some(16)), Some(16));
        assert_eq!(answers(Some(5)), Some(8));
        let mut apart = [3..4, 29..32];
        assert_eq!(
            join(text, &mut apart, std::slice::from_ref(&(9..10)), [None, None].into_iter()),
            None
        );
    }
}
