//! Compares the fast row reader with serde_json on hostile, broken and real rows: equal dialogues
//! and equal errors.

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use zephyr_core::read::shape::{self, SHAPES};
use zephyr_core::stage::{Code, Reason};

use crate::real_data::real_path;
use crate::slow;

pub const HOSTILE: &str = include_str!("hostile_rows.jsonl");

/// Reads a row by every shape, both ways.
pub fn check(row: &[u8]) {
    for (shape, fast, slow) in both(row) {
        assert_same(&reworded(shape, fast, &slow, row), &slow, shape, row);
    }
}

/// The same, but a row that is refused may have several faults, and either may be named.
pub fn check_unless_refused(row: &[u8]) {
    for (shape, fast, slow) in both(row).filter(|(_, fast, slow)| fast.is_ok() || slow.is_ok()) {
        assert_same(&fast, &slow, shape, row);
    }
}

/// A row as each shape reads it, fast and slow.
fn both(row: &[u8]) -> impl Iterator<Item = (&'static str, slow::rows::Read, slow::rows::Read)> {
    SHAPES.iter().filter_map(|shape| {
        // The others have no fast reader of their own, or compare it in unit tests.
        let slow = slow::rows::parse(shape.name, row)?;
        let fast = shape.parse(row).map_err(|reason| (reason.code.word(), seen(reason)));
        Some((shape.name, fast, slow))
    })
}

/// What an error names. Other tests check the remedy that an unsupported field's error adds.
fn seen(reason: Reason) -> String {
    let detail = reason.detail.unwrap_or_default();
    match reason.code {
        Code::UnsupportedField => {
            detail.split_once("`: ").map(|(field, _)| format!("{field}`")).unwrap_or(detail)
        }
        _ => detail,
    }
}

/// The errors of serde_json are given in other words, which unit tests compare: a refusal that
/// serde_json words is the same as one in any words.
fn reworded(
    shape: &str,
    fast: slow::rows::Read,
    slow: &slow::rows::Read,
    row: &[u8],
) -> slow::rows::Read {
    match (fast, slow) {
        (Err(("invalid_row", detail)), Err(("invalid_row", theirs)))
            if theirs.contains(" at line ") =>
        {
            for word in [" at line ", "invalid type", "sequence"] {
                assert!(!detail.contains(word), "{detail}");
            }
            Err(("invalid_row", theirs.clone()))
        }
        // The row is valid JSON: only the number is too large.
        (Err(("invalid_row", detail)), Err((code, theirs)))
            if theirs.starts_with("number out of range") && detail.ends_with("out of range") =>
        {
            Err((*code, theirs.clone()))
        }
        // Of two faults, serde_json meets the number first. With another number, it meets the fault
        // that was found.
        (Err(fault), Err((code, theirs))) if theirs.starts_with("number out of range") => {
            let other_row = slow::fields::with_numbers_in_range(row);
            let other = slow::rows::parse(shape, &other_row).expect("a shape with a slow reader");
            let is_there = fault.1.ends_with("is written twice")
                && slow::fields::repeats_a_key(row)
                || other_row != row
                    && reworded(shape, Err(fault.clone()), &other, &other_row) == other;
            Err(if is_there { (*code, theirs.clone()) } else { fault })
        }
        (fast, _) => fast,
    }
}

/// Compares bits, because `==` treats -0 and 0 as equal.
fn assert_same(fast: &slow::rows::Read, slow: &slow::rows::Read, shape: &str, row: &[u8]) {
    if fast != slow || format!("{fast:?}") != format!("{slow:?}") {
        panic!(
            "shape {shape}, row {}:\n{fast:?}\nbut serde_json says\n{slow:?}",
            String::from_utf8_lossy(row)
        );
    }
}

#[test]
fn hostile_rows_read_as_serde_json_reads_them() {
    HOSTILE.lines().for_each(|row| check(row.as_bytes()));
    for row in HOSTILE.lines() {
        check(format!("{row}\r").as_bytes());
        check(format!("{row}\u{b}").as_bytes());
        check(format!("\n{row}").as_bytes());
        for end in (0..row.len()).filter(|end| row.is_char_boundary(*end)) {
            check(&row.as_bytes()[..end]);
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_refused_at_the_same_byte() {
    for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        for row in HOSTILE.lines().take(40) {
            for place in [0, row.len() / 3, row.len() / 2, row.len()] {
                check(&[&row.as_bytes()[..place], bad, &row.as_bytes()[place..]].concat());
            }
        }
    }
}

#[test]
fn depth_and_size_have_the_same_ends() {
    for depth in [1, 20, 22, 23, 24, 25, 61, 62, 63, 64, 65, 127, 128, 129, 5_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let inside = if open == "[" { "" } else { "1" };
            let deep = format!("{}{inside}{}", open.repeat(depth), close.repeat(depth));
            check(format!(r#"{{"data":["a"],"extra":{deep}}}"#).as_bytes());
            check(format!(r#"{{"data":{deep}}}"#).as_bytes());
            let honesty = format!(r#"{{"honesty":{{"Rationale":{deep}}}}}"#);
            check(
                format!(r#"{{"instruction":"i","completions":[{{"annotations":{honesty}}}]}}"#)
                    .as_bytes(),
            );
        }
    }
    for count in [1024, 1025] {
        check(format!(r#"{{"data":[{}"a"]}}"#, r#""a","#.repeat(count - 1)).as_bytes());
    }
}

/// Pieces of the test rows: tokens in valid and invalid positions.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    " ",
    "\t",
    "null",
    "true",
    "false",
    "0",
    "-",
    "1.5",
    "e",
    "1e400",
    "-0",
    "NaN",
    "\"\"",
    "\"a\"",
    "\"\\n\"",
    "\\u0041",
    "\\ud83d\\ude00",
    "\\ud800",
    "\\u",
    "é",
    "\u{2028}",
    "\u{7f}",
    "\u{1}",
    "\"data\":[\"a\"]",
    "\"id\":",
    "\"data\":",
    "\"messages\":[",
    "{\"role\":\"user\",\"content\":\"c\"}",
    "\"chosen\":",
    "\"rejected\":",
    "\"completions\":[{",
    "\"instruction\":\"i\"",
    "\"annotations\":{\"honesty\":{",
    "\"Rating\":",
    "\"overall_score\":",
    "\"fine-grained_score\":",
    "\"score_chosen\":",
    "\"source\":",
    "\"prompt\":",
    "\"chosen_rating\":",
    "\"tools\":",
    "\"system\":\"a\",",
    "\"weight\":1,",
    "\"tool_calls\":[{}],",
    "\"name\":\"n\",",
    "\"tools\":[{\"a\":1}],",
    "\"tools\":\"[{}]\",",
    "\"chat_template_kwargs\":{\"a\":-0},",
    "\"content\":null,",
    "\"content\":[{\"type\":\"text\",\"text\":\"t\"}],",
    "\"role\":\"assistant\",",
    "\"role\":\"tool\",",
    "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1.0}}}],",
    "\"tool_call_id\":\"c\",",
    "\"reasoning_content\":\"r\",",
    "\"thinking\":null,",
    "\"train\":false,",
    "\"Weight\":0,",
    "{\"role\":\"assistant\",\"content\":\"c\",\"train\":true}",
];

/// A hostile row with a few bytes removed, inserted or doubled.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let rows: Vec<&'static str> = HOSTILE.lines().collect();
    let damage = prop::collection::vec(
        (any::<prop::sample::Index>(), prop::sample::select(PIECES), 0..3_usize),
        0..4,
    );
    (prop::sample::select(rows), damage).prop_map(|(row, damage)| {
        let mut row = row.as_bytes().to_vec();
        for (place, piece, taken) in damage {
            let place = place.index(row.len() + 1);
            let end = (place + taken).min(row.len());
            row.splice(place..end, piece.bytes());
        }
        row
    })
}

/// A string of any characters as JSON, each raw or escaped in some way.
fn written_string() -> impl Strategy<Value = String> {
    let letter = prop_oneof![
        any::<char>(),
        prop::char::range(' ', '~'),
        prop::sample::select(vec!['"', '\\', '\n', '/', '\u{2028}', '😀'])
    ];
    prop::collection::vec((letter, 0..3_u8), 0..60).prop_map(|letters| {
        let mut written = String::from("\"");
        for (letter, way) in letters {
            if way == 0 || letter < ' ' || matches!(letter, '"' | '\\') {
                letter
                    .encode_utf16(&mut [0; 2])
                    .iter()
                    .for_each(|unit| write!(written, "\\u{unit:04X}").expect("writes to memory"));
            } else {
                written.push(letter);
            }
        }
        written.push('"');
        written
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_rows_read_as_serde_json_reads_them(row in damaged()) {
        check(&row);
    }

    #[test]
    fn pieces_in_any_order_read_as_serde_json_reads_them(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..14),
    ) {
        check(format!("{{{}}}", pieces.concat()).as_bytes());
    }

    #[test]
    fn any_text_is_read_to_the_letter(
        texts in prop::collection::vec(written_string(), 1..5),
        id in written_string(),
    ) {
        let list = texts.join(" , ");
        let row = format!(r#"{{"id":{id},"data":[{list}],"skipped":[{list}]}}"#);
        let shape = shape::named("alternating").expect("is a shape");
        let read = shape.parse(row.as_bytes()).expect("a row");
        let wanted: Vec<String> =
            texts.iter().map(|text| serde_json::from_str(text).expect("a string")).collect();
        prop_assert_eq!(read.turns.into_iter().map(|turn| turn.text).collect::<Vec<_>>(), wanted);
        check(row.as_bytes());
        let reply = format!(
            r#"{{"response":{},"model":{id},"annotations":{{"x":{list}}}}}"#,
            texts[0]
        );
        check(format!(r#"{{"instruction":{id},"completions":[{reply}]}}"#).as_bytes());
    }

    #[test]
    fn any_number_is_the_same_number(
        whole in "-?[0-9]{1,25}",
        rest in "(\\.[0-9]{0,25})?([eE][+-]?[0-9]{0,4})?",
        bits in any::<u64>(),
    ) {
        let float = f64::from_bits(bits);
        for number in [format!("{whole}{rest}"), float.to_string(), format!("{float:e}")] {
            check(format!(r#"{{"id":{number},"data":[]}}"#).as_bytes());
            let reply = format!(r#"{{"overall_score":{number},"skipped":{number}}}"#);
            check(format!(r#"{{"instruction":"","completions":[{reply}]}}"#).as_bytes());
            let answer = r#"[{"role":"assistant","content":"a"}]"#;
            let pair =
                format!(r#"{{"chosen":{answer},"rejected":{answer},"score_chosen":{number}}}"#);
            check(pair.as_bytes());
        }
    }
}

/// The JSONL files of real rows, if available.
fn real_files() -> Vec<PathBuf> {
    let files = |folder: &str| {
        let entries = real_path(folder).and_then(|folder| std::fs::read_dir(folder).ok());
        entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
    };
    let is_json = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().contains(".jsonl"))
    };
    files("ultrachat").chain(files("ultrafeedback")).filter(is_json).collect()
}

fn unpacked(path: &Path) -> Vec<u8> {
    let file = std::fs::File::open(path).expect("opens");
    let mut bytes = Vec::new();
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes),
        Some("zst") => {
            zstd::stream::read::Decoder::new(file).expect("zstd").read_to_end(&mut bytes)
        }
        _ => std::io::BufReader::new(file).read_to_end(&mut bytes),
    }
    .expect("reads");
    bytes
}

#[test]
fn real_rows_read_as_serde_json_reads_them() {
    for path in real_files() {
        let bytes = unpacked(&path);
        bytes.split(|byte| *byte == b'\n').for_each(check);
    }
}
