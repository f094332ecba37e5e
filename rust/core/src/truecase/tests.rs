//! Tests of both rules, on the smallest texts that show them.

use proptest::prelude::*;

use super::*;
use crate::dialogue::{Pair, Replies, Role, Turn};

fn fixed(text: &str) -> String {
    truecase(text, TruecaseRules::Careful).map_or_else(|| text.to_owned(), |(text, _)| text)
}

fn as_h4(text: &str) -> String {
    truecase(text, TruecaseRules::H4).map_or_else(|| text.to_owned(), |(text, _)| text)
}

#[test]
fn sentences_and_the_pronoun_get_their_capitals() {
    for (raw, wanted) in [
        ("Hello. how are you?", "Hello. How are you?"),
        ("what? he said. \"so it is.\" i'm glad", "What? He said. \"So it is.\" I'm glad"),
        ("is this the first\n\nhere is the second.", "Is this the first\n\nHere is the second."),
        ("and i, too; so do i!", "And I, too; so do I!"),
        ("élan vital. ça va", "Élan vital. Ça va"),
        ("one is done.\ntwo is not.", "One is done.\nTwo is not."),
        ("use a dot (.) here. or '.' there", "Use a dot (.) here. Or '.' there"),
        ("- milk. and it is fresh\n- what i want", "- milk. And it is fresh\n- what I want"),
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
    assert_eq!(Truecase(TruecaseRules::Careful).visit(&mut dialogue, &mut notes), Ok(()));
    assert_eq!(dialogue.turns[0].text, "Who am I?");
    assert_eq!(dialogue.answers(), ["You. I guess", "No."]);
    assert_eq!(notes.letters_changed, 4);
}

#[test]
fn a_message_with_capitals_stays() {
    for text in [
        "Hello there. It works! but why? i see",
        "One. two. Three. Four. Five.",
        "I said so.\n\nassuming that it works, go on.",
        "\"Are we there yet?\" asks the child. The Pop! music plays.",
    ] {
        assert_eq!(fixed(text), text);
    }
}

#[test]
fn code_maths_verse_lists_and_names_stay() {
    for text in [
        "iPhone is a name. eBay too, foo.py and v2.",
        "for i in a:\n    f(i)",
        "    i = 0\n    while i < 3:\n        i += 1",
        "```\nfoo. bar\ni\n```",
        "~~~\nfoo. bar\n~~~",
        "x = 1. then",
        "done",
        "echo \"all. is well\"",
        "$i. j$ is maths",
        "https://a.b/i?i. ",
        "<i>x. y</i>",
        "1. milk\n2. bread",
        "- milk\n- bread",
        "roses are red,\nviolets are blue,\nsugar is sweet.",
        "name,age\nanna,3\nbob,4",
        "ß. ß",
    ] {
        assert_eq!(fixed(text), text);
    }
}

#[test]
fn only_the_english_pronoun_is_one() {
    for (raw, wanted) in [
        ("das gilt i. d. R. so", "Das gilt i. d. R. so"),
        ("lubie koty i psy", "Lubie koty i psy"),
        ("take the sum over i and j", "Take the sum over i and j"),
        ("is i + 1 what i want", "Is i + 1 what i want"),
        ("is it `i` or i?", "Is it `i` or I?"),
        ("is it (i) or i.e. what", "Is it (i) or i.e. what"),
    ] {
        assert_eq!(fixed(raw), wanted);
    }
}

#[test]
fn the_published_rule_has_no_exceptions() {
    for (raw, wanted) in [
        ("hello. how are you? i see. \"so", "Hello. How are you? I see. \"so"),
        ("See e.g. this, at 7 p.m. to x", "See e.g. This, at 7 p.m. To x"),
        ("for (int i = 1; i <= n; i++)", "For (int I = 1; I <= n; i++)"),
        ("so i'm, i i i, `i`\ni am", "So I'm, I I i, `i`\ni am"),
        (" hello! you? \"no.\" he", " hello! you? \"no.\" he"),
        ("É. é. ß. ß", "É. É. ß. ß"),
    ] {
        assert_eq!(as_h4(raw), wanted);
    }
}

/// Texts of pieces that the rules depend on.
fn text() -> impl Strategy<Value = String> {
    let pieces = [
        " ", "  ", "\n", "\n\n", "\t", "\u{a0}", ".", ". ", "! ", "? ", "...", "\"", "'", "”", "(",
        ")", "i", " i ", " i'm", "I", "a", "b", "Z", "word", "Word", "the", "é", "É", "ß", "中",
        "1", "12", "e.g.", "iPhone", "`", "```\n", "$", "- ", "1. ", "=", ":\n", "    ",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..60)
        .prop_map(|pieces| pieces.concat())
}

/// The four replacements, character by character.
fn slow_h4(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let at = |place: Option<usize>| place.and_then(|place| letters.get(place).copied());
    let changes = |place: usize| {
        let before = at(place.checked_sub(1)) == Some(' ');
        let is_pronoun = letters[place] == 'i' && matches!(at(Some(place + 1)), Some(' ' | '\''));
        let follows_dot = at(place.checked_sub(2)) == Some('.');
        place == 0 || (before && (is_pronoun || follows_dot))
    };
    let changed = (0..letters.len()).map(|place| {
        if changes(place) {
            upper(letters[place]).unwrap_or(letters[place])
        } else {
            letters[place]
        }
    });
    changed.collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 2_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_second_pass_of_either_rule_changes_nothing(text in text()) {
        prop_assert_eq!(as_h4(&as_h4(&text)), as_h4(&text));
        prop_assert_eq!(fixed(&fixed(&text)), fixed(&text));
    }

    #[test]
    fn no_letter_is_missed_by_the_search_in_blocks(text in text(), shift in 0_usize..70) {
        let text = format!("{}{text}", "X".repeat(shift));
        prop_assert_eq!(careful::offsets(&text), careful::judged(&text));
        prop_assert_eq!(as_h4(&text), slow_h4(&text));
    }
}
