//! Charges for nested values. minijinja's fuel pays for steps and for the bytes of texts, but not
//! for nested values. A list that contains another list twice takes two steps to build, and after
//! sixty such steps it could never be compared or printed.
//!
//! Therefore, every value that is stored in a list, a map or a namespace is charged for everything
//! it contains, counted as often as it occurs, and its depth is limited. Comparing and searching
//! are charged again. Lists that minijinja only chains lazily (`a + b`, `a * 3`, `a[1:]`) are
//! converted to lists before they are assigned to a name, because each would add a level of
//! nesting.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use crate::template::python::{differs, is_namespace};

/// Values within values at most.
const DEPTH_MAX: usize = 64;
/// Bytes of text that a unit of fuel pays for, as in minijinja.
const BYTES_A_UNIT: u64 = 64;

/// Charges for a value and everything it contains, and returns it.
pub(super) fn paid(state: &State, value: &Value) -> Result<Value, Error> {
    pay(state, value, 0)?;
    Ok(value.clone())
}

/// The value, fit to be held by another.
pub(super) fn held(state: &State, value: &Value) -> Result<Value, Error> {
    let value = flat(state, value)?;
    pay(state, &value, 0)?;
    // Only a namespace can change, and so could contain itself.
    if is_namespace(&value) {
        Err(differs("a namespace stored in another value"))
    } else {
        Ok(value)
    }
}

/// Returns the value, with lists that minijinja evaluates lazily converted to plain lists.
pub(super) fn flat(state: &State, value: &Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::Iterable {
        return Ok(value.clone());
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        items.push(item);
    }
    Ok(Value::from(items))
}

fn pay(state: &State, value: &Value, depth: usize) -> Result<(), Error> {
    let pay_for = |value: &Value| pay(state, value, depth + 1);
    match value.kind() {
        ValueKind::String => {
            state.consume_fuel(value.as_str().map_or(0, str::len) as u64 / BYTES_A_UNIT)
        }
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map if depth == DEPTH_MAX => {
            Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("a value is nested more than {DEPTH_MAX} levels deep"),
            ))
        }
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.try_for_each(|item| {
            state.consume_fuel(1)?;
            pay_for(&item)
        }),
        ValueKind::Map => value.try_iter()?.try_for_each(|key| {
            state.consume_fuel(1)?;
            pay_for(&key)?;
            pay_for(&value.get_item(&key)?)
        }),
        _ => Ok(()),
    }
}
