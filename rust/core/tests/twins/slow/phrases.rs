//! The phrase filter, slow and obvious: a plain copy of the text, searched for every phrase at
//! once.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};

/// The phrases that a text contains, in the order of their starts. The longest comes first among
/// those that start together.
pub fn find(phrases: &[String], text: &str) -> Vec<usize> {
    let text = plain(text);
    let mut found: Vec<(usize, usize, usize)> = automaton(phrases)
        .find_overlapping_iter(&text)
        .filter(|found| {
            let before = text[..found.start()].chars().next_back();
            let after = text[found.end()..].chars().next();
            ![before, after].into_iter().flatten().any(char::is_alphanumeric)
        })
        .map(|found| (found.start(), text.len() - found.end(), found.pattern().as_usize()))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, _, phrase)| phrase).collect()
}

fn automaton(phrases: &[String]) -> AhoCorasick {
    AhoCorasickBuilder::new()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::Standard)
        .build(phrases.iter().map(|phrase| plain(phrase)))
        .expect("few and short phrases")
}

/// Straight quotes and single spaces.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut in_space = false;
    for letter in text.chars() {
        let is_space = letter.is_whitespace();
        match letter {
            _ if is_space && in_space => {}
            _ if is_space => plain.push(' '),
            '’' | '‘' => plain.push('\''),
            '“' | '”' => plain.push('"'),
            _ => plain.push(letter),
        }
        in_space = is_space;
    }
    plain
}
