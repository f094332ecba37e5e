//! Tests of deduplication: the earliest row is kept, no near duplicate is missed, and a kept row
//! takes a known number of bytes.

use super::*;
use crate::dialogue::{Dialogue, Role, Turn};
use crate::recipe::Compared;

fn dialogue(texts: &[&str]) -> Dialogue {
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    let turns = texts.iter().zip(roles).map(|(text, role)| Turn::new(role, *text)).collect();
    Dialogue { turns, ..Dialogue::default() }
}

fn both() -> Dedup {
    Dedup { exact: Some(true), near: true, ..Dedup::default() }
}

/// Returns the results of admitting these texts in order.
fn admissions(texts: &[String], dedup: &Dedup) -> Vec<Option<Repeat>> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut seen =
        Seen::new(&Folder::open(folder.path()).expect("opens"), dedup).expect("creates its spool");
    (0..)
        .zip(texts)
        .map(|(row, text)| {
            seen.admit(row, &sign(&dialogue(&[text]), dedup)).expect("reads its spool")
        })
        .collect()
}

fn words(from: usize, to: usize) -> String {
    (from..to).map(|word| format!("word{word} ")).collect()
}

#[test]
fn the_earliest_of_equal_and_near_equal_dialogues_stays() {
    let long = words(0, 200);
    let texts = [
        long.clone(),
        "short text".to_owned(),
        format!("  {}\n", long.to_uppercase()),
        long.replace("word150", "other"),
        "another short text".to_owned(),
        "Short  text!".to_owned(),
    ];
    let expected =
        [None, None, Some(Repeat::Exact(0)), Some(Repeat::Near(0)), None, Some(Repeat::Near(1))];
    assert_eq!(admissions(&texts, &both()), expected);
}

#[test]
fn a_near_row_is_found_behind_many_rows_that_share_its_bands() {
    // Four fifths of every text are the same template: each pair has two thirds in common, and a
    // sixth of all rows share each band.
    let texts: Vec<String> =
        (1..=400).map(|row| words(0, 404) + &words(1_000 * row, 1_000 * row + 100)).collect();
    let again = texts[3].replace("word4050", "other");
    let all: Vec<String> = texts.into_iter().chain([again]).collect();
    let found = admissions(&all, &both());
    assert!(found[..400].iter().all(Option::is_none));
    assert_eq!(found[400], Some(Repeat::Near(3)));
}

#[test]
fn rows_that_share_a_core_are_compared_with_so_many_each_and_counted() {
    let texts: Vec<String> =
        (1..=1_200).map(|row| words(0, 404) + &words(1_000 * row, 1_000 * row + 100)).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut seen = Seen::new(&Folder::open(folder.path()).expect("opens"), &both())
        .expect("creates its spool");
    let mut compared = Vec::new();
    for (row, text) in (0..).zip(&texts) {
        let before = seen.comparisons();
        assert_eq!(
            seen.admit(row, &sign(&dialogue(&[text]), &both())).expect("reads its spool"),
            None
        );
        compared.push(seen.comparisons() - before);
    }
    let most = *compared.iter().max().expect("has rows");
    assert_eq!(most, COMPARED_MAX as u64);
    assert!(
        compared.iter().filter(|count| **count == most).count() as u64
            <= seen.near_search_truncated()
            && seen.near_search_truncated() < 1_200
    );
    // The only near duplicate shares nearly all bands, and is found among a thousand rows that
    // share few.
    let again = texts[3].replace("word4050", "other");
    assert_eq!(
        seen.admit(1_200, &sign(&dialogue(&[&again]), &both())).expect("reads its spool"),
        Some(Repeat::Near(3))
    );
}

#[test]
fn rows_outside_the_length_bound_are_followed_no_further_than_others() {
    // All bands are equal, but the lengths differ too much for near duplicates, so the search is
    // bounded and compares no rows.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut seen = Seen::new(&Folder::open(folder.path()).expect("opens"), &both())
        .expect("creates its spool");
    let mut admit = |row: i64, shingles: u64| {
        let near = Near {
            bands: [7; BANDS],
            shingles: (0..shingles).map(|position| position << 20 | row as u64).collect(),
            marked: Vec::new(),
        };
        seen.admit(row, &Signature { exact: None, near: Some(near) }).expect("writes its spool");
    };
    (0..FOLLOWED_MAX as i64 + 5).for_each(|row| admit(row, 1 + 100 * (row as u64 % 2)));
    admit(5_000, 10);
    assert!(seen.near_search_truncated() >= 1);
}

#[test]
fn marks_separate_short_rows_alone() {
    let code = |lines: usize| -> String {
        (0..lines).map(|line| format!("    let Name{line} = a{line} - b{line};\n")).collect()
    };
    for (lines, is_near) in [(3, false), (40, true)] {
        let text = code(lines);
        let lower = text.to_lowercase();
        for other in [lower, text.replace("    ", ""), text.replace('-', "+")] {
            let expected = is_near.then_some(Repeat::Near(0));
            assert_eq!(admissions(&[text.clone(), other.clone()], &both())[1], expected, "{other}");
        }
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for other in [text.to_uppercase(), flat] {
            let expected = Some(Repeat::Near(0));
            assert_eq!(admissions(&[text.clone(), other.clone()], &both())[1], expected, "{other}");
        }
    }
}

#[test]
fn tool_calls_and_tools_are_compared_too() {
    let exact = &Dedup { near: false, ..both() };
    let asked = |call: &str, tool: &str| {
        let mut dialogue = dialogue(&["What is the weather?", "", "It is warm and sunny today."]);
        let value = |text: &str| serde_json::json!({ "name": text });
        let members = [("tool_calls".to_owned(), value(call))].into_iter().collect();
        dialogue.turns[1].extras =
            Some(Box::new(crate::dialogue::Extras { members, ..Default::default() }));
        let inputs =
            crate::dialogue::TemplateInputs { tools: Some(value(tool)), ..Default::default() };
        dialogue.inputs = Some(Box::new(inputs));
        sign(&dialogue, exact)
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut seen =
        Seen::new(&Folder::open(folder.path()).expect("opens"), exact).expect("creates its spool");
    let mut admit = |row, signature| seen.admit(row, &signature).expect("reads its spool");
    assert_eq!(admit(0, asked("paris", "forecast")), None);
    assert_eq!(admit(1, asked("rome", "forecast")), None);
    assert_eq!(admit(2, asked("paris", "thermometer")), None);
    assert_eq!(admit(3, asked("paris", "forecast")), Some(Repeat::Exact(0)));
}

#[test]
fn texts_without_words_are_equal_or_new_but_never_near() {
    let texts = ["😀", "🎉", " 😀 ", ""].map(str::to_owned);
    assert_eq!(admissions(&texts, &both()), [None, None, Some(Repeat::Exact(0)), None]);
    let near = Dedup { exact: Some(false), ..both() };
    assert_eq!(admissions(&texts, &near), [None; 4]);
}

#[test]
fn a_dialogue_without_the_part_that_is_compared_is_new() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dedup = Dedup { of: Compared::LastReply, ..both() };
    let mut seen =
        Seen::new(&Folder::open(folder.path()).expect("opens"), &dedup).expect("creates its spool");
    let mut admit = |row, texts: &[&str]| {
        seen.admit(row, &sign(&dialogue(texts), &dedup)).expect("reads its spool")
    };
    assert_eq!(admit(0, &["hello"]), None);
    assert_eq!(admit(1, &["hello"]), None);
    assert_eq!(admit(2, &["hello", "you"]), None);
    assert_eq!(admit(3, &["bye", "You"]), Some(Repeat::Exact(2)));
}

#[test]
fn shared_bands_are_as_likely_as_minhash_says() {
    // A pair of similarity s shares one of 14 bands of 8 with 1 - (1 - s^8)^14: 0.57 at 0.7, 0.95
    // at 0.83.
    for (shared, similarity) in [(140, 0.7), (166, 0.83)] {
        let pairs = 2_000_u64;
        let hash = |pair: u64, position: u64| {
            xxhash_rust::xxh3::xxh3_64(&(pair << 32 | position).to_le_bytes())
        };
        let met = (0..pairs).filter(|pair| {
            let common: Vec<u64> = (0..shared).map(|position| hash(*pair, position)).collect();
            let own = |from: u64| -> Vec<u64> {
                common
                    .iter()
                    .copied()
                    .chain((from..from + (200 - shared) / 2).map(|position| hash(*pair, position)))
                    .collect()
            };
            let (a, b) = (minhash::bands(&own(1_000)), minhash::bands(&own(2_000)));
            a.iter().zip(&b).any(|(a, b)| a == b)
        });
        let expected = 1.0 - (1.0 - f64::powi(similarity, 8)).powi(14);
        let share = met.count() as f64 / pairs as f64;
        assert!((share - expected).abs() < 0.04, "{share} of pairs meet, {expected} should");
    }
}

/// Run it separately, because other tests of the process share its memory: `ZEPHYR_FAST_LONG=1
/// cargo test -p zephyr-core four_hundred`.
#[test]
#[expect(
    clippy::print_stdout,
    reason = "a skipped test says so, and the figure is what the long run is for"
)]
fn a_kept_row_costs_less_than_four_hundred_bytes() {
    if std::env::var_os("ZEPHYR_FAST_LONG").is_none() {
        println!("skipped: set ZEPHYR_FAST_LONG=1");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut seen = Seen::new(&Folder::open(folder.path()).expect("opens"), &both())
        .expect("creates its spool");
    let before = resident_bytes();
    // Just above seven eighths of 2^20, where all tables have just doubled, which is the worst
    // case.
    let rows = 920_000_u64;
    for row in 0..rows {
        let hash = |position: u64| xxhash_rust::xxh3::xxh3_64(&(row << 8 | position).to_le_bytes());
        let near = Near {
            bands: std::array::from_fn(|band| hash(band as u64) as u32),
            shingles: vec![row, row + 1],
            marked: vec![1 << 2, row],
        };
        let signature = Signature {
            exact: Some(u128::from(hash(100)) << 64 | u128::from(hash(101))),
            near: Some(near),
        };
        seen.admit(row as i64, &signature).expect("writes its spool");
    }
    let bytes = (resident_bytes() - before) as f64 / rows as f64;
    println!("{bytes:.0} bytes a kept row");
    // The rest of 400 is for the lengths, ids and offsets of samples before they are packed, which
    // take 20 bytes.
    assert!(bytes <= 380.0, "{bytes} bytes a kept row");
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("has the line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("is a number") * 1024
}

#[test]
fn the_example_at_the_head_has_these_shingles_and_bands() {
    let signed = |text: &str| sign(&dialogue(&[text]), &both()).near.expect("has words");
    let first = signed("the quick brown fox jumps over the lazy dog now");
    let compared = |text: &str| {
        let other = signed(text);
        let shared = first.shingles.iter().filter(|hash| other.shingles.contains(*hash)).count();
        let all = first.shingles.len() + other.shingles.len() - shared;
        let bands = first.bands.iter().zip(&other.bands);
        let agree = bands.filter(|(one, other)| one == other).count();
        (shared, all, agree)
    };
    assert_eq!(first.shingles.len(), 6);
    assert_eq!(compared("the quick brown fox jumps over the lazy dog tonight"), (5, 7, 3));
    assert_eq!(compared("the quick brown fox jumps across the lazy dog now"), (1, 11, 0));
    assert_eq!(compared("the quick brown fox jumps over the lazy dog again"), (5, 7, 0));
}
