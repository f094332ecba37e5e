//! Python's string functions that minijinja lacks or only approximates: `int`, `title`, `format` and
//! `rsplit`. Whatever is not certain to give Python's result is an error.

use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::guards::text;
use super::python::{differs, is_space};

/// Digits of a number that is read from a text. More may not fit.
const DIGITS_MAX: usize = 15;

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

/// The filter `title`: words start at the text's start and behind white space and opening brackets.
pub(super) fn title_of_words(text: &str) -> Result<String, Error> {
    titled(text, |before| is_space(before) || "-({[<".contains(before))
}

/// The method `title`: words start at every letter behind a character that is no letter.
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

/// The method `format`, for `{}` and `{0}` without a format of their own.
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

/// The filter `format`, for `%s`, `%d` and `%%`.
pub(super) fn format_filter(template: &str, arguments: Rest<Value>) -> Result<String, Error> {
    let unsupported = || differs("such a use of the filter `format`");
    let (mut written, mut letters) = (String::new(), template.chars());
    let mut values = arguments.iter();
    while let Some(letter) = letters.next() {
        match letter {
            '%' => match letters.next() {
                Some('%') => written.push('%'),
                Some(kind @ ('s' | 'd')) => {
                    let value = values.next().ok_or_else(unsupported)?;
                    let fits = kind == 's' || (value.is_integer() && value.is_number());
                    if !fits {
                        return Err(unsupported());
                    }
                    written.push_str(&printed(value)?);
                }
                _ => return Err(unsupported()),
            },
            _ => written.push(letter),
        }
    }
    if values.next().is_some() || arguments.is_empty() {
        return Err(unsupported());
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
