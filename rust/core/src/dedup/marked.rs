//! The comparison of short rows by more than their words: signs, case and indentation of code.
//!
//! A copy in capitals or on one line has lost the case or the lines, so it is compared with a row
//! that has them by words and signs only.
//!
//! A row's record is `[flags and number of tokens' shingles, these…, flat…]`, where flat shingles
//! have no case and no lines, and are omitted if they are the same. That of a long row is empty.

use std::borrow::Cow;

use super::minhash::shingles;
use super::tokens::Tokens;
use crate::normal::normalised;

/// Maximum number of words of a row whose signs, code and borders are compared. In longer rows, a
/// few of these never separate two rows, and many differ only if the rows are formatted differently.
const WORDS_MAX: usize = 64;
const CAPITALS: u64 = 1;
const ONE_LINE: u64 = 2;
const FLAG_BITS: u32 = 2;

/// The record of messages with so many words, each with whether it has code.
pub(super) fn record(words: usize, texts: &[(Cow<'_, str>, bool)]) -> Vec<u64> {
    if words > WORDS_MAX {
        return Vec::new();
    }
    let mut tokens = Tokens::default();
    texts.iter().for_each(|(text, has_code)| tokens.add(text, *has_code));
    let mut flat = Tokens::default();
    texts.iter().for_each(|(text, _)| flat.add(&normalised(text), false));
    let (tokens, flat) = (shingles(&tokens.hashes), shingles(&flat.hashes));
    let texts = || texts.iter().map(|(text, _)| text.as_ref());
    let is_one_line = texts().all(|text| !text.trim().contains('\n'));
    let flags = [(CAPITALS, is_in_capitals(texts())), (ONE_LINE, is_one_line)];
    let flags: u64 = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag).sum();
    let mut record = vec![flags | ((tokens.len() as u64) << FLAG_BITS)];
    record.extend(&tokens);
    if flat != tokens {
        record.extend(flat);
    }
    record
}

/// The shingles of two records that are compared, of which one is in the spool's format. `None` if
/// one of the rows is long.
pub(super) fn compared<'row>(
    own: &'row [u64],
    other: &'row [[u8; 8]],
) -> Option<(&'row [u64], &'row [[u8; 8]])> {
    let (head, other_head) = (*own.first()?, u64::from_le_bytes(*other.first()?));
    let flags = |head: u64| head & (CAPITALS | ONE_LINE);
    let is_flat = flags(head) != flags(other_head);
    Some((part(head, own, is_flat), part(other_head, other, is_flat)))
}

fn part<T>(head: u64, record: &[T], is_flat: bool) -> &[T] {
    let (tokens, flat) = record[1..].split_at((head >> FLAG_BITS) as usize);
    if is_flat && !flat.is_empty() { flat } else { tokens }
}

/// Whether texts have capital letters and no others.
fn is_in_capitals<'text>(mut texts: impl Iterator<Item = &'text str> + Clone) -> bool {
    texts.clone().all(|text| !text.contains(char::is_lowercase))
        && texts.any(|text| text.contains(char::is_uppercase))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code;

    fn of(texts: &[&str]) -> Vec<u64> {
        let with_code = texts.iter().map(|text| (Cow::Borrowed(*text), code::is_in(text)));
        record(1, &with_code.collect::<Vec<_>>())
    }

    /// Whether two rows of few tokens have the same compared shingles.
    fn is_same(one: &[&str], other: &[&str]) -> bool {
        let (one, other) = (of(one), of(other));
        let bytes: Vec<[u8; 8]> = other.iter().map(|number| number.to_le_bytes()).collect();
        let (own, other) = compared(&one, &bytes).expect("both are short");
        own.iter().map(|number| number.to_le_bytes()).eq(other.iter().copied())
    }

    #[test]
    fn a_copy_in_capitals_or_on_one_line_is_compared_without_them() {
        let code = "if a:\n    f(Foo)\nelse:\n    g(1 - 2)";
        let flat = "if a: f(Foo) else: g(1 - 2)";
        for other in [&code.to_uppercase(), flat, &flat.to_uppercase(), &format!("{flat}\n")] {
            assert!(is_same(&[code], &[other]) && is_same(&[other], &[code]), "{other}");
        }
        for other in [
            &code.replace("Foo", "foo"),
            &code.replace("    ", "  "),
            &code.to_uppercase().replace('-', "+"),
            &flat.replace('-', "+"),
        ] {
            assert!(!is_same(&[code], &[other]), "{other}");
        }
        assert!(!is_same(&[flat], &[&flat.replace("Foo", "foo")]), "both are on one line");
        let capitals = code.to_uppercase();
        assert!(!is_same(&[&capitals], &[&capitals.replace("    ", "  ")]), "both are in capitals");
        assert!(!is_same(&["2-2"], &["2+2\n3"]) && !is_same(&["A", "b"], &["A B"]));
    }

    #[test]
    fn a_long_row_has_no_marks() {
        assert_eq!(record(WORDS_MAX + 1, &[("a".into(), false)]), [0; 0]);
        assert_eq!(compared(&of(&["a"]), &[]), None);
        assert_eq!(compared(&[], &[[0; 8]]), None);
    }
}
