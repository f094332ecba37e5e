//! Reference implementation of truecase-v1: one pass after another over the text. The fast one must
//! change the same letters.

mod protect;

use std::ops::Range;

/// Marks that may be between a terminator and the white space after it.
const CLOSERS: [char; 6] = ['"', '\'', ')', ']', '”', '’'];
/// Marks that may be between white space and the first letter of a sentence.
const OPENERS: [char; 6] = ['"', '\'', '(', '[', '“', '‘'];
/// Trailing punctuation, ignored when classifying a word.
const TRAILING: [char; 12] = ['.', ',', ';', ':', '!', '?', ')', ']', '}', '"', '\'', '”'];
/// Words whose final dot does not end a sentence.
const ABBREVIATIONS: [&str; 34] = [
    "e.g.", "i.e.", "etc.", "vs.", "approx.", "no.", "fig.", "a.m.", "p.m.", "mr.", "mrs.", "ms.",
    "dr.", "prof.", "st.", "jr.", "sr.", "cf.", "al.", "inc.", "ltd.", "co.", "corp.", "dept.",
    "est.", "eq.", "sec.", "vol.", "pp.", "ed.", "eds.", "ca.", "u.s.", "u.k.",
];

/// Returns the truecased text and the number of changed letters, or `None` if no letter changed.
pub fn truecase(text: &str) -> Option<(String, u32)> {
    let mut candidates = sentence_starts(text);
    candidates.extend(pronouns(text));
    if candidates.is_empty() {
        return None;
    }
    candidates.sort_unstable();
    candidates.dedup();
    let protected = protect::spans(text);
    candidates.retain(|place| !covers(&protected, *place));
    capitalised(text, &candidates)
}

fn covers(spans: &[Range<usize>], place: usize) -> bool {
    let after = spans.partition_point(|span| span.start <= place);
    after > 0 && spans[after - 1].end > place
}

/// Returns the text with the letters at these offsets in upper case.
fn capitalised(text: &str, places: &[usize]) -> Option<(String, u32)> {
    let mut edited = String::with_capacity(text.len() + 4);
    let (mut copied, mut letters_changed) = (0, 0);
    for &place in places {
        let letter = text[place..].chars().next()?;
        if let Some(capital) = upper(letter) {
            edited.push_str(&text[copied..place]);
            edited.push(capital);
            copied = place + letter.len_utf8();
            letters_changed += 1;
        }
    }
    edited.push_str(&text[copied..]);
    (letters_changed > 0).then_some((edited, letters_changed))
}

/// The capital of a lowercase letter that has exactly one (`ß` has no single one).
fn upper(letter: char) -> Option<char> {
    let mut capitals = letter.to_uppercase();
    match (letter.is_lowercase(), capitals.next(), capitals.next()) {
        (true, Some(capital), None) if capital != letter => Some(capital),
        _ => None,
    }
}

/// Offsets of lowercase letters that start a sentence and that no guard protects.
fn sentence_starts(text: &str) -> Vec<usize> {
    let mut places = Vec::new();
    let mut consider = |from: usize| {
        let place = first_visible(text, from);
        if text[place..].chars().next().is_some_and(char::is_lowercase)
            && !is_name(word_at(text, place))
        {
            places.push(place);
        }
    };
    consider(0);
    for (place, mark) in text.match_indices(['.', '!', '?', '\n']) {
        let after = place + 1;
        if mark == "\n" {
            let rest = text[after..].trim_start_matches([' ', '\t', '\r']);
            if rest.starts_with('\n') {
                consider(text.len() - rest.len());
            }
        } else {
            let closed = text[after..].trim_start_matches(CLOSERS);
            if closed.starts_with(char::is_whitespace)
                && !(mark == "." && dot_is_no_end(text, place))
            {
                consider(text.len() - closed.len());
            }
        }
    }
    places
}

/// The first offset with a character that is neither white space nor opening punctuation after it.
fn first_visible(text: &str, from: usize) -> usize {
    text.len() - text[from..].trim_start().trim_start_matches(OPENERS).len()
}

/// Whether the dot at `place` belongs to an ellipsis, an abbreviation, an initial or a list number.
fn dot_is_no_end(text: &str, place: usize) -> bool {
    let before = &text[..place];
    if before.ends_with(['.', '…']) {
        return true;
    }
    let start = before
        .rfind(char::is_whitespace)
        .map_or(0, |space| space + before[space..].chars().next().map_or(1, char::len_utf8));
    let word = text[start..=place].trim_start_matches(OPENERS);
    let stem = &word[..word.len() - 1];
    let mut letters = stem.chars();
    let is_initial = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
    let is_number = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
    is_initial
        || is_number
        || ABBREVIATIONS.iter().any(|abbreviation| abbreviation.eq_ignore_ascii_case(word))
}

/// The run of visible characters that begins at `place`.
fn word_at(text: &str, place: usize) -> &str {
    let rest = &text[place..];
    &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())]
}

/// Whether a word is deliberately lowercase: `iPhone`, `eBay`, `foo.py`, `v2`, `and/or`, `x=1`.
fn is_name(word: &str) -> bool {
    let word = word.trim_end_matches(TRAILING).trim_end_matches('’');
    let mut previous = ' ';
    let mut letters = word.chars().peekable();
    let mut first = true;
    while let Some(letter) = letters.next() {
        let dotted = letter == '.'
            && previous.is_alphanumeric()
            && letters.peek().is_some_and(|next| next.is_alphanumeric());
        let odd = letter.is_numeric()
            || matches!(letter, '_' | '/' | '\\' | '=')
            || (!first && letter.is_uppercase());
        if dotted || odd {
            return true;
        }
        (previous, first) = (letter, false);
    }
    false
}

/// Offsets of the pronoun `i`.
fn pronouns(text: &str) -> impl Iterator<Item = usize> + '_ {
    memchr::memchr_iter(b'i', text.as_bytes()).filter(|place| is_pronoun(text, *place))
}

fn is_pronoun(text: &str, place: usize) -> bool {
    const JOINERS: [char; 9] = ['.', '-', '/', '\\', '&', '@', '+', '=', '*'];
    let joins = |mark: char| mark.is_alphanumeric() || mark == '_' || JOINERS.contains(&mark);
    if text[..place]
        .chars()
        .next_back()
        .is_some_and(|before| joins(before) || before == '\'' || before == '’')
    {
        return false;
    }
    let mut after = text[place + 1..].chars();
    match after.next() {
        None => true,
        Some('.') => after.next().is_none_or(char::is_whitespace),
        Some('\'' | '’') => contracts(after.as_str()),
        Some(')') => false,
        Some(mark) => !joins(mark),
    }
}

/// Whether the text after `i'` makes it a pronoun: i'm, i've, i'd, i'll.
fn contracts(rest: &str) -> bool {
    ["m", "ve", "d", "ll"].iter().any(|end| {
        rest.strip_prefix(end)
            .is_some_and(|after| after.chars().next().is_none_or(|mark| !mark.is_alphanumeric()))
    })
}
