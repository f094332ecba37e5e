//! Drops dialogues in which the assistant uses a listed phrase, such as "as an AI language model",
//! either in a message or in a completion.

mod finder;
mod opening;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, BuildError, MatchKind};
use serde::Deserialize;

use crate::dialogue::{Dialogue, Role, Turn};
use crate::stage::{Code, Notes, Reason, Stage};
use finder::Finder;

/// Drops dialogues in which an assistant message or a completion contains a listed phrase.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Keys {
    /// The phrases, compared without regard to case.
    phrases: Vec<String>,
    /// Where in an answer a phrase counts.
    #[serde(default)]
    at: Place,
    /// Which quotation marks a phrase matches.
    #[serde(default)]
    quotes: Quotes,
    /// What to drop when a phrase is found.
    #[serde(default)]
    drop: What,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum Place {
    /// Anywhere.
    #[default]
    Anywhere,
    /// In its first two sentences, at the start of a sentence or clause: "I'm sorry, but as an AI
    /// language model, …", not "She works as an AI engineer".
    Opening,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum Quotes {
    /// Straight and curly ones are equal.
    #[default]
    Any,
    /// Only those of the phrase.
    Exact,
}

impl Quotes {
    /// The character that a character of a phrase or a text is compared as.
    fn plain(self, letter: char) -> char {
        match (self, letter) {
            (Quotes::Any, '’' | '‘') => '\'',
            (Quotes::Any, '“' | '”') => '"',
            _ => letter,
        }
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum What {
    /// The whole dialogue, as the Zephyr authors did.
    #[default]
    Dialogue,
    /// The exchange with the phrase and everything after it. Not available for rows with
    /// completions, which need the full prompt.
    Tail,
}

struct Phrases {
    phrases: Vec<String>,
    search: Search,
    at: Place,
    drop: What,
}

/// The two ways to search phrases, with equal results.
enum Search {
    /// By their rarest words.
    Words(Finder),
    /// All at once in a plain copy of the text, used if a phrase has no word to search for.
    Copy(AhoCorasick, Quotes),
}

pub(super) fn build(table: toml::Table) -> Result<Box<dyn Stage>, toml::de::Error> {
    let Keys { phrases, at, quotes, drop } = table.try_into()?;
    if phrases.iter().any(|phrase| phrase.trim().is_empty()) {
        return Err(serde::de::Error::custom("`phrases` must not contain an empty phrase"));
    }
    let search = match Finder::new(&phrases, quotes) {
        Some(finder) => Search::Words(finder),
        None => {
            Search::Copy(automaton(&phrases, quotes).map_err(serde::de::Error::custom)?, quotes)
        }
    };
    Ok(Box::new(Phrases { phrases, search, at, drop }))
}

/// Whether a filter's table also truncates dialogues.
pub(super) fn cuts_turns(table: &toml::Table) -> bool {
    table.get("kind").and_then(toml::Value::as_str) == Some("phrases")
        && table.get("drop").and_then(toml::Value::as_str) == Some("tail")
}

fn automaton(phrases: &[String], quotes: Quotes) -> Result<AhoCorasick, BuildError> {
    AhoCorasickBuilder::new()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::Standard)
        .build(phrases.iter().map(|phrase| plain(phrase, quotes).into_owned()))
}

impl Stage for Phrases {
    fn visit(&self, dialogue: &mut Dialogue, notes: &mut Notes) -> Result<(), Reason> {
        let mut hits: Vec<usize> = Vec::new();
        dialogue.said_by_assistant().for_each(|text| self.find(text, &mut hits));
        let Some(first) = hits.first().map(|first| self.phrases[*first].clone()) else {
            return Ok(());
        };
        hits.sort_unstable();
        hits.dedup();
        notes.phrases.extend(hits.into_iter().map(|hit| self.phrases[hit].clone()));
        let is_cut = matches!(self.drop, What::Tail) && self.cut(&mut dialogue.turns);
        if is_cut { Ok(()) } else { Err(Reason::found(Code::Phrase, first)) }
    }
}

impl Phrases {
    /// Adds the phrases that count in a text.
    fn find(&self, text: &str, hits: &mut Vec<usize>) {
        match self.at {
            Place::Anywhere => self.search.find(text, |_| true, hits),
            Place::Opening => opening::sentences(text)
                .for_each(|sentence| self.search.find(sentence, opening::starts_clause, hits)),
        }
    }

    /// Removes the first exchange with a phrase and everything after it, unless no exchange would
    /// remain.
    fn cut(&self, turns: &mut Vec<Turn>) -> bool {
        let mut hits = Vec::new();
        let found = turns.iter().position(|turn| {
            if turn.role == Role::Assistant {
                self.find(&turn.text, &mut hits);
            }
            !hits.is_empty()
        });
        let kept = found.unwrap_or(0).saturating_sub(1);
        let leaves_one = turns[..kept].iter().any(|turn| turn.role == Role::Assistant);
        if leaves_one {
            turns.truncate(kept);
        }
        leaves_one
    }
}

impl Search {
    /// Adds the phrases that occur in the text with no letter or digit directly before or after
    /// them, if `keep` accepts the text before them. They are ordered by their starts, and the
    /// longest comes first among those that start together.
    fn find(&self, text: &str, keep: impl Fn(&str) -> bool, hits: &mut Vec<usize>) {
        let (automaton, quotes) = match self {
            Search::Words(finder) => return finder.find(text, keep, hits),
            Search::Copy(automaton, quotes) => (automaton, *quotes),
        };
        let text = plain(text, quotes);
        let mut found: Vec<_> = automaton.find_overlapping_iter(text.as_ref()).collect();
        found.retain(|found| {
            let before = text[..found.start()].chars().next_back();
            let after = text[found.end()..].chars().next();
            ![before, after].into_iter().flatten().any(char::is_alphanumeric)
                && keep(&text[..found.start()])
        });
        found.sort_by_key(|found| (found.start(), std::cmp::Reverse(found.end()), found.pattern()));
        hits.extend(found.into_iter().map(|found| found.pattern().as_usize()));
    }
}

/// Normalizes quotes and spaces, so one spelling of a phrase matches all variants.
fn plain(text: &str, quotes: Quotes) -> std::borrow::Cow<'_, str> {
    let is_plain = text.is_ascii()
        && !text.contains("  ")
        && !text.contains(['\n', '\t', '\r', '\x0b', '\x0c']);
    if is_plain {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    let mut in_space = false;
    for letter in text.chars() {
        let is_space = letter.is_whitespace();
        match letter {
            _ if is_space && in_space => {}
            _ if is_space => plain.push(' '),
            _ => plain.push(quotes.plain(letter)),
        }
        in_space = is_space;
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::{Pair, Replies, Reply};

    fn visited(drop: &str, turns: &[&str]) -> (Result<(), Reason>, Notes, usize) {
        visited_with(drop, turns, Replies::Inline)
    }

    fn visited_with(
        drop: &str,
        turns: &[&str],
        replies: Replies,
    ) -> (Result<(), Reason>, Notes, usize) {
        let table =
            format!("phrases = [\"as an AI\", \"I don't have opinions\"]\ndrop = \"{drop}\"");
        let stage = build(table.parse().expect("valid TOML")).expect("valid table");
        let roles = [Role::User, Role::Assistant].into_iter().cycle();
        let turns = turns.iter().zip(roles).map(|(text, role)| Turn::new(role, *text)).collect();
        let mut dialogue = Dialogue { turns, replies, ..Dialogue::default() };
        let mut notes = Notes::default();
        let verdict = stage.visit(&mut dialogue, &mut notes);
        (verdict, notes, dialogue.turns.len())
    }

    #[test]
    fn a_phrase_is_found_whatever_its_quotes_case_and_spacing_but_only_as_whole_words() {
        let (verdict, notes, _) =
            visited("dialogue", &["hi", "Well, I don’t  have\nOPINIONS. As an ai, no."]);
        assert_eq!(verdict, Err(Reason::found(Code::Phrase, "I don't have opinions")));
        assert_eq!(notes.phrases, ["as an AI", "I don't have opinions"]);
        assert_eq!(visited("dialogue", &["as an AI", "use it as an aid"]).0, Ok(()));
    }

    #[test]
    fn a_phrase_in_any_answer_drops_the_row_whatever_is_to_be_dropped() {
        let scored = |texts: [&str; 3]| {
            Replies::Scored(
                texts.map(|text| Reply { text: text.to_owned(), ..Reply::default() }).to_vec(),
            )
        };
        let pair = |chosen: &str, rejected: &str| {
            let (chosen, rejected) = (chosen.to_owned(), rejected.to_owned());
            Replies::Pair(Pair { chosen, rejected, score_chosen: None, score_rejected: None })
        };
        let asked = ["q", "no", "as an AI, you say?"];
        for drop in ["dialogue", "tail"] {
            for replies in
                [scored(["a", "b", "As an AI!"]), pair("as an AI", "b"), pair("a", "as an AI")]
            {
                let (verdict, notes, turns) = visited_with(drop, &asked, replies);
                assert_eq!(verdict, Err(Reason::found(Code::Phrase, "as an AI")));
                assert_eq!((notes.phrases, turns), (vec!["as an AI".to_owned()], 3));
            }
            for replies in [scored(["a", "b", "c"]), pair("a", "b")] {
                assert_eq!(visited_with(drop, &asked, replies).0, Ok(()));
            }
        }
    }

    #[test]
    fn the_reason_names_the_longest_phrase_at_the_first_match() {
        for phrases in
            [r#"["as an AI", "as an AI model", "model"]"#, r#"["as an AI", "as an AI model", "!"]"#]
        {
            let table = format!("phrases = {phrases}").parse().expect("valid TOML");
            let stage = build(table).expect("valid table");
            let turns = vec![Turn::new(Role::Assistant, "Well,  as an ai model!")];
            let mut dialogue = Dialogue { turns, ..Dialogue::default() };
            let verdict = stage.visit(&mut dialogue, &mut Notes::default());
            assert_eq!(verdict, Err(Reason::found(Code::Phrase, "as an AI model")));
        }
    }

    #[test]
    fn an_opening_is_the_start_of_a_clause_in_the_first_two_sentences() {
        // The second list has a phrase without a word to search for.
        for phrases in [r#"["as an AI", "my data"]"#, r#"["as an AI", "my data", "!?"]"#] {
            let table = format!("phrases = {phrases}\nat = \"opening\"");
            let stage = build(table.parse().expect("valid TOML")).expect("valid table");
            let drops = |text: &str| {
                let turns = vec![Turn::new(Role::Assistant, text)];
                let mut dialogue = Dialogue { turns, ..Dialogue::default() };
                stage.visit(&mut dialogue, &mut Notes::default()).is_err()
            };
            for text in [
                "As an AI, no.",
                " \n Sure!\n\nAs an AI, no.",
                "I'm sorry, but as an  AI I can't.",
                "Well — as an AI, no",
                "Hello. It is so because as an AI I am.",
            ] {
                assert!(drops(text), "{text}");
            }
            for text in [
                "She works as an AI engineer.",
                "One. Two. As an AI, no.",
                "One\n\nTwo\nAs an AI, no.",
                "Split my data first.",
                "He says \"as an AI\" often.",
            ] {
                assert!(!drops(text), "{text}");
            }
        }
    }

    #[test]
    fn exact_quotes_match_only_themselves() {
        for phrases in [r#"["I don't"]"#, r#"["I don't", "!?"]"#] {
            for (quotes, dropped) in [("any", true), ("exact", false)] {
                let table = format!("phrases = {phrases}\nquotes = \"{quotes}\"");
                let stage = build(table.parse().expect("valid TOML")).expect("valid table");
                for (text, dropped) in [("I don’t", dropped), ("I don't", true)] {
                    let turns = vec![Turn::new(Role::Assistant, text)];
                    let mut dialogue = Dialogue { turns, ..Dialogue::default() };
                    let verdict = stage.visit(&mut dialogue, &mut Notes::default());
                    assert_eq!(verdict.is_err(), dropped, "{quotes}: {text}");
                }
            }
        }
    }

    #[test]
    fn an_empty_phrase_is_refused() {
        assert!(build("phrases = [\"as an AI\", \" \"]".parse().expect("valid TOML")).is_err());
    }

    #[test]
    fn dropping_the_tail_keeps_what_came_before() {
        assert_eq!(
            visited("tail", &["a", "b", "c", "as an AI", "e", "f"]),
            (Ok(()), Notes { phrases: vec!["as an AI".into()], ..Notes::default() }, 2)
        );
        assert!(visited("tail", &["a", "as an AI"]).0.is_err());
    }
}
