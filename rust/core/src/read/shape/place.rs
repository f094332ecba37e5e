//! Words serde_json's errors for whoever wrote the row: which field is wrong, and how.

use super::not_of_shape;
use crate::stage::{Code, Reason};

/// Characters of a key that an error repeats.
const KEY_CHARS_MAX: usize = 60;

/// What serde calls a value, and what JSON's users do.
const KINDS: [(&str, &str); 7] = [
    ("string", "text"),
    ("sequence", "a list"),
    ("map", "an object"),
    ("null", "null"),
    ("boolean", "true or false"),
    ("integer", "a number"),
    ("floating point", "a number"),
];
/// What serde expects, and what JSON's users call it.
const WANTED: [(&str, &str); 5] = [
    ("a string", "text"),
    ("a sequence", "a list"),
    ("a map", "an object"),
    ("an object", "an object"),
    ("f64", "a number"),
];

const NOT_A_LIST: &str = "is a list, not an object (in a table, the row has more or fewer cells than \
                          the header)";

/// Refuses what is no JSON object.
pub(super) fn check_object(text: &str) -> Result<(), Reason> {
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map_err(|error| Reason::found(Code::InvalidJson, error.to_string()))?;
    match text.trim_ascii_start().bytes().next() {
        Some(b'{') => Ok(()),
        // The reader of tables passes on a row that does not fit the header as a list.
        Some(b'[') => Err(not_of_shape(NOT_A_LIST)),
        _ => Err(not_of_shape("not a JSON object")),
    }
}

/// The reason of an error: broken JSON, wherever in the row it is, or JSON of another shape.
pub(super) fn malformed(error: &serde_json::Error, text: &str) -> Reason {
    match serde_json::from_str::<serde_json::Value>(text) {
        Err(broken) => Reason::found(Code::InvalidJson, broken.to_string()),
        Ok(_) => not_of_shape(told(error, text, "")),
    }
}

/// What is wrong with a value that is valid JSON. `base` is where the value is in the row.
pub(super) fn told(error: &serde_json::Error, json: &str, base: &str) -> String {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    let path = path(json, offset(json, error.line(), error.column()));
    let at = match (base, path.as_str()) {
        ("", path) => path.to_owned(),
        (base, "") => base.to_owned(),
        (base, path) if path.starts_with('[') => format!("{base}{path}"),
        (base, path) => format!("{base}.{path}"),
    };
    let field = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
    if said.starts_with("missing field") {
        format!("`{}` is missing", field(&quoted(said)))
    } else if said.starts_with("duplicate field") {
        // The error is at the second key, whose path this is.
        format!("`{at}` is written twice")
    } else if let Some((found, wanted)) =
        said.strip_prefix("invalid type: ").and_then(|mismatch| mismatch.rsplit_once(", expected "))
    {
        format!("`{at}` is {}, expected {}", known(&KINDS, found), known(&WANTED, wanted))
    } else if said.starts_with("data did not match any variant") {
        // The error is at the end of the value; of a list, that is the path of its last item.
        let list = at.strip_suffix(']').and_then(|item| item.rsplit_once('['));
        let id = list.map_or(at.as_str(), |(list, _)| list);
        format!("`{id}` is neither text nor a number")
    } else {
        format!("`{at}`: {said}")
    }
}

fn known<'words>(words: &[(&str, &'words str)], word: &'words str) -> &'words str {
    words.iter().find(|(theirs, _)| word.starts_with(theirs)).map_or(word, |(_, ours)| ours)
}

/// The byte at which an error is. Lines and columns are counted from 1.
fn offset(json: &str, line: usize, column: usize) -> usize {
    let starts =
        std::iter::once(0).chain(memchr::memchr_iter(b'\n', json.as_bytes()).map(|at| at + 1));
    starts.take(line).last().unwrap_or(0) + column
}

/// An object or list that is open at a byte.
enum Open {
    Object(String),
    List(usize),
}

/// The path of the value that ends at a byte, or that holds it: `messages[2].content`.
fn path(json: &str, end: usize) -> String {
    let bytes = &json.as_bytes()[..end.min(json.len())];
    let mut open: Vec<Open> = Vec::new();
    let (mut at, mut is_key) = (0, false);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let start = at;
                at = string_end(bytes, at);
                if is_key && let Some(Open::Object(key)) = open.last_mut() {
                    *key = shortened(&bytes[start..at.saturating_sub(1).max(start)]);
                }
            }
            b'{' => {
                open.push(Open::Object(String::new()));
                is_key = true;
            }
            b'[' => {
                open.push(Open::List(0));
                is_key = false;
            }
            // The value that just ended is the one that is meant.
            b'}' | b']' if at == bytes.len() => {
                if let Some(Open::Object(key)) = open.last_mut() {
                    key.clear();
                }
            }
            b'}' | b']' => {
                open.pop();
                is_key = false;
            }
            b':' => is_key = false,
            b',' => match open.last_mut() {
                Some(Open::List(index)) => *index += 1,
                Some(Open::Object(_)) => is_key = true,
                None => {}
            },
            _ => {}
        }
    }
    written(&open)
}

/// Behind the closing quote of a string that begins at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn shortened(key: &[u8]) -> String {
    String::from_utf8_lossy(key).chars().take(KEY_CHARS_MAX).collect()
}

fn written(open: &[Open]) -> String {
    let mut path = String::new();
    for part in open {
        match part {
            Open::Object(key) if key.is_empty() => {}
            Open::Object(key) if path.is_empty() => path.push_str(key),
            Open::Object(key) => path.extend([".", key]),
            Open::List(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use crate::read::shape::named;

    #[test]
    fn an_error_names_the_field_and_what_it_is() {
        for (shape, row, wanted) in [
            ("alternating", r#"{"id": 1}"#, "`data` is missing"),
            ("alternating", r#"{"data": "a"}"#, "`data` is text, expected a list"),
            ("alternating", r#"{"data": ["a", null]}"#, "`data[1]` is null, expected text"),
            ("alternating", r#"{"data": [], "data": []}"#, "`data` is written twice"),
            ("alternating", r#"{"id": [], "data": []}"#, "`id` is neither text nor a number"),
            (
                "messages",
                r#"{"messages": [{"role": "user", "content": "a"}, {"role": "user"}]}"#,
                "`messages[1].content` is missing",
            ),
            (
                "messages",
                r#"{"x": {"y": [1]}, "messages": [{"role": 5, "content": "a"}]}"#,
                "`messages[0].role` is a number, expected text",
            ),
            ("messages", r#"{"messages": [7]}"#, "`messages[0]` is a number, expected an object"),
            ("messages", r#"{"messages": {}}"#, "`messages` is an object, expected a list"),
            ("messages", "[1]", super::NOT_A_LIST),
            (
                "prompt_completion",
                r#"{"prompt": "a \ud83d", "completion": "b"}"#,
                "`prompt` is text with half of a character (an escape such as `\\ud83d` alone), \
                 expected text",
            ),
            (
                "completions",
                r#"{"instruction": "a", "completions": [{"response": "b", "annotations":
                    {"helpfulness": {"Rating": true}}}, {"response": "c"}]}"#,
                "`completions[0].annotations.helpfulness.Rating` is true or false, expected a number",
            ),
            ("messages", "7", "not a JSON object"),
            (
                "alpaca",
                r#"{"instruction": "a", "output": [1]}"#,
                "`output` is a list, expected text",
            ),
            ("alpaca", r#"{"instruction": "a"}"#, "`output` is missing"),
            (
                "sharegpt",
                r#"{"conversations": [{"from": "human", "value": 7}]}"#,
                "`conversations[0].value` is a number, expected text",
            ),
            (
                "prompt_completion",
                r#"{"prompt": "a", "completion": [{"role": "user"}]}"#,
                "`completion[0].content` is missing",
            ),
        ] {
            let shape = named(shape).expect("is a shape");
            let reason = shape.parse(row.as_bytes()).expect_err(row);
            assert_eq!(reason.detail.as_deref(), Some(wanted), "{row}");
        }
    }
}
