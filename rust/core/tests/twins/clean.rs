//! Compares the phrase filter with its reference implementation on hostile texts and on real rows:
//! the same hits. The reference implementation of truecasing is in Python.

use proptest::prelude::*;
use zephyr_core::dialogue::{Dialogue, Replies, Reply, Role, Turn};
use zephyr_core::filter;
use zephyr_core::read::shape;
use zephyr_core::recipe::TruecaseRules;
use zephyr_core::stage::{Code, Notes, Reason, Stage};
use zephyr_core::truecase::truecase;

use crate::real_data::real_path;
use crate::slow;

const PHRASES: &[&str] = &[
    "as an AI language model",
    "as an AI",
    "I'm an AI",
    "AI",
    "I don't have opinions",
    "personal opinions",
    "opinions",
    "language model",
    "an ai",
    "as AN ai",
    "my training data",
    "naïve “AI”",
    "is it",
    "x-y z",
];

fn stage(phrases: &[&str]) -> Box<dyn Stage> {
    let mut table = toml::Table::new();
    table.insert("kind".to_owned(), "phrases".into());
    table.insert("phrases".to_owned(), phrases.to_vec().into());
    filter::build(table).expect("a filter")
}

/// The verdict and the notes that correspond to the hits of the reference implementation.
fn wanted(phrases: &[&str], text: &str) -> (Result<(), Reason>, Vec<String>) {
    let owned: Vec<String> = phrases.iter().map(|phrase| (*phrase).to_owned()).collect();
    let mut hits = slow::phrases::find(&owned, text);
    let verdict =
        hits.first().map_or(Ok(()), |first| Err(Reason::found(Code::Phrase, phrases[*first])));
    hits.sort_unstable();
    hits.dedup();
    (verdict, hits.into_iter().map(|hit| owned[hit].clone()).collect())
}

fn check_phrases(stage: &dyn Stage, phrases: &[&str], text: &str) {
    let wanted = wanted(phrases, text);
    let answer = |text: &str| Reply { text: text.to_owned(), ..Reply::default() };
    let compared = Replies::Scored(vec![answer(""), answer(text)]);
    for (role, replies) in [(Role::Assistant, Replies::Inline), (Role::User, compared)] {
        let turns = vec![Turn::new(role, text)];
        let mut notes = Notes::default();
        let mut dialogue = Dialogue { turns, replies, ..Dialogue::default() };
        let verdict = stage.visit(&mut dialogue, &mut notes);
        assert_eq!((&verdict, &notes.phrases), (&wanted.0, &wanted.1), "in {text:?}");
    }
}

/// Pieces of the test texts: everything that either rule depends on, and characters that interfere.
const PIECES: &[&str] = &[
    " ",
    "  ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "\u{a0}",
    "\u{3000}",
    "\u{2028}",
    "\u{1}",
    ".",
    "!",
    "?",
    "...",
    "…",
    ",",
    ";",
    ":",
    "\"",
    "'",
    "’",
    "‘",
    "“",
    "”",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    "`",
    "```",
    "$",
    "$$",
    "@",
    "://",
    "www.",
    "WWW.",
    "=",
    "==",
    "=>",
    "();",
    "|",
    "#",
    "_",
    "-",
    "/",
    "i",
    "I",
    "i'm",
    "i’ve",
    "i.",
    "a",
    "b",
    "Z",
    "word",
    "Word",
    "hello",
    "élan",
    "É",
    "ß",
    "ŉ",
    "ǆ",
    "é",
    "中",
    "٣",
    "1",
    "12",
    "e.g.",
    "mr.",
    "iPhone",
    "foo.py",
    "def ",
    "SELECT ",
    "import ",
    "as",
    "an",
    "AI",
    "ai",
    "an ai",
    "as an AI",
    "opinions",
    "Personal",
    "language",
    "model",
    "don't",
    "have",
    "my training",
    "data",
    "naïve",
    "is",
    "it",
    "x-y",
    "z",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => prop::sample::select(PIECES).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 2_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_phrase_is_found_as_the_slow_search_finds_it(
        text in text(),
        chosen in prop::sample::subsequence(PHRASES, 1..6),
        odd in text(),
    ) {
        check_phrases(stage(&chosen).as_ref(), &chosen, &text);
        prop_assume!(!odd.trim().is_empty());
        let phrases = [chosen[0], odd.as_str()];
        check_phrases(stage(&phrases).as_ref(), &phrases, &text);
        let around = format!("{text}{odd} {}{text}", odd.to_uppercase());
        check_phrases(stage(&phrases).as_ref(), &phrases, &around);
    }
}

#[test]
fn a_phrase_is_found_wherever_a_block_ends() {
    let stage = stage(PHRASES);
    for shift in 0..140 {
        for text in
            ["as an AI language model", "(AI)", "AI", "i don’t\u{a0} have\nOPINIONS", "opinions"]
        {
            for end in ["", ".", " x", "x"] {
                check_phrases(
                    stage.as_ref(),
                    PHRASES,
                    &format!("{}{text}{end}", ".".repeat(shift)),
                );
            }
        }
    }
}

#[test]
fn a_megabyte_of_one_mark_takes_no_longer_than_text() {
    for mark in ["\n", ". ", ".\n", "\n ", "i ", "$ ", "` ", "\" ", "(", "AI ", "as an ", "www."] {
        let text = mark.repeat((1 << 20) / mark.len());
        for rules in [TruecaseRules::Careful, TruecaseRules::H4] {
            let _ = truecase(&text, rules);
            let _ = truecase(&format!("{text}. hello"), rules);
            let _ = truecase(&format!("hello. {text}"), rules);
        }
        check_phrases(stage(&["as an AI", "no such"]).as_ref(), &["as an AI", "no such"], &text);
    }
}

#[test]
fn real_rows_get_the_same_verdicts() {
    let recipe = include_str!("../../../../python/zephyr_fast/recipes/ultrachat.toml")
        .parse::<toml::Table>()
        .expect("a recipe");
    let table = recipe["filter"]
        .as_array()
        .and_then(|filters| {
            filters.iter().find(|filter| filter["kind"].as_str() == Some("phrases"))
        })
        .expect("a filter for phrases");
    let phrases: Vec<&str> = table["phrases"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    let stage = stage(&phrases);
    let mut rows = 0;
    for name in ["raw_mix_open.jsonl.zst", "raw_mix_nc.jsonl.zst"] {
        let Some(path) = real_path(&format!("ultrachat/{name}")) else { return };
        let file = std::fs::File::open(path).expect("opens");
        let bytes = zstd::stream::decode_all(file).expect("zstd");
        // Every seventh row, because the reference search builds a new automaton for each text.
        for row in bytes.split(|byte| *byte == b'\n').step_by(7) {
            let Ok(dialogue) = shape::named("alternating").expect("is a shape").parse(row) else {
                continue;
            };
            for turn in dialogue.turns {
                check_phrases(stage.as_ref(), &phrases, &turn.text);
            }
            rows += 1;
        }
    }
    assert!(rows > 5_000);
}
