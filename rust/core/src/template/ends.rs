//! What ends an assistant message: the tokens behind it that a model must produce to stop.
//!
//! They are derived from dialogues that are rendered when the template is loaded. What the template
//! writes behind a message belongs to it up to and including EOS, or up to the token that opens the
//! next message. If a template writes no such token, the marker of the next message is the end,
//! because that is where generation stops.
//!
//! An example (`the_example_at_the_head_ends_with_one_token`): a template writes `<role>`, the
//! content and `</s>` for each message.
//!
//! ```text
//! text      <user>q</s><bot>yes</s><user>…      `</s>` follows the answer
//! openers   <user> <bot>                        the first token of a text and of a prompt
//! behind    </s><user>                          in the middle of a dialogue
//!           </s>                                at its end
//! end       </s>
//! ```

use std::ops::Range;

use super::jinja::Jinja;
use super::mask::{assistant_indices, locate};
use super::python::is_space;
use crate::dialogue::{Script, Turn};
use crate::recipe::TrainEnd;

/// The ends of assistant messages.
#[derive(Debug)]
pub(super) struct Ends {
    /// The ends that were found: control tokens with the white space before them, longest first.
    known: Vec<String>,
    /// All control tokens, longest first.
    tokens: Vec<String>,
    /// The text that is appended to a last message without an end.
    appended: Option<String>,
    policy: TrainEnd,
    /// The tokens that open a message.
    openers: Vec<String>,
}

impl Ends {
    /// Knows no ends yet, so every message may be without one.
    pub(super) fn unknown() -> Ends {
        Ends {
            known: Vec::new(),
            tokens: Vec::new(),
            appended: None,
            policy: TrainEnd::AsIs,
            openers: Vec::new(),
        }
    }

    /// Finds the ends in the canaries. `tokens` are all control tokens.
    pub(super) fn from_trials(
        jinja: &Jinja,
        canaries: &[Vec<Turn>],
        mut tokens: Vec<String>,
        policy: TrainEnd,
    ) -> Result<Ends, String> {
        tokens.retain(|token| !token.trim().is_empty());
        tokens.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        tokens.dedup();
        let eos = jinja.special.eos.clone();
        let scan = Scan { openers: openers(jinja, canaries, &tokens), tokens: &tokens, eos };
        let (mut known, mut is_missing) = (Vec::new(), false);
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
                let gap = gap(&text, answer.end, &found.others);
                let stopped = jinja.text(Script::from(&turns[..=index]), false, None).ok();
                let own = stopped
                    .as_deref()
                    .and_then(|stopped| stopped.strip_prefix(&text[..answer.end]))
                    .map_or(gap, |stopped| common_start(gap, stopped));
                let end =
                    Some(scan.end(own)).filter(|end| *end > 0).unwrap_or_else(|| scan.end(gap));
                known.push(gap[..end].to_owned());
                is_missing |= end == 0;
            }
        }
        known.retain(|end| !end.is_empty());
        let appended =
            (policy == TrainEnd::Append).then(|| known.first().cloned().or(scan.eos)).flatten();
        known.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        known.dedup();
        let openers = scan.openers;
        let ends = Ends { known, tokens, appended, policy, openers };
        if jinja.has_tags { Ok(ends) } else { ends.checked(is_missing) }
    }

    /// All texts that may be an end or open a message.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        [&self.known, &self.tokens, &self.openers].into_iter().flatten().map(String::as_str)
    }

    /// Refuses a template that does not write an end, unless the recipe allows that.
    fn checked(mut self, is_missing: bool) -> Result<Ends, String> {
        if !is_missing {
            self.appended = None;
        } else if self.policy == TrainEnd::Append && self.appended.is_none() {
            return Err(
                "it writes no token at the end of an assistant message, and the tokenizer has \
                no EOS token to append"
                    .to_owned(),
            );
        }
        if self.policy == TrainEnd::Require && is_missing { Err(self.missing()) } else { Ok(self) }
    }

    fn missing(&self) -> String {
        let place = if self.known.is_empty() { "" } else { " that ends a dialogue" };
        format!(
            "it writes no token at the end of an assistant message{place}, so a model would not learn \
             to stop; use `--train-end append` to append and train one, or `--train-end as-is` to \
             train without"
        )
    }

    /// Extends the trained ranges over the ends of all messages. Ranges of generation tags already
    /// contain them. Returns the offset for an end that is to be appended.
    pub(super) fn extend(
        &self,
        text: &str,
        answers: &[Range<usize>],
        trained: &mut [Range<usize>],
        has_tags: bool,
        ends_with_answer: bool,
    ) -> Result<Option<usize>, String> {
        let mut append = None;
        for (number, answer) in answers.iter().enumerate() {
            let next = answers.get(number + 1).map_or(text.len(), |next| next.start);
            let is_ended = if has_tags {
                let inside = trained
                    .iter()
                    .map(|range| range.start.max(answer.end)..range.end.min(next))
                    .filter(|range| range.start < range.end);
                inside.into_iter().any(|range| self.has_token(&text[range]))
            } else {
                let end = self.after(text, answer.end);
                trained[number].end = end.unwrap_or(answer.end);
                end.is_some()
            };
            let is_last = ends_with_answer && number + 1 == answers.len();
            match (self.policy, &self.appended) {
                (TrainEnd::Append, Some(_)) if is_last && !is_ended => append = Some(answer.end),
                (TrainEnd::Append, None) | (TrainEnd::Require, _) if !is_ended => {
                    return Err(unended(has_tags));
                }
                (TrainEnd::Append | TrainEnd::Require | TrainEnd::AsIs, _) => {}
            }
        }
        Ok(append)
    }

    /// The text to append to a last message without an end.
    pub(super) fn appended(&self) -> &str {
        self.appended.as_deref().unwrap_or_default()
    }

    /// The texts that end trained messages, without the white space before them.
    pub(super) fn texts(&self) -> Vec<String> {
        let all = self.known.iter().chain(&self.appended);
        let mut texts: Vec<String> =
            all.map(|end| end.trim_start_matches(is_space).to_owned()).collect();
        texts.sort();
        texts.dedup();
        texts
    }

    fn has_token(&self, text: &str) -> bool {
        self.tokens.iter().any(|token| text.contains(token.as_str()))
    }

    /// Returns the length up to the end of a message, at the start of a text that may have brackets
    /// of the template's own before that end, such as `</tool_call>`. Calls may have an end of
    /// their own: it is the last token before one that opens a message.
    pub(super) fn within(&self, tail: &str) -> Option<usize> {
        let known = self.known.iter().filter_map(|end| {
            let token = end.trim_start_matches(is_space);
            Some((tail.find(token)?, std::cmp::Reverse(token.len())))
        });
        if let Some((at, std::cmp::Reverse(length))) = known.min() {
            return Some(at + length);
        }
        let opener = self.openers.iter().filter_map(|opener| tail.find(opener.as_str())).min();
        let own = &tail[..opener.unwrap_or(tail.len())];
        let last = |token: &String| Some(own.rfind(token.as_str())? + token.len());
        self.tokens.iter().filter_map(last).max()
    }

    /// Whether the end behind an answer does not depend on what comes after this text.
    pub(super) fn is_certain(&self, text: &str) -> bool {
        let mut known = self.known.iter();
        known.all(|end| text.starts_with(end.as_str()) || !end.starts_with(text))
    }

    /// Returns the end offset of the end behind an assistant message that stops at `offset`.
    fn after(&self, text: &str, offset: usize) -> Option<usize> {
        self.known
            .iter()
            .find(|end| text[offset..].starts_with(end.as_str()))
            .map(|end| offset + end.len())
    }
}

fn unended(has_tags: bool) -> String {
    if has_tags {
        "its generation tags contain no token that ends an assistant message, so a model would not \
         learn to stop; move the tags, or use `--train-end as-is` to train without"
            .to_owned()
    } else {
        "an assistant message is not followed by an end-of-turn token".to_owned()
    }
}

/// The text from `offset` to the next message that is not an assistant's.
fn gap<'text>(text: &'text str, offset: usize, others: &[Range<usize>]) -> &'text str {
    let next = others.iter().map(|other| other.start).find(|start| *start >= offset);
    &text[offset..next.unwrap_or(text.len())]
}

/// The tokens that open a message: the first one of a text, and the first one of a prompt.
fn openers(jinja: &Jinja, canaries: &[Vec<Turn>], tokens: &[String]) -> Vec<String> {
    let named = [&jinja.special.bos, &jinja.special.eos];
    let first = |text: &str| {
        let found = tokens
            .iter()
            .filter(|token| !named.iter().any(|named| named.as_ref() == Some(token)))
            .filter_map(|token| Some((text.find(token.as_str())?, std::cmp::Reverse(token.len()))));
        let (at, std::cmp::Reverse(length)) = found.min()?;
        Some(text[at..at + length].to_owned())
    };
    let mut openers = Vec::new();
    for turns in canaries {
        openers.extend(jinja.text(turns.into(), false, None).ok().as_deref().and_then(first));
        let asked = Script::from(&turns[..turns.len() - 1]);
        let texts = [false, true].map(|prompt| jinja.text(asked, prompt, None));
        if let [Ok(without), Ok(with)] = texts {
            openers.extend(with.strip_prefix(&without).and_then(first));
        }
    }
    openers
}

/// The text at the start of both.
fn common_start<'text>(one: &'text str, other: &str) -> &'text str {
    let mut letters = one.char_indices().zip(other.chars());
    let end = letters.find(|((_, letter), same)| letter != same).map(|((at, _), _)| at);
    &one[..end.unwrap_or(one.len().min(other.len()))]
}

/// Searches for the end at the start of a text.
struct Scan<'tokens> {
    tokens: &'tokens [String],
    openers: Vec<String>,
    eos: Option<String>,
}

impl Scan<'_> {
    /// Returns the length of the end at the start of a text, including white space before it, or 0.
    /// It stops after EOS and before a token that opens a message. If other text follows its tokens,
    /// the next message may have started within them, so only the first is certain to belong to it.
    fn end(&self, text: &str) -> usize {
        let start = text.len() - text.trim_start_matches(is_space).len();
        let Some(first) = self.token_at(text, start) else { return 0 };
        let (mut token, mut last) = (first, start + first.len());
        while Some(token) != self.eos.as_deref() {
            match self.token_at(text, last) {
                None if text[last..].chars().all(is_space) => break,
                None => return start + first.len(),
                Some(next) if self.openers.iter().any(|opener| opener == next) => break,
                Some(next) => (token, last) = (next, last + next.len()),
            }
        }
        last
    }

    fn token_at(&self, text: &str, offset: usize) -> Option<&str> {
        self.tokens.iter().map(String::as_str).find(|token| text[offset..].starts_with(token))
    }
}

#[cfg(test)]
mod tests {
    use super::super::TemplateSource;
    use super::*;
    use crate::tokenize::SpecialTokens;

    const EXAMPLE: &str =
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{{ eos_token }}{% endfor %}";

    fn ends(text: &str, policy: TrainEnd) -> Result<Vec<String>, String> {
        let special = SpecialTokens { eos: Some("</s>".into()), ..SpecialTokens::default() };
        let mut source = TemplateSource::plain("t", text, &special, &[]);
        source.train_end = policy;
        Jinja::new(&source).map(|jinja| jinja.ends.texts()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_at_the_head_ends_with_one_token() {
        let text = EXAMPLE.replace("<end>", "");
        assert_eq!(ends(&text, TrainEnd::Require), Ok(vec!["</s>".to_owned()]));
    }

    #[test]
    fn an_end_stops_behind_eos_and_before_the_next_message() {
        let end = |text: &str| {
            let tokens = ["<end>", "<stop>", "</s>", "<open>"].map(str::to_owned);
            let openers = vec!["<open>".to_owned()];
            let scan = Scan { tokens: &tokens, openers, eos: Some("</s>".to_owned()) };
            text[..scan.end(text)].to_owned()
        };
        for (tail, expected) in [
            ("\n<end>\n", "\n<end>"),
            ("<end><stop>", "<end><stop>"),
            ("<end><stop>user", "<end>"),
            ("<end>\n<stop>", "<end>"),
            ("<end></s><stop>", "<end></s>"),
            ("<end><stop><open><end>user", "<end><stop>"),
            ("<open>user", "<open>"),
            ("x<end>", ""),
        ] {
            assert_eq!(end(tail), expected, "{tail}");
        }
    }

    #[test]
    fn a_template_that_writes_no_end_is_refused_unless_the_recipe_allows_it() {
        let bare = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
        let between = "{% for m in messages %}{{ '' if loop.first else '<end>' }}{{ m.role }}: \
            {{ m.content }}{% endfor %}";
        for (text, appended, place) in
            [(bare, "</s>", "assistant message, so"), (between, "<end>", "that ends a dialogue")]
        {
            let refused = ends(text, TrainEnd::Require).expect_err("is refused");
            assert!(refused.contains(place) && refused.contains("--train-end"), "{refused}");
            assert_eq!(ends(text, TrainEnd::Append), Ok(vec![appended.to_owned()]));
        }
        assert_eq!(ends(bare, TrainEnd::AsIs), Ok(vec![]));
        assert_eq!(ends(between, TrainEnd::AsIs), Ok(vec!["<end>".to_owned()]));
    }

    #[test]
    fn a_prompt_that_is_always_written_is_not_part_of_the_end() {
        let text = "{% for m in messages %}<|turn|><{{ m.role }}>{{ m.content }}<|end|>{% endfor %}\
            <|turn|><assistant>";
        assert_eq!(ends(text, TrainEnd::Require), Ok(vec!["<|end|>".to_owned()]));
    }
}
