//! `tojson` as `transformers` defines it for chat templates: Python's `json.dumps(value, ensure_ascii=False)`, nothing escaped for HTML.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// The filter. `indent` is the only argument templates use.
pub(super) fn tojson(value: &Value, arguments: &Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    // Python would obey any other argument.
    arguments.assert_all_used()?;
    let mut json = String::new();
    write(&mut json, value, indent, 0)?;
    Ok(Value::from_safe_string(json))
}

fn write(json: &mut String, value: &Value, indent: Option<usize>, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => json.push_str("null"),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_all(json, ['[', ']'], items.len(), indent, depth, |json, place| write(json, &items[place], indent, depth + 1))?;
        }
        ValueKind::Map => {
            let keys: Vec<Value> = value.try_iter()?.collect();
            write_all(json, ['{', '}'], keys.len(), indent, depth, |json, place| {
                json.push_str(&quoted(&keys[place].to_string())?);
                json.push_str(": ");
                write(json, &value.get_item(&keys[place])?, indent, depth + 1)
            })?;
        }
        ValueKind::String => json.push_str(&quoted(value.as_str().unwrap_or_default())?),
        ValueKind::Bool | ValueKind::Number => json.push_str(&value.to_string()),
        _ => return Err(Error::new(ErrorKind::InvalidOperation, format!("a {} is no JSON", value.kind()))),
    }
    Ok(())
}

/// Writes the items of a list or map between its brackets, with Python's separators.
fn write_all(
    json: &mut String,
    [open, close]: [char; 2],
    count: usize,
    indent: Option<usize>,
    depth: usize,
    mut item: impl FnMut(&mut String, usize) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = |json: &mut String, depth: usize| {
        if let (Some(indent), true) = (indent, count > 0) {
            json.push('\n');
            json.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    json.push(open);
    for place in 0..count {
        if place > 0 {
            json.push_str(if indent.is_some() { "," } else { ", " });
        }
        line(json, depth + 1);
        item(json, place)?;
    }
    line(json, depth);
    json.push(close);
    Ok(())
}

/// A string as both serde_json and Python write it when nothing but control characters, quotes and backslashes is escaped.
fn quoted(text: &str) -> Result<String, Error> {
    serde_json::to_string(text).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}
