//! The `tojson` filter as `transformers` defines it for chat templates: Python's `json.dumps(value,
//! ensure_ascii=False)` without HTML escaping.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::json;
use super::lists::arguments;
use super::python::{check_printable, differs, is_namespace};
use super::skeleton::sealed::Sealed;

/// Lists within lists at most, and bytes of indentation or of a separator at most.
const DEPTH_MAX: usize = 64;
const INDENT_MAX: i64 = 16;

/// How JSON is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    indent: Option<String>,
    separators: [String; 2],
    is_ascii: bool,
    sorts: bool,
}

/// The filter, with the arguments of `transformers`: `ensure_ascii`, `indent`, `separators` and
/// `sort_keys`.
pub(super) fn tojson(state: &State, value: &Value, passed: &[Value]) -> Result<Value, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort_keys] = arguments(passed, names)?;
    let indent = indentation(&indent)?;
    let between = if indent.is_some() { "," } else { ", " };
    let mut format = Format {
        indent,
        separators: [between.to_owned(), ": ".to_owned()],
        is_ascii: ascii.is_true(),
        sorts: sort_keys.is_true(),
    };
    if !separators.is_undefined() && !separators.is_none() {
        format.separators = pair(&separators)?;
    }
    let mut pay = |fuel| state.consume_fuel(fuel);
    let mut json = Json { pay: &mut pay, paid: 0, text: String::new(), format: &format };
    json.write(value, 0)?;
    Ok(Value::from(json.text))
}

/// A value as the filter writes it within so many others, paid from `fuel`. `None` if the filter
/// fails, or the fuel is not enough.
pub(super) fn dumped(
    value: &serde_json::Value,
    format: &Format,
    depth: usize,
    fuel: &mut u64,
) -> Option<String> {
    let mut pay = |cost| {
        *fuel = fuel.checked_sub(cost).ok_or(ErrorKind::OutOfFuel)?;
        Ok(())
    };
    let mut json = Json { pay: &mut pay, paid: 0, text: String::new(), format };
    json.write(&json::value(value), depth).ok()?;
    Some(json.text)
}

/// What is written once for each level in front of a line; `None` if all is on one line.
fn indentation(indent: &Value) -> Result<Option<String>, Error> {
    if indent.is_undefined() || indent.is_none() {
        return Ok(None);
    }
    let spaces = match (indent.as_str(), indent.as_i64()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(count)) if count <= INDENT_MAX => " ".repeat(count.max(0) as usize),
        _ => String::new(),
    };
    let is_read = indent.as_str().is_some() || indent.as_i64().is_some_and(|at| at <= INDENT_MAX);
    if !is_read || spaces.len() > INDENT_MAX as usize {
        return Err(differs(&format!("`tojson` with an indent above {INDENT_MAX}")));
    }
    Ok(Some(spaces))
}

/// The separators between items, and between a key and its value.
fn pair(separators: &Value) -> Result<[String; 2], Error> {
    let wrong = || differs("`tojson` with such separators");
    let separators: Vec<Value> = match separators.kind() {
        ValueKind::Seq => separators.try_iter()?.collect(),
        _ => return Err(wrong()),
    };
    let [Some(item), Some(key)] = [0, 1].map(|at| separators.get(at).and_then(Value::as_str))
    else {
        return Err(wrong());
    };
    if separators.len() != 2 || item.len().max(key.len()) > INDENT_MAX as usize {
        return Err(wrong());
    }
    Ok([item.to_owned(), key.to_owned()])
}

/// Whether JSON escapes no character of a text.
pub(super) fn is_written_raw(text: &str) -> bool {
    !text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\'))
}

/// JSON on its way.
struct Json<'run> {
    /// Takes fuel, or fails.
    pay: &'run mut dyn FnMut(u64) -> Result<(), Error>,
    text: String,
    /// The fuel that was paid for the bytes of the text.
    paid: u64,
    format: &'run Format,
}

impl Json<'_> {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        // A value may contain itself many times, so every visit is charged, and so is indentation.
        let bytes = self.text.len() as u64 / 64;
        (self.pay)(1 + bytes - self.paid)?;
        self.paid = bytes;
        if let Some(sealed) = value.downcast_object_ref::<Sealed>() {
            sealed.written(self.format, depth)?;
            self.text.push(sealed.marks[0]);
            self.write(&sealed.stand_in, depth)?;
            self.text.push(sealed.marks[1]);
            return Ok(());
        }
        match value.kind() {
            _ if depth > DEPTH_MAX => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("nested more than {DEPTH_MAX} levels deep"),
                ));
            }
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item));
                self.write_all(['[', ']'], items, depth)?;
            }
            ValueKind::Map if is_namespace(value) => return Err(differs("JSON of a namespace")),
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.format.sorts {
                    self.sort(&mut keys)?;
                }
                let members: Result<Vec<_>, Error> = keys
                    .into_iter()
                    .map(|key| Ok((Some(key.clone()), value.get_item(&key)?)))
                    .collect();
                self.write_all(['{', '}'], members?.into_iter(), depth)?;
            }
            ValueKind::String => self.quote(value.as_str().unwrap_or_default())?,
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => {
                check_printable(value)?;
                self.text.push_str(&value.to_string());
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("a {} is not JSON serializable", value.kind()),
                ));
            }
        }
        Ok(())
    }

    /// Writes the items of a list, or the keys and values of a map, between its brackets.
    fn write_all(
        &mut self,
        [open, close]: [char; 2],
        items: impl Iterator<Item = (Option<Value>, Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        let mut is_empty = true;
        self.text.push(open);
        for (key, item) in items {
            if !is_empty {
                self.text.push_str(&self.format.separators[0]);
            }
            is_empty = false;
            self.line(depth + 1);
            if let Some(key) = key {
                self.key(&key)?;
                self.text.push_str(&self.format.separators[1]);
            }
            self.write(&item, depth + 1)?;
        }
        if !is_empty {
            self.line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    /// Sorts keys, which Python can compare if all of them are texts.
    fn sort(&mut self, keys: &mut [Value]) -> Result<(), Error> {
        if keys.len() > 1 && keys.iter().any(|key| key.as_str().is_none()) {
            return Err(differs("`tojson` that sorts other keys than texts"));
        }
        let bytes: usize = keys.iter().filter_map(Value::as_str).map(str::len).sum();
        let rounds = u64::from(keys.len().max(1).ilog2()) + 1;
        (self.pay)((keys.len() + bytes / 64) as u64 * rounds)?;
        keys.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
        Ok(())
    }

    fn key(&mut self, key: &Value) -> Result<(), Error> {
        let text = match key.kind() {
            ValueKind::String => return self.quote(key.as_str().unwrap_or_default()),
            ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
            ValueKind::None => "null".to_owned(),
            ValueKind::Number if key.is_integer() => key.to_string(),
            kind => return Err(differs(&format!("`tojson` with a key that is a {kind}"))),
        };
        self.quote(&text)
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.format.indent {
            self.text.push('\n');
            self.text.push_str(&indent.repeat(depth));
        }
    }

    /// Writes a string as serde_json and Python do: only control characters, quotes and backslashes
    /// are escaped, and, if requested, all other characters than ASCII.
    fn quote(&mut self, text: &str) -> Result<(), Error> {
        (self.pay)(text.len() as u64 / 16)?;
        if !self.format.is_ascii && is_written_raw(text) {
            self.text.extend(["\"", text, "\""]);
            return Ok(());
        }
        let quoted = serde_json::to_string(text)
            .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
        if !self.format.is_ascii {
            self.text.push_str(&quoted);
            return Ok(());
        }
        for letter in quoted.chars() {
            if matches!(letter, ' '..='~') {
                self.text.push(letter);
                continue;
            }
            for unit in letter.encode_utf16(&mut [0; 2]) {
                self.text.push_str(&format!("\\u{unit:04x}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_bytes_and_indentation_are_paid() {
        let nested = (0..60).fold(json!(vec![1; 1_000]), |value, _| json!([value]));
        let paid = |value: &serde_json::Value, indent: Option<&str>| {
            let separators = [",", ": "].map(str::to_owned);
            let indent = indent.map(str::to_owned);
            let format = Format { indent, separators, is_ascii: false, sorts: false };
            let mut fuel = u64::MAX;
            let text = dumped(value, &format, 0, &mut fuel).expect("fuel is enough");
            let mut paid = u64::MAX - fuel;
            assert_eq!(dumped(value, &format, 0, &mut paid), Some(text.clone()));
            let mut less = u64::MAX - fuel - 1;
            assert_eq!(dumped(value, &format, 0, &mut less), None);
            (text.len(), u64::MAX - fuel)
        };
        assert_eq!(paid(&nested, None), (2_001 + 120, 1_061 + 32));
        let (bytes, fuel) = paid(&nested, Some("                "));
        assert!(bytes > 900_000 && fuel > 14_000, "{fuel} for {bytes} bytes");
        assert_eq!(paid(&json!("a".repeat(16_000)), None), (16_002, 1_001));
    }
}
