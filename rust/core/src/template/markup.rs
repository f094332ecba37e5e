//! Text that the filter `safe` or `escape` marked: Python's `Markup`. Adding other text to it escapes
//! the other text for HTML.

use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::guards::text;

/// Bytes of text that a unit of fuel pays for.
const BYTES_A_UNIT: u64 = 64;

/// The filter `escape`: a value as text that is marked.
pub(super) fn escape(value: &Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let text = text(value)?;
    Ok(Value::from_safe_string(escaped(text.as_str().unwrap_or_default())))
}

/// A text derived from a value, marked if the value is.
pub(super) fn marked_as(value: &Value, text: String) -> Value {
    if value.is_safe() { Value::from_safe_string(text) } else { Value::from(text) }
}

/// The text of a value without its mark.
pub(super) fn unmarked(value: &Value) -> Value {
    match value.as_str() {
        Some(text) if value.is_safe() => Value::from(text),
        _ => value.clone(),
    }
}

/// The operator `+` of templates that mark text.
pub(super) fn plus(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    if let (Some(one), Some(other)) = (left.as_str(), right.as_str()) {
        if !left.is_safe() && !right.is_safe() {
            state.consume_fuel((one.len() + other.len()) as u64 / BYTES_A_UNIT)?;
            return Ok(Value::from([one, other].concat()));
        }
        let side = |value: &Value, text: &str| {
            if value.is_safe() { text.to_owned() } else { escaped(text) }
        };
        let sum = side(left, one) + &side(right, other);
        state.consume_fuel(sum.len() as u64 / BYTES_A_UNIT)?;
        return Ok(Value::from_safe_string(sum));
    }
    let impossible = || {
        Error::new(
            ErrorKind::InvalidOperation,
            format!(
                "tried to use + operator on unsupported types {} and {}",
                left.kind(),
                right.kind()
            ),
        )
    };
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if is_list(left) && is_list(right) && left.is_tuple() == right.is_tuple() {
        let mut items = Vec::new();
        for item in left.try_iter()?.chain(right.try_iter()?) {
            state.consume_fuel(1)?;
            items.push(item);
        }
        return Ok(if left.is_tuple() {
            Value::from(Tuple::from(items))
        } else {
            Value::from(items)
        });
    }
    sum(left, right).ok_or_else(impossible)
}

/// The sum of two numbers. True and false count as one and zero.
fn sum(left: &Value, right: &Value) -> Option<Value> {
    let integer = |value: &Value| match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        _ if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    };
    if let (Some(left), Some(right)) = (integer(left), integer(right)) {
        return left.checked_add(right).map(Value::from);
    }
    let float = |value: &Value| match (integer(value), value.kind()) {
        (Some(integer), _) => Some(integer as f64),
        (None, ValueKind::Number) => f64::try_from(value.clone()).ok(),
        _ => None,
    };
    Some(Value::from(float(left)? + float(right)?))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_added_to_marked_text_is_escaped() {
        let environment = minijinja::Environment::new();
        let state = environment.empty_state();
        let [plain, marked] = [Value::from("<'"), Value::from_safe_string("<'".to_owned())];
        let sum = |left: &Value, right: &Value| {
            let sum = plus(&state, left, right).expect("adds");
            (sum.to_string(), sum.is_safe())
        };
        assert_eq!(sum(&plain, &plain), ("<'<'".to_owned(), false));
        assert_eq!(sum(&plain, &marked), ("&lt;&#39;<'".to_owned(), true));
        assert_eq!(sum(&marked, &plain), ("<'&lt;&#39;".to_owned(), true));
        assert_eq!(sum(&marked, &marked), ("<'<'".to_owned(), true));
        assert_eq!(sum(&Value::from(true), &Value::from(2)), ("3".to_owned(), false));
        assert_eq!(sum(&Value::from(0.5), &Value::from(2)), ("2.5".to_owned(), false));
        assert!(plus(&state, &Value::from(1), &plain).is_err());
        assert!(plus(&state, &Value::UNDEFINED, &plain).is_err());
    }
}
