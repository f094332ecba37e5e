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
use super::marks::{Calls, Contents, Letters, Marking, Unmarked, can_split, has_parts, unmark};
use super::parts;
use super::python::is_space;
use crate::dialogue::{Role, Script, Turn};

/// A proven rendering: where everything is, and what of it is trained.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) trained: Vec<Range<usize>>,
    /// Whether the content of every message that is no assistant's was found.
    pub(super) has_all_others: bool,
}

/// A marked rendering that equals the plain text without its marks.
pub(super) struct Located {
    pub(super) found: Unmarked,
    pub(super) contents: Option<Contents>,
    /// The indices of the assistant messages whose content is in `found.answers`, in order.
    pub(super) whole: Vec<usize>,
    pub(super) letters: Letters,
}

/// Finds a marked rendering that equals the plain text without its marks and contains every
/// assistant message. Without tags, the first such rendering has the widest ranges. With tags,
/// contents are only compared with them, so a rendering that leaves white space outside is
/// sufficient.
fn locate(jinja: &Jinja, script: Script<'_>, text: &str) -> Option<Located> {
    let letters = Letters::unused(jinja, script)?;
    ways(jinja, script).find_map(|contents| {
        let marked = jinja.text(script, false, Some(&Marking { letters, contents })).ok()?;
        let found = unmark(&marked, letters).filter(|found| found.text == text)?;
        let is_whole = |index: &usize| {
            contents.is_some_and(|contents| !contents.is_in_parts(&script.turns[*index]))
        };
        let whole: Vec<usize> = assistant_indices(script.turns).filter(is_whole).collect();
        let has_all = contents.is_none() || found.answers.len() == whole.len();
        has_all.then_some(Located { found, contents, whole, letters })
    })
}

/// The ways to mark a dialogue, in the order in which they are tried.
fn ways<'row>(
    jinja: &Jinja,
    script: Script<'row>,
) -> impl Iterator<Item = Option<Contents>> + use<'row> {
    let calls: &[Calls] = if script.turns.iter().any(has_parts) {
        &[Calls::NamesAndArguments, Calls::Names, Calls::Nothing]
    } else {
        &[Calls::Nothing]
    };
    let splits: &[bool] =
        if script.turns.iter().any(can_split) { &[false, true] } else { &[false] };
    let strips: &[[bool; 2]] = if jinja.has_tags {
        &[[true, true]]
    } else {
        &[[false, false], [true, false], [false, true], [true, true]]
    };
    let contents = splits.iter().flat_map(move |splits| {
        calls.iter().flat_map(move |calls| {
            strips.iter().flat_map(move |strips| {
                [false, true].map(|answers_only| {
                    Some(Contents { answers_only, strips: *strips, splits: *splits, calls: *calls })
                })
            })
        })
    });
    contents.chain(jinja.has_tags.then_some(None))
}

/// The trained ranges of a dialogue that renders as `text`, or why they cannot be proven.
pub(super) fn derive(
    jinja: &Jinja,
    ends: &EndTokens,
    script: Script<'_>,
    text: &str,
) -> Result<Proven, String> {
    let Some(located) = locate(jinja, script, text) else {
        return Err(
            "the template changes an assistant message, so it cannot be located in the rendered \
                text"
                .to_owned(),
        );
    };
    let found = &located.found;
    let mut trained = if jinja.has_tags {
        tagged(script.turns, &located)?
    } else {
        let whole = located.whole.iter().zip(&found.answers);
        let is_trained = |(index, _): &(&usize, _)| script.turns[**index].is_trained();
        let mut trained: Vec<Range<usize>> = whole
            .filter(is_trained)
            .map(|(_, answer)| Some(answer.start..ends.after(text, answer.end)?))
            .collect::<Option<_>>()
            .ok_or("an assistant message is not followed by an end-of-turn token")?;
        trained.extend(parts::trained(jinja, ends, script, text, &located)?);
        trained.sort_by_key(|range| range.start);
        trained
    };
    trained.retain(|range| !range.is_empty());
    check_apart(&trained, found)?;
    compare_prefixes(jinja, script, text, &trained, &located)?;
    let others = script.turns.iter().filter(|turn| turn.role != Role::Assistant).count();
    Ok(Proven { trained, has_all_others: found.others.len() == others })
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
    jinja: &Jinja,
    script: Script<'_>,
    text: &str,
    trained: &[Range<usize>],
    located: &Located,
) -> Result<(), String> {
    let begins = |end: usize, prompt: bool| {
        jinja
            .text(script.until(end), prompt, None)
            .ok()
            .filter(|start| text.starts_with(start.as_str()))
            .map(|start| start.len())
    };
    let found = &located.found;
    for (number, index) in
        assistant_indices(script.turns).enumerate().filter(|(_, index)| *index > 0)
    {
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
fn assistant_indices(turns: &[Turn]) -> impl Iterator<Item = usize> {
    turns
        .iter()
        .enumerate()
        .filter(|(_, turn)| turn.role == Role::Assistant)
        .map(|(index, _)| index)
}

/// What can end an assistant message, derived from the canaries: control tokens, with the white
/// space before them.
#[derive(Debug, Default)]
pub(super) struct EndTokens {
    /// The ends, the longest first.
    ends: Vec<String>,
    /// All control tokens, the longest first.
    tokens: Vec<String>,
}

impl EndTokens {
    /// Collects the text that follows the assistant messages of the canaries.
    pub(super) fn from_trials(
        jinja: &Jinja,
        canaries: &[Vec<Turn>],
        mut tokens: Vec<String>,
    ) -> Result<EndTokens, String> {
        tokens.retain(|token| !token.trim().is_empty());
        tokens.sort_by_key(|token| std::cmp::Reverse(token.len()));
        let mut ends = Vec::new();
        for turns in canaries {
            let Ok(text) = jinja.text(turns.into(), false, None) else { continue };
            let answers = assistant_indices(turns).count();
            let Some(found) = locate(jinja, turns.into(), &text)
                .map(|located| located.found)
                .filter(|found| found.answers.len() == answers)
            else {
                return Err(
                    "the assistant messages cannot be located in the rendered text".to_owned()
                );
            };
            for (answer, index) in found.answers.iter().zip(assistant_indices(turns)) {
                // Text that is also written if the dialogue stops after this message belongs to the
                // message. If other text follows, only the first token does.
                let stopped = jinja
                    .text(Script::from(&turns[..=index]), false, None)
                    .ok()
                    .filter(|stopped| text.starts_with(stopped.as_str()));
                let tail = stopped.as_ref().unwrap_or(&text).get(answer.end..).unwrap_or_default();
                ends.push(tail[..run(tail, &tokens)].to_owned());
            }
        }
        ends.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        ends.dedup();
        Ok(EndTokens { ends, tokens })
    }

    /// Returns the end offset of the end marker after an assistant message that stops at `offset`.
    fn after(&self, text: &str, offset: usize) -> Option<usize> {
        self.ends
            .iter()
            .find(|end| text[offset..].starts_with(end.as_str()))
            .map(|end| offset + end.len())
    }

    /// Returns the length of the end of a message at the start of a text that may have brackets of
    /// the template's own before it, such as `</tool_call>`.
    pub(super) fn within(&self, tail: &str) -> Option<usize> {
        let end = self.ends.iter().filter(|end| !end.is_empty());
        let known = end.filter_map(|end| Some(tail.find(end.as_str())? + end.len())).min();
        let last = || {
            let last = |token: &String| Some(tail.rfind(token.as_str())? + token.len());
            self.tokens.iter().filter_map(last).max()
        };
        known.or_else(last).or_else(|| self.after(tail, 0))
    }
}

/// Returns the length of the run of tokens at the start of a text, including white space before
/// them. If other text follows them, the next message may have started within the run, so only the
/// first token is certain to end this one.
fn run(text: &str, tokens: &[String]) -> usize {
    let token_at = |offset: usize| {
        tokens
            .iter()
            .find(|token| text[offset..].starts_with(token.as_str()))
            .map(|token| offset + token.len())
    };
    let start = text.len() - text.trim_start_matches(is_space).len();
    let Some(first) = token_at(start) else { return 0 };
    let mut last = first;
    while let Some(next) = token_at(last) {
        last = next;
    }
    if text[last..].chars().all(is_space) { last } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_the_tokens_behind_it_but_not_with_the_next_turns() {
        let tokens = ["<end>".to_owned(), "<stop>".to_owned()];
        for (tail, end) in [
            ("\n<end>\n", "\n<end>"),
            ("<end><stop>", "<end><stop>"),
            ("<end><stop>user", "<end>"),
            ("<end>\n<stop>", "<end>"),
            ("x<end>", ""),
        ] {
            assert_eq!(&tail[..run(tail, &tokens)], end);
        }
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
        let script = Script::from(&turns);
        let by_contents = "<user>(q)<e><assistant>[yes]<e>";
        let by_tags_too = "<user>(q)<e><assistant>{[yes]<e>}";
        for (template, marked) in [(plain.as_str(), by_contents), (tagged, by_tags_too)] {
            let special = crate::tokenize::SpecialTokens::default();
            let jinja = Jinja::new("t", template, &special, &["<e>".to_owned()]).expect("compiles");
            let text = jinja.text(script, false, None).expect("renders");
            assert_eq!(text, "<user>q<e><assistant>yes<e>");

            let letters = Letters::of(['{', '}', '[', ']', '(', ')']);
            let contents = Some(Contents {
                answers_only: false,
                strips: [false, false],
                splits: false,
                calls: Calls::Nothing,
            });
            let marking = Marking { letters, contents };
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
