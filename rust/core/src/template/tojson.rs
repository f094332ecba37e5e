//! The `tojson` filter as `transformers` defines it for chat templates: Python's `json.dumps(value,
//! ensure_ascii=False)` without HTML escaping.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::python::check_printable;

/// Lists within lists at most, and spaces of indentation at most.
const DEPTH_MAX: usize = 64;
const INDENT_MAX: usize = 16;

/// The filter. It supports Python's argument `indent` and accepts `ensure_ascii=False`, which is
/// its only behavior. Other arguments are an error.
pub(super) fn tojson(state: &State, value: &Value, arguments: &Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    let ascii: Option<bool> = arguments.get("ensure_ascii")?;
    arguments.assert_all_used()?;
    if ascii == Some(true) || indent.is_some_and(|indent| indent > INDENT_MAX) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!(
                "`tojson` does not support `ensure_ascii=True` or an indent above {INDENT_MAX}"
            ),
        ));
    }
    let mut json = Json { state, text: String::new(), indent };
    json.write(value, 0)?;
    Ok(Value::from(json.text))
}

/// JSON on its way.
struct Json<'run, 'env, 'source> {
    state: &'run State<'env, 'source>,
    text: String,
    indent: Option<usize>,
}

impl Json<'_, '_, '_> {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        // A value may contain itself many times, so every visit is charged.
        self.state.consume_fuel(1)?;
        match value.kind() {
            _ if depth > DEPTH_MAX => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("nested more than {DEPTH_MAX} levels deep"),
                ));
            }
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Seq | ValueKind::Iterable => {
                self.write_all(['[', ']'], value, depth, |_, _| Ok(()))?
            }
            ValueKind::Map => self.write_all(['{', '}'], value, depth, |json, key| {
                json.quote(&key.to_string())?;
                json.text.push_str(": ");
                Ok(())
            })?,
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

    /// Writes the items of a list, or the keys and values of a map, between its brackets, with
    /// Python's separators.
    fn write_all(
        &mut self,
        [open, close]: [char; 2],
        value: &Value,
        depth: usize,
        mut write_key: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let is_map = open == '{';
        let mut is_empty = true;
        self.text.push(open);
        for item in value.try_iter()? {
            if !is_empty {
                self.text.push_str(if self.indent.is_some() { "," } else { ", " });
            }
            is_empty = false;
            self.line(depth + 1);
            write_key(self, &item)?;
            let item = if is_map { value.get_item(&item)? } else { item };
            self.write(&item, depth + 1)?;
        }
        if !is_empty {
            self.line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    /// Writes a string as serde_json and Python do: only control characters, quotes and backslashes
    /// are escaped.
    fn quote(&mut self, text: &str) -> Result<(), Error> {
        self.state.consume_fuel(text.len() as u64 / 16)?;
        self.text.push_str(
            &serde_json::to_string(text)
                .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?,
        );
        Ok(())
    }
}
