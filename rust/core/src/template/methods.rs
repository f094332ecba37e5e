//! Python's methods of strings, maps and lists in templates. minijinja's Python mode only
//! approximates some of them. Any case that may differ from Python is an error.

use minijinja::value::{Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::lists::arguments;
use super::markup::{marked_as, unmarked};
use super::python::{differs, is_space, lines, pay_for, split, strip};
use super::strings;

/// Methods of marked text that return marked text, and those that only read it.
const MARKS: [&str; 6] = ["capitalize", "lower", "lstrip", "rstrip", "strip", "upper"];
const READS: [&str; 6] = ["count", "endswith", "find", "isspace", "rfind", "startswith"];

/// Calls a method of a value.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    name: &str,
    passed: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return match (name, passed) {
            // An undefined default is a default like any other.
            ("get", [key, default]) if value.kind() == ValueKind::Map && default.is_undefined() => {
                value.get_item(key)
            }
            _ => unknown_method_callback(state, value, name, passed),
        };
    };
    if value.is_safe() {
        if !MARKS.contains(&name) && !READS.contains(&name) {
            return Err(differs(&format!("the method `{name}` on a string marked as safe")));
        }
        let result = call(state, &unmarked(value), name, passed)?;
        return Ok(match result.as_str() {
            Some(text) => marked_as(value, text.to_owned()),
            None => result,
        });
    }
    of_text(state, text, name, passed)
        .unwrap_or_else(|| unknown_method_callback(state, value, name, passed))
}

/// Calls a method of a text, unless minijinja's own equals Python's.
fn of_text(
    state: &State,
    text: &str,
    name: &str,
    passed: &[Value],
) -> Option<Result<Value, Error>> {
    Some(match name {
        "strip" | "lstrip" | "rstrip" => stripped(state, text, name, passed),
        "split" | "rsplit" => splits(text, name, passed),
        "splitlines" => arguments(passed, ["keepends"])
            .map(|[ends]| lines(text, ends.is_true()).into_iter().map(Value::from).collect()),
        "partition" | "rpartition" => partition(text, name, passed),
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, name, passed),
        "removeprefix" | "removesuffix" => from_args(passed).map(|(end,): (&str,)| {
            let rest = if name == "removeprefix" {
                text.strip_prefix(end)
            } else {
                text.strip_suffix(end)
            };
            Value::from(rest.unwrap_or(text))
        }),
        "zfill" | "ljust" | "rjust" | "center" => padded(state, text, name, passed),
        "title" => none(passed).and_then(|()| strings::title_of_letters(text)).map(Value::from),
        "swapcase" | "casefold" => none(passed).and_then(|()| recased(text, name)),
        "format" => strings::format_method(text, passed).map(Value::from),
        _ if name.starts_with("is") && name != "isascii" => {
            none(passed).and_then(|()| is_all(text, name)).map(Value::from)
        }
        _ => return None,
    })
}

fn none(passed: &[Value]) -> Result<(), Error> {
    from_args(passed)
}

fn stripped(state: &State, text: &str, name: &str, passed: &[Value]) -> Result<Value, Error> {
    let (letters,): (Option<&str>,) = from_args(passed)?;
    pay_for(state, letters)?;
    Ok(Value::from(strip(text, letters, name != "rstrip", name != "lstrip")))
}

fn splits(text: &str, name: &str, passed: &[Value]) -> Result<Value, Error> {
    let passed = arguments(passed, ["sep", "maxsplit"])?;
    let (separator, splits): (Option<&str>, Option<i64>) = from_args(&passed)?;
    let splits = splits.and_then(|splits| usize::try_from(splits).ok()).unwrap_or(usize::MAX);
    let parts = if name == "split" {
        split(text, separator, splits)
    } else {
        strings::rsplit(text, separator, splits)
    };
    parts.map(|parts| parts.into_iter().map(Value::from).collect())
}

/// The text before a separator, the separator, and the text after it.
fn partition(text: &str, name: &str, passed: &[Value]) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(passed)?;
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let parts = if name == "partition" {
        let parts = text.split_once(separator);
        parts.map_or([text, "", ""], |(before, behind)| [before, separator, behind])
    } else {
        let parts = text.rsplit_once(separator);
        parts.map_or(["", "", text], |(before, behind)| [before, separator, behind])
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// Searches a text, or its characters from a start to an end.
fn search(text: &str, name: &str, passed: &[Value]) -> Result<Value, Error> {
    let (wanted, start, end): (&str, Option<i64>, Option<i64>) = from_args(passed)?;
    let letters = text.chars().count() as i64;
    let bound = |index: i64| if index < 0 { (index + letters).max(0) } else { index };
    let (start, end) = (bound(start.unwrap_or(0)), bound(end.unwrap_or(letters)).min(letters));
    let offset = |index: i64| {
        let mut offsets = text.char_indices().map(|(offset, _)| offset);
        offsets.nth(usize::try_from(index).unwrap_or(0)).unwrap_or(text.len())
    };
    // Behind the end, not even an empty text is found.
    let within = (start <= end).then(|| &text[offset(start)..offset(end)]);
    if name == "count" {
        return Ok(Value::from(within.map_or(0, |within| within.matches(wanted).count())));
    }
    let found = within.and_then(|within| {
        let at = if name.starts_with('r') { within.rfind(wanted) } else { within.find(wanted) };
        at.map(|at| start + within[..at].chars().count() as i64)
    });
    match found {
        None if name.ends_with("index") => {
            Err(Error::new(ErrorKind::InvalidOperation, "substring not found"))
        }
        found => Ok(Value::from(found.unwrap_or(-1))),
    }
}

/// A text with characters before or after it, up to a width.
fn padded(state: &State, text: &str, name: &str, passed: &[Value]) -> Result<Value, Error> {
    let (width, fill): (&Value, Option<&str>) = from_args(passed)?;
    let width = width.as_i64().filter(|_| width.is_integer());
    let width = width.ok_or_else(|| differs(&format!("such a width of `{name}`")))?;
    let mut fills = fill.unwrap_or(if name == "zfill" { "0" } else { " " }).chars();
    let (Some(fill), None, true) = (fills.next(), fills.next(), name != "zfill" || fill.is_none())
    else {
        return Err(differs(&format!("such a character to fill with in `{name}`")));
    };
    let missing = (width - text.chars().count() as i64).max(0) as usize;
    state.consume_fuel(missing as u64)?;
    let fills = |count: usize| std::iter::repeat_n(fill, count).collect::<String>();
    Ok(Value::from(match name {
        "ljust" => format!("{text}{}", fills(missing)),
        "center" => {
            let before = missing / 2 + (missing & width as usize & 1);
            format!("{}{text}{}", fills(before), fills(missing - before))
        }
        // A sign stays in front of the zeros.
        "zfill" => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", fills(missing))
        }
        _ => format!("{}{text}", fills(missing)),
    }))
}

fn recased(text: &str, name: &str) -> Result<Value, Error> {
    if !text.is_ascii() {
        return Err(differs(&format!("`{name}` on text with other letters than English ones")));
    }
    let swapped = |letter: char| {
        if letter.is_ascii_lowercase() {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        }
    };
    Ok(Value::from(if name == "casefold" {
        text.to_ascii_lowercase()
    } else {
        text.chars().map(swapped).collect()
    }))
}

/// Whether a text is not empty and all of its characters are of a kind.
fn is_all(text: &str, name: &str) -> Result<bool, Error> {
    let all = |is_of_kind: fn(char) -> bool| {
        if text.chars().any(|letter| letter.is_ascii() && !is_of_kind(letter)) {
            return Some(false);
        }
        // Letters are not digits in any language.
        let has_letter = || text.chars().any(|letter| !letter.is_ascii() && letter.is_alphabetic());
        if matches!(name, "isdigit" | "isdecimal") && has_letter() {
            return Some(false);
        }
        text.is_ascii().then_some(!text.is_empty())
    };
    let cased = |wanted: fn(&u8) -> bool, other: fn(&u8) -> bool| {
        if text.bytes().any(|byte| other(&byte)) {
            return Some(false);
        }
        text.is_ascii().then(|| text.bytes().any(|byte| wanted(&byte)))
    };
    match name {
        "isspace" => Some(!text.is_empty() && text.chars().all(is_space)),
        "isdigit" | "isdecimal" | "isnumeric" => all(|letter| letter.is_ascii_digit()),
        "isalpha" => all(|letter| letter.is_ascii_alphabetic()),
        "isalnum" => all(|letter| letter.is_ascii_alphanumeric()),
        "islower" => cased(u8::is_ascii_lowercase, u8::is_ascii_uppercase),
        "isupper" => cased(u8::is_ascii_uppercase, u8::is_ascii_lowercase),
        _ => None,
    }
    .ok_or_else(|| differs(&format!("the string method `{name}` on such a text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(text: &str, name: &str, passed: &[Value]) -> Option<String> {
        let environment = minijinja::Environment::new();
        let mut state = environment.empty_state();
        let result = call(&mut state, &Value::from(text), name, passed);
        result.ok().map(|result| result.to_string())
    }

    #[test]
    fn texts_are_searched_by_characters() {
        let find = |text, name, passed: &[Value]| called(text, name, passed).expect("searches");
        assert_eq!(find("éaéa", "find", &["a".into()]), "1");
        assert_eq!(find("éaéa", "rfind", &["a".into(), 0.into(), (-1).into()]), "1");
        assert_eq!(find("éaéa", "find", &["".into(), 5.into()]), "-1");
        assert_eq!(find("éaéa", "count", &["".into(), 4.into()]), "1");
        assert_eq!(called("a", "index", &["b".into()]), None);
    }

    #[test]
    fn texts_are_padded_as_python_pads_them() {
        assert_eq!(called("-5", "zfill", &[4.into()]).as_deref(), Some("-005"));
        assert_eq!(called("é", "center", &[4.into()]).as_deref(), Some(" é  "));
        assert_eq!(called("ab", "center", &[5.into(), "*".into()]).as_deref(), Some("**ab*"));
        assert_eq!(called("a", "ljust", &[3.into(), "xy".into()]), None);
    }

    #[test]
    fn kinds_of_characters_are_certain_or_refused() {
        assert_eq!(called("12", "isdigit", &[]).as_deref(), Some("True"));
        assert_eq!(called("", "isdigit", &[]).as_deref(), Some("False"));
        assert_eq!(called("é1", "isdigit", &[]).as_deref(), Some("False"));
        assert_eq!(called("²", "isdigit", &[]), None);
        assert_eq!(called("A-1", "isupper", &[]).as_deref(), Some("True"));
        assert_eq!(called("é", "isalpha", &[]), None);
        assert_eq!(called("é.", "isalpha", &[]).as_deref(), Some("False"));
    }
}
