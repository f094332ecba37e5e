//! How an answer begins: its first two sentences, and the starts of their clauses. An apology or a
//! greeting often precedes "as an AI language model", and a comma or `but` joins them.

/// Number of sentences that count as the beginning. The first may be "Certainly!".
const SENTENCES: usize = 2;
/// Words after which a clause begins.
const CONJUNCTIONS: [&str; 12] = [
    "and",
    "as",
    "because",
    "but",
    "however",
    "since",
    "so",
    "that",
    "though",
    "unfortunately",
    "while",
    "yet",
];

/// The first sentences of an answer. A sentence ends before white space after `.`, `!` or `?`, and
/// at a line end.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let sentences = std::iter::from_fn(move || {
        rest = rest.trim_start();
        let (sentence, after) = rest.split_at(sentence_end(rest));
        rest = after;
        (!sentence.is_empty()).then_some(sentence)
    });
    sentences.take(SENTENCES)
}

fn sentence_end(text: &str) -> usize {
    let mut letters = text.char_indices().peekable();
    while let Some((offset, letter)) = letters.next() {
        let is_last = letters.peek().is_none_or(|(_, next)| next.is_whitespace());
        if letter == '\n' {
            return offset;
        } else if matches!(letter, '.' | '!' | '?') && is_last {
            return offset + 1;
        }
    }
    text.len()
}

/// Whether a clause begins after this part of a sentence.
pub(super) fn starts_clause(before: &str) -> bool {
    let before = before.trim_end();
    let word = before.rsplit(char::is_whitespace).next().unwrap_or(before);
    before.is_empty()
        || before.ends_with([',', ';', ':', '(', '—', '–', '…', '.', '!', '?'])
        || CONJUNCTIONS.iter().any(|conjunction| conjunction.eq_ignore_ascii_case(word))
}
