//! truecase-v1: capitalizes the start of sentences and the pronoun `i`. Code, links, math and names
//! are left unchanged.
//!
//! The UltraChat authors' heuristics were never published. These rules follow their description in
//! the paper (arXiv 2310.16944 §4.1). They depend only on the original text, so the order of the
//! edits does not matter.

mod protect;
mod scan;

use std::ops::Range;

use crate::dialogue::Dialogue;
use crate::stage::{Notes, Reason, Stage};

/// The version of these rules. Every manifest contains it, and it increases when any letter would
/// change.
pub const VERSION: u32 = 2;

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

/// The truecasing stage. It changes every message of a dialogue, including prompts, and every
/// completion.
#[derive(Debug)]
pub struct Truecase;

impl Stage for Truecase {
    fn visit(&self, dialogue: &mut Dialogue, notes: &mut Notes) -> Result<(), Reason> {
        for text in dialogue.texts_mut() {
            if let Some((capitalized, letters_changed)) = truecase(text) {
                *text = capitalized;
                notes.letters_changed += letters_changed;
            }
        }
        Ok(())
    }
}

/// Returns the truecased text and the number of changed letters, or `None` if no letter changed.
#[must_use]
pub fn truecase(text: &str) -> Option<(String, u32)> {
    let mut candidates = candidates(text);
    let last = candidates.iter().copied().max()?;
    candidates.sort_unstable();
    candidates.dedup();
    let protected = protect::spans(text, last);
    candidates.retain(|offset| !covers(&protected, *offset));
    capitalised(text, &candidates)
}

fn covers(spans: &[Range<usize>], offset: usize) -> bool {
    let after = spans.partition_point(|span| span.start <= offset);
    after > 0 && spans[after - 1].end > offset
}

/// Returns the text with the letters at these offsets in upper case.
fn capitalised(text: &str, offsets: &[usize]) -> Option<(String, u32)> {
    let mut edited = String::with_capacity(text.len() + 4);
    let (mut copied, mut letters_changed) = (0, 0);
    for &offset in offsets {
        let letter = text[offset..].chars().next()?;
        if let Some(capital) = upper(letter) {
            edited.push_str(&text[copied..offset]);
            edited.push(capital);
            copied = offset + letter.len_utf8();
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

/// Offsets of lowercase letters that start a sentence or are the pronoun `i`, and that no guard
/// protects. They are unordered.
fn candidates(text: &str) -> Vec<usize> {
    let mut starts = Starts { text, offsets: Vec::new(), judged: 0..0 };
    starts.judge(0);
    let mut pronouns = Vec::new();
    scan::each_place(text, |offset| match text.as_bytes()[offset] {
        b'.' | b'!' | b'?' => starts.behind_terminator(offset),
        b'\n' => starts.behind_line(offset),
        b'i' if is_pronoun(text, offset) => pronouns.push(offset),
        _ => {}
    });
    starts.offsets.append(&mut pronouns);
    starts.offsets
}

/// The search for small letters that begin a sentence.
struct Starts<'text> {
    text: &'text str,
    offsets: Vec<usize>,
    /// From the start of the last search to the letter it found. A search that starts in this range
    /// finds the same letter, so a megabyte of empty lines is scanned only once.
    judged: Range<usize>,
}

impl Starts<'_> {
    /// After `.`, `!` or `?`, possibly with closing marks, if white space follows.
    fn behind_terminator(&mut self, offset: usize) {
        let (text, after) = (self.text, offset + 1);
        match text.as_bytes()[after..] {
            [] => return,
            [next, ..] if scan::is_word(next) => return,
            [b' ', second, ..] if scan::is_capital(second) => return,
            _ => {}
        }
        let closed = text[after..].trim_start_matches(CLOSERS);
        if closed.starts_with(char::is_whitespace)
            && !(text.as_bytes()[offset] == b'.' && dot_is_no_end(text, offset))
        {
            self.judge(text.len() - closed.len());
        }
    }

    /// After a line that an empty line follows.
    fn behind_line(&mut self, offset: usize) {
        let rest = self.text[offset + 1..].trim_start_matches([' ', '\t', '\r']);
        if rest.starts_with('\n') {
            self.judge(self.text.len() - rest.len());
        }
    }

    /// Adds the first visible letter from this offset on if it is lowercase and its word is not a
    /// name.
    fn judge(&mut self, from: usize) {
        if self.judged.contains(&from) {
            return;
        }
        let offset = first_visible(self.text, from);
        self.judged = from..offset;
        if self.text[offset..].chars().next().is_some_and(char::is_lowercase)
            && !is_name(word_at(self.text, offset))
        {
            self.offsets.push(offset);
        }
    }
}

/// The first offset with a character that is neither white space nor opening punctuation after it.
fn first_visible(text: &str, from: usize) -> usize {
    text.len() - text[from..].trim_start().trim_start_matches(OPENERS).len()
}

/// Whether the dot at `offset` belongs to an ellipsis, an abbreviation, an initial or a list number.
fn dot_is_no_end(text: &str, offset: usize) -> bool {
    let before = &text[..offset];
    if before.ends_with(['.', '…']) {
        return true;
    }
    let start = before
        .rfind(char::is_whitespace)
        .map_or(0, |space| space + before[space..].chars().next().map_or(1, char::len_utf8));
    let word = text[start..=offset].trim_start_matches(OPENERS);
    let stem = &word[..word.len() - 1];
    let mut letters = stem.chars();
    let is_initial = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
    let is_number = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
    is_initial
        || is_number
        || ABBREVIATIONS.iter().any(|abbreviation| abbreviation.eq_ignore_ascii_case(word))
}

/// The run of visible characters that begins at `offset`.
fn word_at(text: &str, offset: usize) -> &str {
    let rest = &text[offset..];
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

/// Whether the `i` at `offset` is the pronoun.
fn is_pronoun(text: &str, offset: usize) -> bool {
    let bytes = text.as_bytes();
    if (offset > 0 && scan::is_word(bytes[offset - 1]))
        || bytes.get(offset + 1).is_some_and(|next| scan::is_word(*next))
    {
        return false;
    }
    const JOINERS: [char; 9] = ['.', '-', '/', '\\', '&', '@', '+', '=', '*'];
    let joins = |mark: char| mark.is_alphanumeric() || mark == '_' || JOINERS.contains(&mark);
    if text[..offset]
        .chars()
        .next_back()
        .is_some_and(|before| joins(before) || before == '\'' || before == '’')
    {
        return false;
    }
    let mut after = text[offset + 1..].chars();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::{Pair, Replies, Role, Turn};

    fn fixed(text: &str) -> String {
        truecase(text).map_or_else(|| text.to_owned(), |(text, _)| text)
    }

    #[test]
    fn sentences_and_the_pronoun_get_their_capitals() {
        for (raw, wanted) in [
            ("Hello. how are you?", "Hello. How are you?"),
            (
                "what? \"yes!\" he said. (so it is.) i'm glad",
                "What? \"Yes!\" He said. (So it is.) I'm glad",
            ),
            ("first\n\nsecond", "First\n\nSecond"),
            ("and i, too; so do i.", "And I, too; so do I."),
            ("élan vital. ça va", "Élan vital. Ça va"),
        ] {
            assert_eq!(fixed(raw), wanted);
        }
    }

    #[test]
    fn answers_get_their_capitals_as_turns_do() {
        let turns = vec![Turn::new(Role::User, "who am i?".to_owned())];
        let pair = Pair {
            chosen: "you. i guess".to_owned(),
            rejected: "No.".to_owned(),
            score_chosen: None,
            score_rejected: None,
        };
        let replies = Replies::Pair(pair);
        let mut dialogue = Dialogue { turns, replies, ..Dialogue::default() };
        let mut notes = Notes::default();
        assert_eq!(Truecase.visit(&mut dialogue, &mut notes), Ok(()));
        assert_eq!(dialogue.turns[0].text, "Who am I?");
        assert_eq!(dialogue.answers(), ["You. I guess", "No."]);
        assert_eq!(notes.letters_changed, 4);
    }

    #[test]
    fn names_code_links_and_abbreviations_stay() {
        for text in [
            "iPhone is a name. eBay too, foo.py and v2.",
            "See e.g. this, i.e. that, etc. and so on... or not.",
            "1. item\n2. item",
            "`i = 0. then` and https://a.b/i?i. ",
            "```\nfoo. bar\ni\n```",
            "$i. j$ is maths",
            "ß. ß",
        ] {
            assert_eq!(fixed(text), text);
        }
        assert_eq!(fixed("iPhone sells."), "iPhone sells.");
        assert_eq!(fixed("Ask. `x. y` i"), "Ask. `x. y` I");
    }

    #[test]
    fn a_second_pass_changes_nothing() {
        let once = fixed("so i went. then, (see a.) b. c\n\nand “i’ve” been");
        assert_eq!(fixed(&once), once);
    }
}
