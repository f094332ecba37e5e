//! Python's string functions that minijinja lacks or only approximates: `int`, `title`, `format` and
//! `rsplit`. Any case that may differ from Python is an error.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::guards::text;
use super::lists::arguments;
use super::python::{differs, is_space, lines};

/// Digits of a number that is read from a text. More may not fit.
const DIGITS_MAX: usize = 15;
/// Spaces that `indent` writes before a line at most.
const INDENT_MAX: usize = 64;

/// The filter `int`: the integer that a value spells, or the default.
pub(super) fn int(value: &Value, default: Option<Value>) -> Result<Value, Error> {
    let default = default.unwrap_or_else(|| Value::from(0));
    match value.kind() {
        ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Ok(value.clone()),
        ValueKind::Number => {
            let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
            if number.abs() < 1e15 { Ok(Value::from(number as i64)) } else { Err(unclear()) }
        }
        ValueKind::None => Ok(default),
        ValueKind::String => integer(value.as_str().unwrap_or_default(), default),
        kind => Err(differs(&format!("the filter `int` on a {kind}"))),
    }
}

fn unclear() -> Error {
    differs("the filter `int` on such a number")
}

/// Reads digits, possibly with a sign, a point and white space around them. A text without digits
/// is no number.
fn integer(text: &str, default: Value) -> Result<Value, Error> {
    let core = text.trim_matches(is_space);
    let (sign, digits) = match core.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, core.strip_prefix('+').unwrap_or(core)),
    };
    if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Ok(default);
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = !whole.is_empty() && are_digits(whole) && are_digits(fraction);
    if !is_number || whole.len() + fraction.len() > DIGITS_MAX {
        return Err(unclear());
    }
    whole.parse::<i64>().map(|number| Value::from(sign * number)).map_err(|_| unclear())
}

/// The filter `title`: words start at the text's start and after white space and opening brackets.
pub(super) fn title_of_words(text: &str) -> Result<String, Error> {
    titled(text, |before| is_space(before) || "-({[<".contains(before))
}

/// The method `title`: words start at every letter after a character that is not a letter.
pub(super) fn title_of_letters(text: &str) -> Result<String, Error> {
    titled(text, |before| !before.is_ascii_alphabetic())
}

fn titled(text: &str, starts_behind: impl Fn(char) -> bool) -> Result<String, Error> {
    if !text.is_ascii() {
        return Err(differs("`title` on text with other letters than English ones"));
    }
    let mut is_start = true;
    let letters = text.chars().map(|letter| {
        let cased =
            if is_start { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
        is_start = starts_behind(letter);
        cased
    });
    Ok(letters.collect())
}

/// The method `format`, for `{}` and `{0}` without a format.
pub(super) fn format_method(template: &str, arguments: &[Value]) -> Result<String, Error> {
    let unsupported = || differs("such a call of the method `format`");
    let (mut written, mut rest) = (String::new(), template);
    let (mut next, mut is_numbered) = (0, None);
    while let Some(at) = rest.find(['{', '}']) {
        written.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            written.push_str(brace);
            rest = after;
            continue;
        }
        let (field, after) =
            rest.split_once('}').filter(|_| brace == "{").ok_or_else(unsupported)?;
        let numbered = !field.is_empty();
        if is_numbered.replace(numbered).is_some_and(|before| before != numbered) {
            return Err(unsupported());
        }
        let is_index = field.len() <= 2 && field.bytes().all(|byte| byte.is_ascii_digit());
        let index =
            if numbered && is_index { field.parse().ok() } else { (!numbered).then_some(next) };
        next += 1;
        let value = index.and_then(|index: usize| arguments.get(index)).ok_or_else(unsupported)?;
        written.push_str(&printed(value)?);
        rest = after;
    }
    Ok(written + rest)
}

/// The filter `format`, for the conversions `s`, `d` and `f`, and `%%`.
pub(super) fn format_filter(template: &str, arguments: &[Value]) -> Result<String, Error> {
    let unsupported = || differs("such a format");
    let (mut written, mut rest) = (String::new(), template);
    let mut values = arguments.iter();
    while let Some((before, after)) = rest.split_once('%') {
        written.push_str(before);
        let length = after.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
        let (sizes, behind) = after.split_at(length.ok_or_else(unsupported)?);
        let kind = behind.chars().next().ok_or_else(unsupported)?;
        rest = &behind[kind.len_utf8()..];
        if (sizes, kind) == ("", '%') {
            written.push('%');
            continue;
        }
        let value = values.next().ok_or_else(unsupported)?;
        written.push_str(&converted(value, sizes, kind)?.ok_or_else(unsupported)?);
    }
    if values.next().is_some() || arguments.is_empty() {
        return Err(unsupported());
    }
    Ok(written + rest)
}

/// A value after `%`: a text, an integer with a width, or a number with so many decimals.
fn converted(value: &Value, sizes: &str, kind: char) -> Result<Option<String>, Error> {
    let size = |text: &str| text.parse::<usize>().ok().filter(|_| text.len() <= 2);
    if (sizes, kind) == ("", 's') {
        return printed(value).map(Some);
    }
    let is_integer = value.is_number() && value.is_integer();
    Ok(match (sizes, sizes.strip_prefix('.'), kind) {
        ("", _, 'd') if is_integer => Some(value.to_string()),
        (sizes, None, 'd') if is_integer => {
            let integer = value.as_i64();
            let width = sizes.strip_prefix('0').unwrap_or(sizes);
            integer.zip(size(width)).map(|(integer, width)| {
                if sizes.starts_with('0') {
                    format!("{integer:0width$}")
                } else {
                    format!("{integer:width$}")
                }
            })
        }
        (_, Some(decimals), 'f') if value.is_number() => {
            let number = f64::try_from(value.clone()).ok().filter(|number| number.abs() < 1e15);
            number.zip(size(decimals)).map(|(number, decimals)| format!("{number:.decimals$}"))
        }
        _ => None,
    })
}

/// The operator `%` after a text, which formats a value or those of a tuple.
pub(super) fn percent(template: &str, value: &Value) -> Result<String, Error> {
    if !value.is_tuple() {
        return format_filter(template, std::slice::from_ref(value));
    }
    let values: Vec<Value> = value.try_iter()?.collect();
    format_filter(template, &values)
}

/// The filter `float`: the number that a value spells, or the default.
pub(super) fn float(value: &Value, default: Option<Value>) -> Result<Value, Error> {
    let unclear = || differs("the filter `float` on such a value");
    let default = default.unwrap_or_else(|| Value::from(0.0));
    let text = match value.kind() {
        ValueKind::Number if !value.is_integer() => return Ok(value.clone()),
        ValueKind::Number => value.to_string(),
        ValueKind::String => value.as_str().unwrap_or_default().trim_matches(is_space).to_owned(),
        ValueKind::None => return Ok(default),
        _ => return Err(unclear()),
    };
    if text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_digit()) {
        // `inf` and `nan` in any case are numbers.
        let is_word =
            text.to_ascii_lowercase().contains("inf") || text.to_ascii_lowercase().contains("nan");
        return if is_word { Err(unclear()) } else { Ok(default) };
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let is_plain = digits.len() <= DIGITS_MAX
        && digits.split('.').count() <= 2
        && digits.starts_with(|letter: char| letter.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = text.parse::<f64>().ok().filter(|_| is_plain).ok_or_else(unclear)?;
    Ok(Value::from(number))
}

/// The filter `round`, for a precision of at most 15 digits.
pub(super) fn round(value: &Value, passed: &[Value]) -> Result<Value, Error> {
    let unclear = || differs("the filter `round` on such values");
    let [precision, method] = arguments(passed, ["precision", "method"])?;
    let precision = match precision.as_usize() {
        _ if precision.is_undefined() => 0,
        Some(digits) if precision.is_integer() && digits <= DIGITS_MAX => digits,
        _ => return Err(unclear()),
    };
    let method = method.as_str().unwrap_or(if method.is_undefined() { "common" } else { "" });
    if value.is_integer() && method == "common" {
        return Ok(value.clone());
    }
    let number = f64::try_from(value.clone()).ok().filter(|number| number.abs() < 1e15);
    let number = number.filter(|_| value.is_number()).ok_or_else(unclear)?;
    let factor = 10_f64.powi(precision as i32);
    let rounded = match method {
        // The decimal digits of the exact number, as in Python.
        "common" => format!("{number:.precision$}").parse().map_err(|_| unclear())?,
        "ceil" => (number * factor).ceil() / factor,
        "floor" => (number * factor).floor() / factor,
        _ => return Err(unclear()),
    };
    // Python's own integers are never a negative zero.
    Ok(Value::from(if method == "common" { rounded } else { rounded + 0.0 }))
}

/// The filter `indent`: white space before every line but the first and the blank ones.
pub(super) fn indent(state: &State, text: &str, passed: &[Value]) -> Result<String, Error> {
    let unclear = || differs("such an indent of the filter `indent`");
    let [width, first, blank] = arguments(passed, ["width", "first", "blank"])?;
    let indent = match (width.as_str(), width.as_usize()) {
        _ if width.is_undefined() => " ".repeat(4),
        (Some(indent), _) => indent.to_owned(),
        (None, Some(spaces)) if width.is_integer() && spaces <= INDENT_MAX => " ".repeat(spaces),
        _ => return Err(unclear()),
    };
    let text = format!("{text}\n");
    let lines = lines(&text, false);
    state.consume_fuel((lines.len() * (indent.len() + 1)) as u64 / 16)?;
    let mut written = String::new();
    for (index, line) in lines.iter().enumerate() {
        let is_indented = match index {
            0 => first.is_true(),
            _ => blank.is_true() || !line.is_empty(),
        };
        written.extend([if index > 0 { "\n" } else { "" }, if is_indented { &indent } else { "" }]);
        written.push_str(line);
    }
    Ok(written)
}

fn printed(value: &Value) -> Result<String, Error> {
    if value.is_kwargs() {
        return Err(differs("`format` with named values"));
    }
    text(value).map(|text| text.to_string())
}

/// The method `rsplit`: at a separator, or at runs of white space, from the end.
pub(super) fn rsplit<'text>(
    text: &'text str,
    separator: Option<&str>,
    splits: usize,
) -> Result<Vec<&'text str>, Error> {
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => text.rsplitn(splits.saturating_add(1), separator).collect(),
        None => {
            let mut rest = text.trim_end_matches(is_space);
            let mut parts = Vec::new();
            while let (Some(at), true) = (rest.rfind(is_space), parts.len() < splits) {
                let part = rest[at..].trim_start_matches(is_space);
                parts.push(part);
                rest = rest[..at].trim_end_matches(is_space);
            }
            // The remainder before the first split keeps the white space at its start.
            if !rest.trim_matches(is_space).is_empty() {
                parts.push(rest);
            }
            parts
        }
    };
    parts.reverse();
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_from_the_end_as_python_splits_them() {
        assert_eq!(rsplit("a,b,c", Some(","), 1).expect("splits"), ["a,b", "c"]);
        assert_eq!(rsplit(" a  b c ", None, 1).expect("splits"), [" a  b", "c"]);
        assert_eq!(rsplit(" a b", None, 9).expect("splits"), ["a", "b"]);
        assert_eq!(rsplit(" ", None, 9).expect("splits"), [""; 0]);
    }

    #[test]
    fn integers_are_read_as_python_reads_them_or_refused() {
        let read = |text: &str| integer(text, Value::from(7)).ok().and_then(|value| value.as_i64());
        for (text, number) in [
            (" 12\n", Some(12)),
            ("-3.9", Some(-3)),
            ("+4.", Some(4)),
            ("", Some(7)),
            ("no", Some(7)),
            ("1_0", None),
            ("1e3", None),
            ("٣", None),
            ("- 3", None),
            ("12345678901234567", None),
        ] {
            assert_eq!(read(text), number, "{text}");
        }
    }

    #[test]
    fn values_are_formatted_as_python_formats_them_or_refused() {
        let values = [Value::from("a"), Value::from(1)];
        let method = |template: &str| format_method(template, &values).ok();
        assert_eq!(method("{} {{{}}}").as_deref(), Some("a {1}"));
        assert_eq!(method("{1}{0}").as_deref(), Some("1a"));
        for template in ["{} {} {}", "{0} {}", "{:>3}", "{x}", "{", "}"] {
            assert_eq!(method(template), None, "{template}");
        }
        assert_eq!(title_of_words("it's a-b (c)").expect("is ascii"), "It's A-B (C)");
        assert_eq!(title_of_letters("it's a-b").expect("is ascii"), "It'S A-B");
        assert!(title_of_words("é").is_err());
    }
}
