//! What deduplication compares of a message: the text for exact duplicates, and tokens for near ones.
//!
//! Outside of code, case and white space do not matter. In code, case and indentation do, except in
//! lines with a sentence, such as comments. Signs count as words do: `2+2` is not `2-2`, and `-10.5`
//! is not `10.5`. A border between messages counts too, so the messages `a b` and `c` are not `a`
//! and `b c`.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::code::{self, Line};
use crate::normal::normalise_into;
use crate::words::{each_word, hash_run};

/// Precedes every message in the exact key. No UTF-8 text has this byte.
const BORDER: u8 = 0xFF;
/// The token between two messages.
const BORDER_TOKEN: u64 = 0x5851_F42D_4C95_7F2D;
/// So many words in a row make a sentence. Code rarely has more than four, as in `public static void
/// main`.
const SENTENCE_WORDS: usize = 5;
/// Seeds of the hashes of tokens that are not lowercase words.
const CASED: u64 = 1;
const INDENT: u64 = 2;
const SIGN: u64 = 3;

/// Signs of mathematics and code. In prose they count only before a number or a single letter.
fn is_sign(letter: char) -> bool {
    matches!(
        letter,
        '+' | '-'
            | '*'
            | '/'
            | '^'
            | '='
            | '<'
            | '>'
            | '~'
            | '%'
            | '&'
            | '|'
            | '±'
            | '×'
            | '÷'
            | '−'
            | '–'
            | '≤'
            | '≥'
            | '≠'
            | '≈'
    )
}

/// Appends a message to the text that is hashed for exact duplicates.
pub(super) fn append_text(text: &str, has_code: bool, key: &mut Vec<u8>) {
    key.push(BORDER);
    if !has_code {
        return normalise_into(text, key);
    }
    for line in lines(text) {
        if line.is_code {
            key.push(b'\n');
            key.extend_from_slice(line.text.trim_end().as_bytes());
            key.push(b'\n');
        } else {
            normalise_into(line.text, key);
        }
    }
}

/// The lines of a text. Those with a sentence are prose, also in code.
fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines = code::lines(text);
    lines.iter_mut().for_each(|line| line.is_code &= !has_sentence(line.text));
    lines
}

/// Whether five words follow each other with only white space between them.
fn has_sentence(line: &str) -> bool {
    let is_word = |word: &str| word.chars().all(char::is_alphabetic);
    let mut length = 0;
    line.split_whitespace().any(|word| {
        length = if is_word(word) { length + 1 } else { 0 };
        length == SENTENCE_WORDS
    })
}

/// The hashes of the words of messages, in order.
pub(super) fn words<'text>(texts: impl Iterator<Item = &'text str>) -> Vec<u64> {
    let mut hashes = Vec::new();
    texts.for_each(|text| each_word(text, |hash, _| hashes.push(hash)));
    hashes
}

/// The tokens of a dialogue: words, signs, indentations of code and borders between messages.
#[derive(Default)]
pub(super) struct Tokens {
    /// Their hashes, in order.
    pub(super) hashes: Vec<u64>,
    has_messages: bool,
}

impl Tokens {
    /// Adds a message.
    pub(super) fn add(&mut self, text: &str, has_code: bool) {
        if std::mem::replace(&mut self.has_messages, true) {
            self.hashes.push(BORDER_TOKEN);
        }
        if !has_code {
            return self.add_prose(text);
        }
        let lines = lines(text);
        for part in lines.chunk_by(|line, next| !line.is_code && !next.is_code) {
            let (first, last) = (part[0], part[part.len() - 1]);
            if first.is_code {
                self.add_code(first);
            } else {
                self.add_prose(&text[first.start..last.start + last.text.len()]);
            }
        }
    }

    fn add_prose(&mut self, text: &str) {
        let mut end = 0;
        each_word(text, |hash, word| {
            let is_operand = word.len() == 1 || text.as_bytes()[word.start].is_ascii_digit();
            if is_operand {
                let gap = end..word.start;
                self.hashes.extend(signs_before(text, gap).chars().map(hash_sign));
            }
            self.hashes.push(hash);
            end = word.end;
        });
    }

    fn add_code(&mut self, line: Line<'_>) {
        let text = line.text.trim_end();
        let indent = &text[..text.len() - text.trim_start().len()];
        if !indent.is_empty() {
            self.hashes.push(xxh3_64_with_seed(indent.as_bytes(), INDENT));
        }
        let mut end = indent.len();
        each_word(text, |hash, word| {
            self.add_signs(&text[end..word.start]);
            end = word.end;
            let word = &text[word];
            let hash =
                if has_capital(word) { xxh3_64_with_seed(word.as_bytes(), CASED) } else { hash };
            self.hashes.push(hash);
        });
        self.add_signs(&text[end..]);
    }

    fn add_signs(&mut self, gap: &str) {
        self.hashes
            .extend(gap.chars().filter(|sign| is_sign(*sign) || *sign == '!').map(hash_sign));
    }
}

fn has_capital(word: &str) -> bool {
    if word.is_ascii() {
        word.bytes().any(|byte| byte.is_ascii_uppercase())
    } else {
        word.to_lowercase() != word
    }
}

/// A minus is written in three ways.
fn hash_sign(sign: char) -> u64 {
    let sign = if matches!(sign, '−' | '–') { '-' } else { sign };
    hash_run(&[SIGN, u64::from(sign)])
}

/// The signs that belong to the number or letter after a gap between words. Bullets of lists and
/// asterisks of emphasis do not count.
fn signs_before(text: &str, gap: Range<usize>) -> &str {
    let between = &text[gap.clone()];
    if matches!(between, "" | " ") {
        return "";
    }
    let core = between.trim_end_matches([' ', '(']);
    let head = core.trim_end_matches(is_sign);
    let signs = &core[head.len()..];
    let is_apart = between[core.len()..].contains(' ');
    let before = head.trim_end_matches(' ');
    let starts_line = before.ends_with('\n') || (before.is_empty() && gap.start == 0);
    let is_bullet = is_apart && starts_line;
    let is_emphasis = !is_apart
        && signs.bytes().all(|sign| sign == b'*')
        && (starts_line || head.ends_with(char::is_whitespace));
    if is_bullet || is_emphasis { "" } else { signs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(texts: &[&str]) -> Vec<u64> {
        let mut tokens = Tokens::default();
        texts.iter().for_each(|text| tokens.add(text, code::is_in(text)));
        tokens.hashes
    }

    fn key(texts: &[&str]) -> Vec<u8> {
        let mut key = Vec::new();
        texts.iter().for_each(|text| append_text(text, code::is_in(text), &mut key));
        key
    }

    #[test]
    fn signs_count_before_numbers_and_single_letters() {
        for (one, other) in [
            ("2+2", "2-2"),
            ("2*2", "2 2"),
            ("-10.5", "10.5"),
            ("is (-3) so", "is (3) so"),
            ("x + y", "x - y"),
            ("2**3", "2 3"),
        ] {
            assert_ne!(tokens(&[one]), tokens(&[other]), "{one}, {other}");
        }
        for (one, other) in [
            ("well-known", "well known"),
            ("- 5 apples\n- a pear", "5 apples\na pear"),
            ("some **5 apples**", "some 5 apples"),
            ("yes - but", "yes, but"),
            ("2 − 2", "2-2"),
        ] {
            assert_eq!(tokens(&[one]), tokens(&[other]), "{one}, {other}");
        }
    }

    #[test]
    fn case_and_indentation_count_in_code_alone() {
        for (one, other) in [
            ("class Foo", "class foo"),
            ("for i in a:\n    f(i)\ng()", "for i in a:\n    f(i)\n    g()"),
            ("i++;", "i--;"),
        ] {
            assert_ne!(tokens(&[one]), tokens(&[other]), "{one}, {other}");
            assert_ne!(key(&[one]), key(&[other]), "{one}, {other}");
        }
        let (one, other) = ("The Class\n Foo", "the class foo ");
        assert_eq!(tokens(&[one]), tokens(&[other]));
        assert_eq!(key(&[one]), key(&[other]));
        let (one, other) = ("See HERE:\n    f(x)  \n\nAnd   so", "see here:\n    f(x)\n\nand so");
        assert_eq!(key(&[one]), key(&[other]));
    }

    #[test]
    fn sentences_are_prose_also_in_code() {
        for (one, other) in [
            ("# Add all of the numbers\nf(x)", "# add all of  the numbers\nf(x)"),
            (
                "In this task, Sort\\nwords by their own length only",
                "in this task, sort\\nwords by their own length only",
            ),
        ] {
            assert_eq!(tokens(&[one]), tokens(&[other]), "{one}, {other}");
            assert_eq!(key(&[one]), key(&[other]), "{one}, {other}");
        }
        assert_ne!(
            tokens(&["public static void Main(x)"]),
            tokens(&["public static void main(x)"])
        );
    }

    #[test]
    fn borders_of_messages_count() {
        assert_ne!(tokens(&["a b", "c"]), tokens(&["a", "b c"]));
        assert_ne!(key(&["a b", "c"]), key(&["a", "b c"]));
        assert_ne!(key(&["a", ""]), key(&["a"]));
    }
}
