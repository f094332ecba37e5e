//! The English pronoun `i`, as opposed to a variable, a Roman number or a word of another language.

/// Marks directly before the pronoun.
const BEFORE: [char; 4] = ['"', '\'', '“', '‘'];
/// Marks between a variable and its neighbours, with or without spaces.
const OPERATORS: [char; 13] = ['+', '*', '/', '^', '=', '<', '>', '[', ']', '_', '{', '}', '\\'];
/// Words that a text with the English pronoun nearly always has one of.
const ENGLISH: [&str; 40] = [
    "about", "am", "and", "are", "because", "but", "can", "for", "has", "have", "he", "how", "if",
    "is", "it", "just", "know", "like", "me", "my", "need", "not", "of", "she", "that", "the",
    "there", "they", "think", "this", "want", "was", "we", "were", "what", "will", "with", "would",
    "you", "your",
];

/// Whether the word `i` in a text is the pronoun: the text is English and has no variable `i` or
/// `j`.
pub(super) fn is_used(text: &str) -> bool {
    words(text).any(|(_, word)| ENGLISH.iter().any(|known| known.eq_ignore_ascii_case(word)))
        && !words(text).any(|(start, word)| is_variable(text, start, word))
}

/// The words of a text: runs of letters and digits, with their offsets.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr().addr() - text.as_ptr().addr(), word))
}

fn is_variable(text: &str, start: usize, word: &str) -> bool {
    let (before, after) = (&text[..start], &text[start + word.len()..]);
    let alone = !before.ends_with('_') && !after.starts_with('_');
    match word {
        "i" => {
            before.trim_end_matches(' ').ends_with(OPERATORS)
                || after.trim_start_matches(' ').starts_with(OPERATORS)
        }
        "j" => alone,
        _ => false,
    }
}

/// Offsets in a line of each `i` that is a word by itself or begins a contraction.
pub(super) fn offsets(line: &str) -> impl Iterator<Item = usize> + '_ {
    memchr::memchr_iter(b'i', line.as_bytes())
        .filter(|offset| starts_alone(&line[..*offset]) && ends_alone(&line[offset + 1..]))
}

fn starts_alone(before: &str) -> bool {
    let is_start = |before: &str| before.is_empty() || before.ends_with([' ', '\t', '\r']);
    is_start(before) || before.strip_suffix(BEFORE).is_some_and(is_start)
}

fn ends_alone(after: &str) -> bool {
    if let Some(rest) = after.strip_prefix(['\'', '’']) {
        return contracts(rest) || ends_word(after);
    }
    ends_word(after)
}

/// Whether only punctuation and closing quotes follow before white space.
fn ends_word(after: &str) -> bool {
    let after = after.trim_start_matches([',', ';', ':', '!', '?', '.']);
    let is_end = |after: &str| after.is_empty() || after.starts_with([' ', '\t', '\r']);
    is_end(after) || after.strip_prefix(['"', '”', '\'']).is_some_and(is_end)
}

/// Whether the text after `i'` makes it a pronoun: i'm, i've, i'd, i'll.
fn contracts(rest: &str) -> bool {
    ["m", "ve", "d", "ll"].iter().any(|end| {
        rest.strip_prefix(end)
            .is_some_and(|after| after.chars().next().is_none_or(|mark| !mark.is_alphanumeric()))
    })
}
