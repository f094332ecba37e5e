//! Documents of every form: intact, damaged and generated.

use proptest::prelude::*;

use super::*;
use crate::read::{CHUNK_BYTES, Input, open};

/// Line number and text of each row, and the error, if any.
fn read(text: &[u8]) -> (Vec<(u64, String)>, Option<String>) {
    let path = std::path::PathBuf::from("x.json");
    let (name, blake3) = (String::new(), String::new());
    let input = Input { ordinal: 0, path, name, blake3, bytes: 0, modified: None };
    let stream = Box::new(std::io::Cursor::new(text.to_vec()));
    let mut rows = Vec::new();
    for chunk in open::rows(stream, &input).expect("opens") {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return (rows, Some(error.to_string())),
        };
        for row in &chunk.rows {
            let bytes = &chunk.bytes[row.start..row.end];
            if row.length == bytes.len() as u64 {
                assert_eq!(&text[row.offset as usize..][..bytes.len()], bytes);
            }
            rows.push((row.line, String::from_utf8_lossy(bytes).into_owned()));
        }
    }
    (rows, None)
}

fn rows(text: &str) -> Vec<(u64, String)> {
    let (rows, error) = read(text.as_bytes());
    assert_eq!(error, None, "{text}");
    rows
}

fn lines_of(text: &str) -> Vec<u64> {
    rows(text).iter().map(|(line, _)| *line).collect()
}

#[test]
fn rows_are_found_in_every_form_of_a_document() {
    let (a, b) = (r#"{"a":"x]\\\"}"}"#, r#"{"b":[{"c":[]}]}"#);
    for (text, lines) in [
        (format!("[{a},{b}]"), [1, 1]),
        (format!("\u{feff}\n [\n  {a},\n\n  {b}\n]\n\n"), [3, 5]),
        (format!("[\r\n{a}\r\n,{b}]"), [2, 3]),
        (format!(r#"{{"data":[{a},{b}]}}"#), [1, 1]),
        (
            format!(r#"{{"v": {{"data": [1]}}, "n": [], "rows" : [ {a}, {b} ], "m": [[{{}}]] }}"#),
            [1, 1],
        ),
        (format!("{a}\n{b}"), [1, 2]),
    ] {
        assert_eq!(rows(&text), [(lines[0], a.to_owned()), (lines[1], b.to_owned())], "{text}");
    }
    let printed = "{\n \"a\": 1\n}\n{\n \"b\": 2\n}\n";
    assert_eq!(
        rows(printed),
        [(1, "{\n \"a\": 1\n}".to_owned()), (4, "{\n \"b\": 2\n}".to_owned())]
    );
    assert_eq!(rows("[]"), []);
    assert_eq!(
        rows("[1, \"x\" ,null]").iter().map(|row| &*row.1).collect::<Vec<_>>(),
        ["1", "\"x\"", "null"]
    );
}

#[test]
fn lines_stay_lines() {
    // The first row is a list, is broken, or has a member whose name is that of a list of rows.
    assert_eq!(lines_of("[1,2]\n{\"a\":1}\n"), [1, 2]);
    assert_eq!(lines_of("{\n{\"a\":1}\n{\"a\":2}\n"), [1, 2, 3]);
    assert_eq!(lines_of("[{\"a\":\"cut\n{\"a\":1}\n"), [1, 2]);
    assert_eq!(lines_of("{\"data\":[{}]}\n{\"data\":[{}]}\n"), [1, 2]);
    assert_eq!(lines_of("{\"data\":[\"q\",\"a\"]}\n"), [1]);
    assert_eq!(lines_of("{\"messages\":[{},{}]}"), [1]);
}

#[test]
fn a_document_that_is_not_whole_ends_in_an_error_behind_its_rows() {
    for (text, count, why) in [
        ("[{\"a\":1},\n{\"a\"", 1, "in the middle of the row that starts in line 2"),
        ("[{\"a\":1},\n", 1, "in the middle of the JSON document, in line 2"),
        ("[{\"a\":1}\n{\"a\":2}]", 1, "line 2: expected `,` or `]` after a row, found `{`"),
        ("[\n{\"a\":1},,{}]", 1, "line 2: expected a row, found `,`"),
        ("[\n{\"a\":1}]\n\n[{}]", 1, "line 4: there is more after the end of the JSON array"),
        ("[{\"a\":1},{}]\n{\"a\":2}\n", 2, "line 2: there is more after the end of the JSON array"),
        ("[ {\"a\":1}]\r\n\n[{}]\n", 1, "line 3: there is more after the end of the JSON array"),
        ("[{\"a\":1}] [{}]", 1, "line 1: there is more after the end of the JSON array"),
        ("{\"data\":[{\"a\":1}]", 1, "in the middle of the JSON document"),
        ("{\"data\":\n[{\"a\":1}]}{}", 1, "more after the end of the JSON object"),
        ("{\"train\":[{}],\n\"test\": [ {}]}", 1, "line 2: its JSON object has more than one"),
    ] {
        let (rows, error) = read(text.as_bytes());
        assert_eq!(rows.len(), count, "{text}");
        assert!(error.as_ref().is_some_and(|error| error.contains(why)), "{text}: {error:?}");
    }
}

#[test]
fn a_row_over_the_limit_keeps_its_place_and_the_next_one_is_found() {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(LINE_BYTES_MAX + 2 * CHUNK_BYTES));
    let text = format!("[{{}},\n{long},\n\n{{\"b\":1}}]");
    let stream = Box::new(std::io::Cursor::new(text.clone().into_bytes()));
    let path = std::path::PathBuf::from("x.json");
    let (name, blake3) = (String::new(), String::new());
    let input = Input { ordinal: 0, path, name, blake3, bytes: 0, modified: None };
    let found: Vec<RawRow> = open::rows(stream, &input)
        .expect("opens")
        .flat_map(|chunk| chunk.expect("reads").rows)
        .collect();
    let places: Vec<_> = found.iter().map(|row| (row.offset, row.length, row.line)).collect();
    let long_end = 5 + long.len() as u64;
    assert_eq!(places, [(1, 2, 1), (5, long.len() as u64, 2), (long_end + 3, 7, 4)]);
}

#[test]
fn rows_that_cross_pieces_stay_whole() {
    let row =
        |number: usize| format!("{{\"n\":{number},\"t\":\"{}\"}}", "\\\"\\\\".repeat(number * 977));
    let all: Vec<String> = (0..60).map(row).collect();
    let read = rows(&format!("[{}]", all.join(",")));
    assert_eq!(read.into_iter().map(|(_, row)| row).collect::<Vec<_>>(), all);
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Into::into),
        any::<bool>().prop_map(Into::into),
        "[\\\\\"\\]}{\\[,a\n]{0,6}".prop_map(serde_json::Value::String),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec(("[a\\\\\"]{0,3}", inner), 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn the_values_of_any_array_are_its_rows(values in prop::collection::vec(value(), 0..8), is_pretty: bool) {
        let text = if is_pretty { serde_json::to_string_pretty(&values) } else { serde_json::to_string(&values) };
        let found: Vec<serde_json::Value> = rows(&text.expect("is JSON"))
            .iter()
            .map(|(_, row)| serde_json::from_str(row).expect("is JSON"))
            .collect();
        prop_assert_eq!(found, values);
    }

    #[test]
    fn any_text_has_an_end(text in "[\\[\\]{}\",:\\\\a1 \n]{0,40}") {
        let (rows, _) = read(text.as_bytes());
        prop_assert!(rows.len() <= text.len());
    }
}
