//! Which lines of a text are prose: not code, and not lines of verse, CSV or a bare list, which end
//! in the middle of a sentence.

use crate::code::{self, Line};

/// Marks that may be between a terminator and the white space after it.
pub(super) const CLOSERS: [char; 6] = ['"', '\'', ')', ']', '”', '’'];
/// Characters that start list items.
const BULLETS: [char; 9] = ['-', '*', '+', '•', '–', '—', '·', '◦', '▪'];

/// How a line takes part in truecasing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only white space.
    Blank,
    /// Prose.
    Prose,
    /// An item of a list. Its first letter stays, but its sentences are prose.
    Item,
    /// Code, verse, CSV or the like.
    Other,
}

/// Every line of a text with its kind.
pub(super) fn lines(text: &str) -> Vec<(Line<'_>, Kind)> {
    let mut lines: Vec<_> = code::lines(text)
        .into_iter()
        .map(|line| {
            let kind = match line {
                Line { is_code: true, .. } => Kind::Other,
                Line { text, .. } if text.trim().is_empty() => Kind::Blank,
                Line { text, .. } if is_item(text) => Kind::Item,
                _ => Kind::Prose,
            };
            (line, kind)
        })
        .collect();
    for group in lines.chunk_by_mut(|(line, kind), (_, next)| {
        *kind == Kind::Prose && *next == Kind::Prose && !visible(line.text).ends_with(':')
    }) {
        if group[0].1 == Kind::Prose && is_verse(group) {
            group.iter_mut().for_each(|(_, kind)| *kind = Kind::Other);
        }
    }
    lines
}

/// Whether most lines of a group, except for the last, end in the middle of a sentence.
fn is_verse(group: &[(Line<'_>, Kind)]) -> bool {
    let inner = &group[..group.len() - 1];
    let broken = inner.iter().filter(|(line, _)| !ends_paragraph(line.text)).count();
    2 * broken > inner.len()
}

/// Whether a line could be the last one of a paragraph.
pub(super) fn ends_paragraph(line: &str) -> bool {
    visible(line).trim_end_matches(CLOSERS).ends_with(['.', '!', '?', '…', ':'])
}

/// A line without white space around it.
pub(super) fn visible(line: &str) -> &str {
    line.trim_matches([' ', '\t', '\r'])
}

/// Whether a line begins like an item of a list: `- `, `2. `, `(a) `, `iv) `.
fn is_item(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t']);
    let after = line.strip_prefix(BULLETS).or_else(|| {
        let label = line.strip_prefix('(').unwrap_or(line);
        let end = label.find(['.', ')'])?;
        is_label(&label[..end]).then(|| &label[end + 1..])
    });
    after.is_some_and(|after| after.is_empty() || after.starts_with([' ', '\t']))
}

/// Up to three digits, one ASCII letter, or up to five letters of a Roman number.
fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    match bytes.len() {
        0 => false,
        1 if bytes[0].is_ascii_alphabetic() => true,
        1..=3 if bytes.iter().all(u8::is_ascii_digit) => true,
        1..=5 => bytes.iter().all(|byte| b"ivxIVX".contains(byte)),
        _ => false,
    }
}
