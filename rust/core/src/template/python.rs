//! Implements Python's Jinja behavior where minijinja differs: white space, string methods, tests
//! and filters.
//!
//! Features that are not known to produce the same bytes are removed. A template that needs one
//! fails instead of rendering different text.

use std::collections::HashSet;

use minijinja::value::{Rest, StringInput, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, filters};

use super::guards::text;
use super::lists::{Passed, arguments, values};
use super::markup::{escape, marked_as, unmarked};
use super::{lists, methods, strings, tojson};

/// minijinja's filters that Jinja lacks or that return different text there.
const FILTERS_OUT: [&str; 23] = [
    "attr", "batch", "bool", "chain", "e", "escape", "float", "format", "groupby", "indent", "int",
    "lines", "max", "min", "pprint", "round", "slice", "sort", "split", "sum", "title", "unique",
    "zip",
];

/// minijinja's tests that differ from Jinja's.
const TESTS_OUT: [&str; 4] = ["filter", "lower", "test", "upper"];

/// Functions of Jinja that minijinja lacks. Without an error, an undefined name would render as an
/// empty string.
const FUNCTIONS_OUT: [&str; 3] = ["cycler", "joiner", "lipsum"];

/// Configures an environment to behave like Python's Jinja in `transformers`.
pub(super) fn set_up(environment: &mut Environment) {
    for name in FILTERS_OUT {
        environment.remove_filter(name);
    }
    for name in TESTS_OUT {
        environment.remove_test(name);
    }
    // It prints the variables, and Jinja does not have it.
    environment.remove_global("debug");
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, state, value| {
        check_printable(value)?;
        minijinja::escape_formatter(out, state, value)
    });
    text_filters(environment);
    lists::add(environment);
    environment.add_filter("tojson", |state: &State, value: &Value, passed: Passed| {
        tojson::tojson(state, value, &values(passed))
    });
    environment.add_filter("int", strings::int);
    environment.add_filter("float", strings::float);
    environment.add_filter("round", |value: &Value, passed: Passed| {
        strings::round(value, &values(passed))
    });
    environment.add_filter("indent", |state: &State, value: &Value, passed: Passed| {
        let text = value.as_str().filter(|_| !value.is_safe());
        let text = text.ok_or_else(|| differs("the filter `indent` on such a value"))?;
        strings::indent(state, text, &values(passed))
    });
    environment.add_filter("format", |template: &Value, arguments: Rest<Value>| {
        let template = template.as_str().filter(|_| !template.is_safe());
        let template = template.ok_or_else(|| differs("the filter `format` on such a value"))?;
        strings::format_filter(template, &arguments)
    });
    environment.add_filter("list", |state: &State, value: Value| {
        check_loop(&value)?;
        filters::list(state, value)
    });
    environment.add_filter("reverse", |value: &Value| {
        if value.is_undefined() || value.is_none() || value.is_safe() {
            Err(differs("the filter `reverse` on such a value"))
        } else {
            filters::reverse(value)
        }
    });
    environment.add_test("sameas", |value: &Value, other: &Value| {
        match (value.kind(), other.kind()) {
            (ValueKind::None, ValueKind::None) => Ok(true),
            (ValueKind::Bool, ValueKind::Bool) => Ok(value == other),
            (kind, others) if kind != others => Ok(false),
            (kind, _) => Err(differs(&format!("the test `sameas` on a {kind}"))),
        }
    });
    // Python computes a remainder, which other values lack, and formats a text.
    environment.add_test("odd", |value: &Value| Ok::<_, Error>(remainder(value, 2)? == 1));
    environment.add_test("even", |value: &Value| Ok::<_, Error>(remainder(value, 2)? == 0));
    environment.add_test("divisibleby", |value: &Value, divisor: &Value| match divisor.as_i64() {
        Some(divisor @ 1..) => Ok(remainder(value, divisor)? == 0),
        _ => Err(differs("the test `divisibleby` with such a divisor")),
    });
    for name in ["iterable", "sequence"] {
        environment.add_test(name, |value: &Value| match value.kind() {
            ValueKind::Map => !is_namespace(value),
            kind => matches!(
                kind,
                ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Iterable
            ),
        });
    }
    environment.add_test("mapping", |value: &Value| {
        value.kind() == ValueKind::Map && !is_namespace(value)
    });
    for name in FUNCTIONS_OUT {
        environment.add_function(name, move |_: Rest<Value>| -> Result<Value, Error> {
            Err(differs(&format!("the function `{name}`")))
        });
    }
    environment.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        check_printable(message)?;
        Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
    });
}

/// The remainder of an integer, as in Python.
fn remainder(value: &Value, divisor: i64) -> Result<i64, Error> {
    let number = value.as_i64().filter(|_| value.is_integer());
    let number = number.ok_or_else(|| differs(&format!("a remainder of a {}", value.kind())))?;
    Ok(number.rem_euclid(divisor))
}

/// Filters that convert their input to text. They reject values that Python would print
/// differently.
fn text_filters(environment: &mut Environment) {
    environment.add_filter("string", text);
    environment.add_filter("join", join);
    for (name, filter) in [
        ("upper", filters::upper as fn(StringInput<'_>) -> Value),
        ("lower", filters::lower),
        ("capitalize", filters::capitalize),
    ] {
        environment.add_filter(name, move |value: &Value| {
            check_printable(value)?;
            let (text,) = from_args(std::slice::from_ref(value))?;
            Ok::<_, Error>(filter(text))
        });
    }
    environment.add_filter("title", |value: &Value| {
        strings::title_of_words(text(value)?.as_str().unwrap_or_default())
    });
    environment.add_filter("replace", replace);
    environment.add_filter("trim", |state: &State, value: &Value, passed: Passed| {
        let [letters] = arguments(&values(passed), ["chars"])?;
        let (letters,): (Option<&str>,) = from_args(std::slice::from_ref(&letters))?;
        pay_for(state, letters)?;
        let text = text(value)?;
        let text = strip(text.as_str().unwrap_or_default(), letters, true, true);
        Ok::<_, Error>(marked_as(value, text.to_owned()))
    });
    // Not `e`: guards look for the names of filters that mark text.
    environment.add_filter("escape", escape);
}

/// Replaces all occurrences of a text, or the first ones. The result is never marked as safe.
fn replace(state: &mut State, value: &Value, passed: Rest<Value>) -> Result<Value, Error> {
    let (old, new, count) = match &passed[..] {
        [old, new] => (old, new, None),
        [old, new, count] if count.is_integer() => (old, new, Some(count.clone())),
        _ => return Err(differs("the filter `replace` with such arguments")),
    };
    let [value, old, new] = [text(value)?, text(old)?, text(new)?].map(|text| unmarked(&text));
    let passed: Vec<Value> = [old, new].into_iter().chain(count).collect();
    methods::call(state, &value, "replace", &passed)
}

/// Joins items as text and rejects those that Python would print differently. Joining by attribute
/// is rejected, because the attributes would not be checked.
fn join(
    state: &mut State,
    value: &Value,
    separator: Option<StringInput<'_>>,
) -> Result<Value, Error> {
    check_loop(value)?;
    let items: Vec<Value> = value.try_iter()?.collect();
    items.iter().try_for_each(check_printable)?;
    filters::join(
        state,
        &Value::from(items),
        separator,
        None,
        std::iter::empty::<(&str, Value)>().collect(),
    )
}

/// Whether a value was created by `namespace`. minijinja treats it like any other map.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace"))
}

/// Equals Python's `str.isspace`: Unicode's white space and the four separators among the control
/// characters.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}

/// Charges for the characters to strip. minijinja itself charges only for the text.
pub(super) fn pay_for(state: &State, letters: Option<&str>) -> Result<(), Error> {
    state.consume_fuel(letters.map_or(0, str::len) as u64 / 64)
}

/// Strips text like Python's `str.strip`.
pub(super) fn strip<'text>(
    text: &'text str,
    letters: Option<&str>,
    start: bool,
    end: bool,
) -> &'text str {
    // A set, because comparing each character of the text with each character to strip would take
    // the product of their lengths.
    let letters: Option<HashSet<char>> = letters.map(|letters| letters.chars().collect());
    let goes = |letter: char| {
        letters.as_ref().map_or_else(|| is_space(letter), |letters| letters.contains(&letter))
    };
    let text = if start { text.trim_start_matches(goes) } else { text };
    if end { text.trim_end_matches(goes) } else { text }
}

/// Rejects values that Python prints differently: lists and maps have other quotes and escapes,
/// iterators print their address, and some floats print an exponent.
pub(super) fn check_printable(value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None | ValueKind::Bool | ValueKind::String => Ok(()),
        ValueKind::Number if value.is_integer() => Ok(()),
        ValueKind::Number => {
            let size = f64::try_from(value.clone()).unwrap_or_default().abs();
            if size == 0.0 || (1e-4..1e16).contains(&size) {
                Ok(())
            } else {
                Err(differs("printing a float in exponent notation"))
            }
        }
        kind => Err(differs(&format!("printing a {kind}"))),
    }
}

/// Rejects none, over which Python cannot loop.
pub(super) fn check_loop(value: &Value) -> Result<(), Error> {
    if value.is_none() {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "it loops over a value that is none; transformers fails here too (templates for tools \
             need rows with `tools`)",
        ));
    }
    Ok(())
}

pub(super) fn differs(what: &str) -> Error {
    Error::new(
        ErrorKind::UnknownMethod,
        format!("{what} is not supported, because the output could differ from Python's"),
    )
}

/// `str.split`: at a separator, or at runs of white space.
pub(super) fn split<'text>(
    text: &'text str,
    separator: Option<&str>,
    splits: usize,
) -> Result<Vec<&'text str>, Error> {
    match separator {
        Some("") => Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => Ok(text.splitn(splits.saturating_add(1), separator).collect()),
        None => {
            let mut rest = text.trim_start_matches(is_space);
            let mut parts = Vec::new();
            while let (Some(end), true) = (rest.find(is_space), parts.len() < splits) {
                parts.push(&rest[..end]);
                rest = rest[end..].trim_start_matches(is_space);
            }
            // The remainder after the last split keeps the white space at its end.
            if !rest.is_empty() {
                parts.push(rest);
            }
            Ok(parts)
        }
    }
}

/// `str.splitlines`: splits at every line end that Python recognizes.
pub(super) fn lines(text: &str, ends: bool) -> Vec<&str> {
    let is_end = |letter: char| {
        matches!(
            letter,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let (mut rest, mut lines) = (text, Vec::new());
    while let Some(offset) = rest.find(is_end) {
        let end = rest[offset..]
            .strip_prefix("\r\n")
            .or_else(|| rest[offset..].strip_prefix(is_end))
            .unwrap_or_default();
        lines.push(&rest[..if ends { rest.len() - end.len() } else { offset }]);
        rest = end;
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_cut_as_python_cuts_them() {
        assert_eq!(strip("\x1c a\u{85}\u{3000}", None, true, true), "a");
        assert_eq!(strip("xyax", Some("yx"), true, false), "ax");
        assert_eq!(split(" a  b c ", None, 1).expect("splits"), ["a", "b c "]);
        assert_eq!(split(" \x1f ", None, 9).expect("splits"), [""; 0]);
        assert_eq!(split("a,b,,c", Some(","), 2).expect("splits"), ["a", "b", ",c"]);
        assert_eq!(lines("a\r\nb\u{2028}\nc", false), ["a", "b", "", "c"]);
        assert_eq!(lines("a\r\nb\r", true), ["a\r\n", "b\r"]);
    }
}
