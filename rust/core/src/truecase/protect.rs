//! The parts of a line that truecasing must not touch: links, addresses, inline code and maths.

use std::ops::Range;

/// Characters allowed before `www.`.
const OPENERS: [char; 8] = ['(', '[', '{', '<', '"', '\'', '“', '‘'];

/// The protected spans of a line, in order and without overlap. If one starts inside another, the
/// leftmost takes precedence.
pub(super) fn spans(line: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut offset = 0;
    while let Some(letter) = line[offset..].chars().next() {
        let rest = &line[offset..];
        let starts_word = line[..offset].chars().next_back().is_none_or(char::is_whitespace);
        let length = if starts_word { link(rest) } else { None };
        let length = length.or_else(|| match letter {
            '`' => inline_code(rest),
            '$' => maths(rest),
            _ => None,
        });
        if let Some(length) = length {
            spans.push(offset..offset + length);
        }
        offset += length.unwrap_or(letter.len_utf8());
    }
    spans
}

/// Whether one of these ascending spans contains the offset.
pub(super) fn covers(spans: &[Range<usize>], offset: usize) -> bool {
    let after = spans.partition_point(|span| span.start <= offset);
    after > 0 && spans[after - 1].end > offset
}

/// The length of the first word if it is a link or an address.
fn link(rest: &str) -> Option<usize> {
    let word = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
    let bare = word.trim_start_matches(OPENERS);
    let is_www = bare.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("www."));
    (is_www || word.contains("://") || word.contains('@')).then_some(word.len())
}

fn inline_code(rest: &str) -> Option<usize> {
    let close = rest[1..].find('`')?;
    (close > 0).then_some(close + 2)
}

fn maths(rest: &str) -> Option<usize> {
    let close = rest[1..].find('$')?;
    let inside = &rest[1..=close];
    let is_tight = !inside.is_empty()
        && !inside.starts_with(char::is_whitespace)
        && !inside.ends_with(char::is_whitespace);
    is_tight.then_some(close + 2)
}
