//! Finds the lines of a text that are code, markup or maths. Truecasing does not change them, and
//! deduplication compares their case and indentation.
//!
//! A line of a fenced block is code. Outside of blocks, lines without an empty line between them
//! form a group, and a line that ends with a colon ends its group. All lines of a group are code if
//! one of them looks like it. The rule prefers to call prose code: prose then only keeps its case.
//!
//! An example:
//!
//! ```
//! # use zephyr_core::code::lines;
//! let text = "Here is the loop:\nfor i in a:\n    f(i)\ng\n\nIt calls `f(i)` for each item.";
//! let code: Vec<bool> = lines(text).iter().map(|line| line.is_code).collect();
//! // The first line ends its group. `g` is next to an indented line. Inline code does not count.
//! assert_eq!(code, [false, true, true, true, false, false]);
//! ```

use std::borrow::Cow;

use crate::words::FirstLetters;

/// Starts of lines of code: comments, prompts, decorators, tables and docstrings.
const STARTS: [&str; 12] =
    ["# ", "#!", "//", "/*", "*/", "-- ", "$ ", "@", "% ", "|", "\"\"\"", "'''"];
/// Words that form a complete statement by themselves.
const ALONE: [&str; 16] = [
    "begin", "break", "continue", "do", "done", "else", "end", "endif", "esac", "fi", "finally",
    "loop", "pass", "return", "then", "try",
];
/// First words of short statements. They begin sentences too, so only lines of few words count.
const STATEMENTS: [&str; 24] = [
    "class", "const", "def", "echo", "export", "fn", "from", "func", "function", "import",
    "include", "int", "let", "mkdir", "package", "private", "public", "return", "static", "sudo",
    "use", "using", "var", "void",
];
const STATEMENT_WORDS_MAX: usize = 4;
/// First words of lines that end with a colon and open a block.
const OPENERS: [&str; 10] =
    ["case", "class", "def", "elif", "except", "for", "if", "switch", "while", "with"];
/// First words of queries, in capitals.
const QUERIES: [&str; 7] = ["CREATE", "DELETE", "FROM", "INSERT", "SELECT", "UPDATE", "WHERE"];
const FIRST_LETTERS: FirstLetters =
    FirstLetters::of(&ALONE).and(&STATEMENTS).and(&OPENERS).and(&QUERIES);

/// A line of a text, without its line end.
#[derive(Debug, Clone, Copy)]
pub struct Line<'text> {
    /// Its offset in the text.
    pub start: usize,
    /// Its text.
    pub text: &'text str,
    /// Whether it is code.
    pub is_code: bool,
}

/// Whether any line of a text is code. This is much faster than [`lines`] if no line is.
#[must_use]
pub fn is_in(text: &str) -> bool {
    let is_marked = has_mark(text.as_bytes());
    split(text).any(|line| is_fence(line) || looks_like_code(line, is_marked))
}

/// Returns every line of a text, marked as code or not.
#[must_use]
pub fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    let (mut start, mut group, mut group_is_code, mut is_fenced) = (0, 0, false, false);
    let is_marked = has_mark(text.as_bytes());
    for text in split(text) {
        let closes = is_fence(text);
        let mut line = Line { start, text, is_code: is_fenced || closes };
        start += text.len() + 1;
        if line.is_code {
            is_fenced = is_fenced != closes;
        } else if !text.trim().is_empty() {
            if !group_is_code && looks_like_code(text, is_marked) {
                group_is_code = true;
                lines[group..].iter_mut().for_each(|line| line.is_code = true);
            }
            line.is_code = group_is_code;
            lines.push(line);
            if visible(text).ends_with(':') {
                (group, group_is_code) = (lines.len(), false);
            }
            continue;
        }
        lines.push(line);
        (group, group_is_code) = (lines.len(), false);
    }
    lines
}

/// The lines of a text, at least one.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain([text.len()]);
    ends.scan(0, |start, end| Some(&text[std::mem::replace(start, end + 1)..end]))
}

fn is_fence(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t']);
    line.starts_with("```") || line.starts_with("~~~")
}

/// A line without white space around it.
fn visible(line: &str) -> &str {
    line.trim_matches([' ', '\t', '\r'])
}

/// Whether one line, by itself, is code, markup or maths. Few texts have a mark, so each line is
/// searched for one only if its text `is_marked`.
fn looks_like_code(line: &str, is_marked: bool) -> bool {
    if line.starts_with("    ") || line.starts_with('\t') {
        return true;
    }
    // Quoted parts of a line matter only if it contains a mark of code or of a quotation.
    if !is_marked || !has_mark(line.as_bytes()) {
        return reads_like_code(visible(line));
    }
    let unquoted = unquoted(line);
    let text = visible(&unquoted);
    text.contains(['=', '<', '>', '{', '}', '\\'])
        || text.matches('|').nth(1).is_some()
        || has_call(text)
        || reads_like_code(text)
}

/// Whether a line has a byte that only lines with code, links or quoted code have, or a word with a
/// parenthesis directly after it.
fn has_mark(line: &[u8]) -> bool {
    const BLOCK: usize = 32;
    let is_mark = |byte: u8, next: u8| {
        matches!(byte, b'<'..=b'>' | b'{'..=b'}' | b'\\' | b'`')
            || next == b'(' && !matches!(byte, b' ' | b'\t' | b'(' | b'"' | b'\'')
            || byte == b':' && next == b'/'
    };
    // The same with few comparisons, for every parenthesis and slash.
    let may_be = |byte: u8, next: u8| {
        (byte.wrapping_sub(b'<') < 3)
            | (byte.wrapping_sub(b'{') < 3)
            | (byte == b'\\')
            | (byte == b'`')
            | (next == b'(')
            | (next == b'/')
    };
    let mut start = 0;
    while let Some(window) = line[start..].first_chunk::<{ BLOCK + 1 }>() {
        let mut found = false;
        for offset in 0..BLOCK {
            found |= may_be(window[offset], window[offset + 1]);
        }
        if found && window.windows(2).any(|pair| is_mark(pair[0], pair[1])) {
            return true;
        }
        start += BLOCK;
    }
    let rest = &line[start..];
    let nexts = rest.iter().skip(1).chain([&b' ']);
    rest.iter().zip(nexts).any(|(byte, next)| is_mark(*byte, *next))
}

/// Whether the first words of a line, or its end, are those of code.
fn reads_like_code(text: &str) -> bool {
    let has_letter = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if text.ends_with(';') || !has_letter && STARTS.iter().any(|start| text.starts_with(start)) {
        return true;
    }
    let words = text.trim_start();
    let end = words.find(char::is_whitespace).unwrap_or(words.len());
    let first = words[..end].trim_end_matches([':', ';']);
    // Few lines begin with such a word.
    if !first.bytes().next().is_some_and(|letter| FIRST_LETTERS.have(letter, first.len())) {
        return false;
    }
    let rest = words[end..].split_whitespace().take(STATEMENT_WORDS_MAX).count();
    let is_short = rest < STATEMENT_WORDS_MAX && !text.ends_with(['.', '!', '?']);
    (rest == 0 && ALONE.contains(&first))
        || (is_short && STATEMENTS.contains(&first))
        || (text.ends_with(':') && OPENERS.contains(&first))
        || QUERIES.contains(&first)
}

/// Whether a word has a parenthesis directly after it, except for a plural: `f(x)`, but not
/// `word(s)`.
fn has_call(text: &str) -> bool {
    text.match_indices('(').any(|(offset, _)| {
        let after = &text[offset + 1..];
        text[..offset].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            && !["s)", "es)", "ies)"].iter().any(|plural| after.starts_with(plural))
    })
}

/// The line without inline code and links.
fn unquoted(line: &str) -> Cow<'_, str> {
    if !line.contains('`') && !line.contains("://") {
        return Cow::Borrowed(line);
    }
    let mut kept = String::with_capacity(line.len());
    let mut offset = 0;
    while let Some(letter) = line[offset..].chars().next() {
        let rest = &line[offset..];
        let starts_word = line[..offset].chars().next_back().is_none_or(char::is_whitespace);
        let code = rest
            .strip_prefix('`')
            .and_then(|rest| rest.find('`'))
            .filter(|close| *close > 0)
            .map(|close| close + 2);
        let link = || {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            rest[..end].contains("://").then_some(end)
        };
        match code.or_else(|| if starts_word { link() } else { None }) {
            Some(length) => offset += length,
            None => {
                kept.push(letter);
                offset += letter.len_utf8();
            }
        }
    }
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte at a time, as the doc of `has_mark` says.
    fn slow_mark(line: &[u8]) -> bool {
        let calls = |word: u8| !b" \t(\"'".contains(&word);
        line.iter().any(|byte| b"=<>{}\\|`".contains(byte))
            || line.windows(2).any(|pair| calls(pair[0]) && pair[1] == b'(' || pair == b":/")
    }

    #[test]
    fn marks_are_found_at_every_place_of_a_line() {
        for byte in 0..=u8::MAX {
            for next in [b' ', b'(', b'/', b'a'] {
                for before in 0..70 {
                    let mut line = [b'a'; 70];
                    line[before] = byte;
                    if let Some(place) = line.get_mut(before + 1) {
                        *place = next;
                    }
                    for line in [&line[..], &line[..=before], &line[before..]] {
                        assert_eq!(has_mark(line), slow_mark(line), "{line:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_listed_word_is_found() {
        for word in ALONE {
            assert!(reads_like_code(word) && !reads_like_code(&format!("{word}s")), "{word}");
        }
        for word in STATEMENTS {
            assert!(reads_like_code(&format!("\u{a0}{word}: a b c")), "{word}");
            assert!(!reads_like_code(&format!("{word} a b c d")), "{word}");
            assert!(!reads_like_code(&format!("{word} a b.")), "{word}");
        }
        for word in OPENERS {
            assert!(reads_like_code(&format!("{word} a b c d e:")), "{word}");
        }
        for word in QUERIES {
            assert!(reads_like_code(&format!("{word} a b c d e.")), "{word}");
            assert!(!reads_like_code(&format!("{} a b c d e.", word.to_lowercase())), "{word}");
        }
    }
}
