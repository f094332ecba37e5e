//! Tests of telling rows apart by their columns, and of rows that are none.

use super::*;

#[test]
fn only_an_object_is_a_row_and_broken_json_is_told_from_another_shape() {
    let shape = named("alternating").expect("is a shape");
    let code =
        |row: &str| shape.parse(row.as_bytes()).map_or_else(|reason| reason.code.word(), |_| "row");
    assert_eq!(code(r#" {"id": "a", "data": ["q", "r"]}"#), "row");
    for row in [r#"["a", ["q", "r"]]"#, "7", "null", r#""text""#, r#"{"data": "q"}"#, "{}"] {
        assert_eq!(code(row), "invalid_row", "{row}");
    }
    for row in [r#"["a", ["q", "r"]"#, r#"{"data": ["q", "r"]"#, "hello", "NaN"] {
        assert_eq!(code(row), "invalid_json", "{row}");
    }
}
