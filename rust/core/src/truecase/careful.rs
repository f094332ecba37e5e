//! The rule `careful`: it changes only messages that lack capitals, and only their prose.
//!
//! 1. A sentence begins at the first letter of a message, after `.`, `!` or `?` and white space,
//!    and at a paragraph that ends like one. Abbreviations, initials, list numbers, ellipses and
//!    the mark itself, as in `(.)`, do not end a sentence. Names such as `iPhone` or `foo.py` keep their case.
//! 2. A message lacks capitals if at least half of these letters are small: its first one, and
//!    those after a dot. If it does not, nothing changes.
//! 3. Otherwise, every sentence starts with a capital. So does the pronoun `i` if the message is
//!    English and has no variable `i`.
//! 4. Lines of code, markup, maths, verse and CSV, first letters of list items, links, addresses
//!    and inline code are ignored throughout.

use super::prose::{self, CLOSERS, Kind};
use super::{pronoun, protect, scan};

/// Marks that may be between white space and the first letter of a sentence.
const OPENERS: [char; 4] = ['"', '\'', '“', '‘'];
/// Marks that may be before an abbreviation.
const LEADING: [char; 6] = ['"', '\'', '(', '[', '“', '‘'];
/// Trailing punctuation, ignored when classifying a word.
const TRAILING: [char; 13] = ['.', ',', ';', ':', '!', '?', ')', ']', '}', '"', '\'', '”', '’'];
/// Words whose final dot does not end a sentence.
const ABBREVIATIONS: [&str; 28] = [
    "e.g.", "i.e.", "etc.", "vs.", "approx.", "a.m.", "p.m.", "mr.", "mrs.", "ms.", "dr.", "prof.",
    "st.", "jr.", "sr.", "cf.", "al.", "inc.", "ltd.", "co.", "corp.", "dept.", "est.", "ed.",
    "eds.", "ca.", "u.s.", "u.k.",
];

/// The first letter of a sentence.
struct Start {
    offset: usize,
    is_small: bool,
    /// Whether it counts when checking if the message lacks capitals. After `!` and `?`, and at the
    /// start of paragraphs, a small letter may be right.
    tells: bool,
}

/// Ascending offsets of the small letters to change.
pub(super) fn offsets(text: &str) -> Vec<usize> {
    if may_lack_capitals(text) { judged(text) } else { Vec::new() }
}

/// The rule itself.
pub(super) fn judged(text: &str) -> Vec<usize> {
    let lines = prose::lines(text);
    let starts = starts(&lines);
    let telling = starts.iter().filter(|start| start.tells).count();
    let small = starts.iter().filter(|start| start.tells && start.is_small).count();
    if small == 0 || 2 * small < telling {
        return Vec::new();
    }
    let mut offsets: Vec<usize> =
        starts.iter().filter(|start| start.is_small).map(|start| start.offset).collect();
    if pronoun::is_used(text) {
        for (line, _) in lines.iter().filter(|(_, kind)| is_prose(*kind)) {
            let spans = protect::spans(line.text);
            let pronouns = pronoun::offsets(line.text);
            let unprotected = pronouns.filter(|offset| !protect::covers(&spans, *offset));
            offsets.extend(unprotected.map(|offset| line.start + offset));
        }
        offsets.sort_unstable();
        offsets.dedup();
    }
    offsets
}

/// Whether the message may lack capitals: any of the counted letters may be small. This is false
/// for most messages, and much faster than the full rule.
fn may_lack_capitals(text: &str) -> bool {
    let begins_small =
        |rest: &str| rest.trim_start().trim_start_matches(OPENERS).starts_with(char::is_lowercase);
    let mut found = begins_small(text);
    scan::each(text.as_bytes(), scan::is_dot_before_small, |offset| {
        if !found && text.as_bytes()[offset] == b'.' {
            let closed = text[offset + 1..].trim_start_matches(CLOSERS);
            found = closed.starts_with([' ', '\t']) && begins_small(closed);
        }
    });
    found
}

fn is_prose(kind: Kind) -> bool {
    matches!(kind, Kind::Prose | Kind::Item)
}

/// The first letters of all sentences, in order.
fn starts(lines: &[(crate::code::Line<'_>, Kind)]) -> Vec<Start> {
    let mut starts = Vec::new();
    let (mut before, mut is_after_blank) = (None, false);
    for (line, kind) in lines {
        if *kind == Kind::Blank {
            is_after_blank = before.is_some();
            continue;
        }
        if is_prose(*kind) {
            let spans = protect::spans(line.text);
            let opens = before.is_none_or(ends_sentence)
                || (is_after_blank && prose::ends_paragraph(line.text));
            let opening = (opens && *kind == Kind::Prose).then_some((0, before.is_none()));
            let ends = opening.into_iter().chain(ends(line.text));
            starts.extend(ends.filter_map(|(end, tells)| {
                let (offset, is_small) = start(line.text, end)?;
                let is_free = !protect::covers(&spans, offset);
                is_free.then_some(Start { offset: line.start + offset, is_small, tells })
            }));
        }
        (before, is_after_blank) = (Some(line.text), false);
    }
    starts
}

/// Offsets after the sentences that end within a line, and whether each ends with a dot.
fn ends(line: &str) -> impl Iterator<Item = (usize, bool)> + '_ {
    memchr::memchr3_iter(b'.', b'!', b'?', line.as_bytes()).filter_map(|offset| {
        let is_dot = line.as_bytes()[offset] == b'.';
        let rest = &line[offset + 1..];
        let rest = if is_dot { rest.trim_start_matches(CLOSERS) } else { rest };
        let ends = rest.starts_with([' ', '\t']) && !(is_dot && dot_is_no_end(&line[..offset]));
        ends.then_some((line.len() - rest.len(), is_dot))
    })
}

/// Whether a line ends with the end of a sentence.
fn ends_sentence(line: &str) -> bool {
    let line = prose::visible(line).trim_end_matches(CLOSERS);
    line.ends_with(['!', '?']) || line.strip_suffix('.').is_some_and(|line| !dot_is_no_end(line))
}

/// The first letter of the sentence that begins at `from`, and whether it is small. `None` if
/// it has no letters, or if its word is a name.
fn start(line: &str, from: usize) -> Option<(usize, bool)> {
    let rest = line[from..].trim_start().trim_start_matches(OPENERS);
    let letter = rest.chars().next()?;
    let word = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
    let is_small = letter.is_lowercase();
    let is_start = letter.is_uppercase() || (is_small && !is_name(word));
    is_start.then_some((line.len() - rest.len(), is_small))
}

/// Whether the dot after `before` belongs to an ellipsis, an abbreviation, an initial or a list
/// number, or is the mark itself, as in `(.)`.
fn dot_is_no_end(before: &str) -> bool {
    if before.ends_with(['.', '…']) {
        return true;
    }
    let start = before
        .rfind(char::is_whitespace)
        .map_or(0, |space| space + before[space..].chars().next().map_or(1, char::len_utf8));
    let stem = before[start..].trim_start_matches(LEADING);
    let is_mark = stem.is_empty() && before.ends_with(LEADING);
    let mut letters = stem.chars();
    let is_initial = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
    let is_number = matches!(stem.len(), 1 | 2) && stem.bytes().all(|byte| byte.is_ascii_digit());
    is_mark
        || is_initial
        || is_number
        || ABBREVIATIONS.iter().any(|known| {
            known.strip_suffix('.').is_some_and(|known| known.eq_ignore_ascii_case(stem))
        })
}

/// Whether a word is deliberately lowercase: `iPhone`, `eBay`, `foo.py`, `v2`, `and/or`, `x=1`.
fn is_name(word: &str) -> bool {
    let word = word.trim_end_matches(TRAILING);
    let mut previous = ' ';
    let mut letters = word.chars().peekable();
    let mut first = true;
    while let Some(letter) = letters.next() {
        let dotted = letter == '.'
            && previous.is_alphanumeric()
            && letters.peek().is_some_and(|next| next.is_alphanumeric());
        let odd = letter.is_numeric()
            || matches!(letter, '_' | '/' | '\\' | '=' | '@')
            || (!first && letter.is_uppercase());
        if dotted || odd {
            return true;
        }
        (previous, first) = (letter, false);
    }
    false
}
