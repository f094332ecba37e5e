//! Added tokens: found in the text before anything else looks at it, the way `tokenizers`'
//! `AddedVocabulary` finds them.
//!
//! Tokens that match the original text are searched first. Tokens that match normalized text are
//! then searched in the remaining parts.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::AddedToken;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// An added token.
    Token(u32, Range<usize>),
    /// Text between tokens. If `fresh`, the normalizer's prefix precedes it. It may then be empty,
    /// but is still tokenized.
    Text {
        /// Its byte range.
        range: Range<usize>,
        /// Whether it starts a part that is normalized as a unit.
        fresh: bool,
    },
}

/// How the normalizer changes the content of added tokens that match normalized text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Not at all.
    Kept,
    /// It adds a leading `▁` and replaces spaces by `▁`.
    Prefixed,
    /// It replaces spaces by `▁`.
    Spaced,
}

/// The added tokens of a tokenizer.
#[derive(Debug)]
pub(super) struct Added {
    raw: Option<Matcher>,
    normalised: Option<Matcher>,
    /// Tokens that match the start of a normalized text because of the prefix, the longest first.
    at_start: Vec<(String, u32)>,
}

#[derive(Debug)]
struct Matcher {
    automaton: AhoCorasick,
    tokens: Vec<(u32, bool, bool)>,
}

impl Added {
    /// Prepares the search, or returns the reason why it cannot.
    pub(super) fn new(tokens: &[(u32, AddedToken)], content: Content) -> Result<Added, String> {
        if tokens.iter().any(|(_, token)| token.single_word) {
            return Err("an added token has `single_word` set".to_owned());
        }
        let strips = tokens.iter().any(|(_, token)| token.rstrip);
        if strips && tokens.iter().any(|(_, token)| token.content.starts_with(char::is_whitespace))
        {
            return Err("one added token strips white space and another begins with it".to_owned());
        }
        let (normalised, raw): (Vec<_>, Vec<_>) =
            tokens.iter().partition(|(_, token)| token.normalized);
        let changed = normalised
            .iter()
            .any(|(_, token)| token.content.contains([' ', '▁']) || token.lstrip || token.rstrip);
        if content != Content::Kept && changed {
            return Err("the normalizer changes an added token".to_owned());
        }
        let mut at_start = Vec::new();
        let mut patterns = Vec::new();
        for (id, token) in normalised {
            let flags = (*id, token.lstrip, token.rstrip);
            if content == Content::Prefixed {
                at_start.push((token.content.clone(), *id));
                patterns
                    .extend([' ', '▁'].map(|space| (format!("{space}{}", token.content), flags)));
            } else {
                patterns.push((token.content.clone(), flags));
            }
        }
        at_start.sort_by_key(|(content, _)| std::cmp::Reverse(content.len()));
        let raw = raw
            .iter()
            .map(|(id, token)| (token.content.clone(), (*id, token.lstrip, token.rstrip)))
            .collect();
        Ok(Added { raw: Matcher::new(raw)?, normalised: Matcher::new(patterns)?, at_start })
    }

    /// Calls `part` with the parts of a text in order.
    pub(super) fn each(&self, text: &str, mut part: impl FnMut(Part)) {
        let whole = 0..text.len();
        match &self.raw {
            None => self.each_normalised(text, whole, &mut part),
            Some(matcher) => matcher.each(text, whole, |found, range| match found {
                Some(id) => part(Part::Token(id, range)),
                None => self.each_normalised(text, range, &mut part),
            }),
        }
    }

    fn each_normalised(&self, text: &str, range: Range<usize>, part: &mut impl FnMut(Part)) {
        if range.is_empty() {
            return;
        }
        let Some(matcher) = &self.normalised else {
            return part(Part::Text { range, fresh: true });
        };
        let mut fresh = true;
        let mut rest = range;
        let here = &text[rest.clone()];
        if let Some((content, id)) =
            self.at_start.iter().find(|(content, _)| here.starts_with(content))
        {
            part(Part::Token(*id, rest.start..rest.start + content.len()));
            rest.start += content.len();
            fresh = false;
        }
        let prefixed = !self.at_start.is_empty();
        matcher.each(text, rest, |found, range| match found {
            Some(id) => {
                if prefixed && fresh {
                    part(Part::Text { range: range.start..range.start, fresh: true });
                }
                fresh = false;
                part(Part::Token(id, range));
            }
            None => {
                part(Part::Text { range, fresh });
                fresh = false;
            }
        });
    }
}

impl Matcher {
    fn new(patterns: Vec<(String, (u32, bool, bool))>) -> Result<Option<Matcher>, String> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let contents = patterns.iter().map(|(content, _)| content);
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(contents)
            .map_err(|error| error.to_string())?;
        Ok(Some(Matcher {
            automaton,
            tokens: patterns.into_iter().map(|(_, token)| token).collect(),
        }))
    }

    /// Calls `part` with tokens, including the white space they strip, and with the non-empty texts
    /// between them.
    fn each(
        &self,
        text: &str,
        range: Range<usize>,
        mut part: impl FnMut(Option<u32>, Range<usize>),
    ) {
        let (base, text) = (range.start, &text[range]);
        let mut from = 0;
        for found in self.automaton.find_iter(text) {
            let (id, lstrip, rstrip) = self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            if lstrip {
                start = text[..start].trim_end().len().max(from);
            }
            if rstrip {
                end = text.len() - text[end..].trim_start().len();
            }
            if from < start {
                part(None, base + from..base + start);
            }
            part(Some(id), base + start..base + end);
            from = end;
        }
        if from < text.len() {
            part(None, base + from..base + text.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_strip_white_space_and_take_the_prefix_with_them() {
        let token = |content: &str| AddedToken::from(content, true);
        let parts = |tokens: &[(u32, AddedToken)], content, text: &str| {
            let mut parts = Vec::new();
            Added::new(tokens, content).expect("known tokens").each(text, |part| parts.push(part));
            parts
        };
        let stripped = parts(
            &[(1, token("<s>")), (2, token("<m>").lstrip(true).rstrip(true))],
            Content::Kept,
            "a <m>  <s>b",
        );
        let text = |range, fresh| Part::Text { range, fresh };
        assert_eq!(
            stripped,
            [text(0..1, true), Part::Token(2, 1..7), Part::Token(1, 7..10), text(10..11, true)]
        );
        let prefixed =
            parts(&[(1, token("<s>").normalized(true))], Content::Prefixed, "<s>a <s><s>");
        assert_eq!(
            prefixed,
            [Part::Token(1, 0..3), text(3..4, false), Part::Token(1, 4..8), text(8..11, false)]
        );
        let alone = parts(&[(1, token("<s>").normalized(true))], Content::Prefixed, " <s>");
        assert_eq!(alone, [text(0..0, true), Part::Token(1, 0..4)]);
    }
}
