//! Jinja's filters over lists that minijinja lacks, or that order and compare otherwise there.
//! Any case that may differ from Python is an error.

use std::cmp::Ordering;
use std::collections::HashSet;

use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State};

use super::guards::is_method;
use super::python::{check_loop, differs, is_namespace};

/// The arguments of a filter in the order of the call, with named ones at the end.
pub(super) type Passed = Rest<ValueOrKwargs>;

/// The arguments as values.
pub(super) fn values(passed: Passed) -> Vec<Value> {
    passed.0.into_iter().map(ValueOrKwargs::into_value).collect()
}

/// Adds the filters.
pub(super) fn add(environment: &mut Environment) {
    for (name, wanted) in [("min", Ordering::Less), ("max", Ordering::Greater)] {
        environment.add_filter(name, move |state: &State, value: &Value, passed: Passed| {
            let [case, attribute] = arguments(&values(passed), ["case_sensitive", "attribute"])?;
            extreme(&keyed(state, value, &case, &attribute)?, wanted)
        });
    }
    environment.add_filter("sort", |state: &State, value: &Value, passed: Passed| {
        let names = ["reverse", "case_sensitive", "attribute"];
        let [reverse, case, attribute] = arguments(&values(passed), names)?;
        sorted(state, keyed(state, value, &case, &attribute)?, reverse.is_true())
    });
    environment.add_filter("dictsort", |state: &State, value: &Value, passed: Passed| {
        let [case, by, reverse] = arguments(&values(passed), ["case_sensitive", "by", "reverse"])?;
        dictsort(state, value, [&case, &by, &reverse])
    });
    environment.add_filter("unique", |state: &State, value: &Value, passed: Passed| {
        let [case, attribute] = arguments(&values(passed), ["case_sensitive", "attribute"])?;
        unique(keyed(state, value, &case, &attribute)?)
    });
    environment.add_filter("sum", |state: &State, value: &Value, passed: Passed| {
        let [attribute, start] = arguments(&values(passed), ["attribute", "start"])?;
        let items = keyed(state, value, &Value::from(true), &attribute)?;
        sum(&items, if start.is_undefined() { Value::from(0) } else { start })
    });
    environment.add_filter("batch", |state: &State, value: &Value, passed: Passed| {
        let [size, fill] = arguments(&values(passed), ["linecount", "fill_with"])?;
        batch(state, items(state, value)?, count(&size)?, &fill)
    });
    environment.add_filter("slice", |state: &State, value: &Value, passed: Passed| {
        let [slices, fill] = arguments(&values(passed), ["slices", "fill_with"])?;
        slice(state, &items(state, value)?, count(&slices)?, &fill)
    });
}

/// The arguments of a filter by their positions and names; undefined if they are not passed.
pub(super) fn arguments<const COUNT: usize>(
    passed: &[Value],
    names: [&str; COUNT],
) -> Result<[Value; COUNT], Error> {
    let wrong = || differs("such arguments of a filter");
    let mut found = [const { Value::UNDEFINED }; COUNT];
    let (named, positional) = match passed.split_last() {
        Some((last, rest)) if last.is_kwargs() => (Some(Kwargs::try_from(last.clone())?), rest),
        _ => (None, passed),
    };
    // An undefined argument is not one that is not passed.
    if positional.len() > COUNT || positional.iter().any(Value::is_undefined) {
        return Err(wrong());
    }
    found[..positional.len()].clone_from_slice(positional);
    for name in named.iter().flat_map(Kwargs::args) {
        let index = names.iter().position(|known| *known == name).ok_or_else(wrong)?;
        let value: Value = named.as_ref().ok_or_else(wrong)?.peek(name)?;
        if index < positional.len() || value.is_undefined() {
            return Err(wrong());
        }
        found[index] = value;
    }
    Ok(found)
}

/// The items that a loop over a value has.
fn items(state: &State, value: &Value) -> Result<Vec<Value>, Error> {
    check_loop(value)?;
    if is_namespace(value) {
        return Err(differs("a loop over a namespace"));
    }
    if let Some(text) = value.as_str() {
        state.consume_fuel(text.len() as u64)?;
        return Ok(text.chars().map(Value::from).collect());
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        items.push(item);
    }
    Ok(items)
}

/// The items of a value, each with its sort key.
fn keyed(
    state: &State,
    value: &Value,
    case_sensitive: &Value,
    attribute: &Value,
) -> Result<Vec<(Value, Value)>, Error> {
    let items = items(state, value)?;
    let path = path(attribute)?;
    let key = |item: Value| {
        let key = path.iter().try_fold(item.clone(), |of, part| looked_up(&of, part))?;
        Ok((folded(state, key, case_sensitive)?, item))
    };
    items.into_iter().map(key).collect()
}

fn folded(state: &State, key: Value, case_sensitive: &Value) -> Result<Value, Error> {
    let Some(text) = key.as_str() else { return Ok(key) };
    state.consume_fuel(text.len() as u64 / 16)?;
    Ok(if case_sensitive.is_true() { key } else { Value::from(text.to_lowercase()) })
}

/// The parts of an attribute's path.
fn path(attribute: &Value) -> Result<Vec<String>, Error> {
    match attribute.as_str() {
        _ if attribute.is_undefined() || attribute.is_none() => Ok(Vec::new()),
        Some(path) if !path.contains(',') => Ok(path.split('.').map(str::to_owned).collect()),
        _ => Err(differs("such an attribute of a filter")),
    }
}

/// A member of an item: the key of a map, else undefined. Digits are an index.
fn looked_up(item: &Value, part: &str) -> Result<Value, Error> {
    let is_index = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let found = match item.kind() {
        ValueKind::Map if !is_namespace(item) && !is_index => item.get_item(&Value::from(part))?,
        ValueKind::Seq if is_index => {
            let index = part.parse().ok().filter(|index: &usize| Some(*index) < item.len());
            index.map_or(Ok(Value::UNDEFINED), |index| item.get_item_by_index(index))?
        }
        ValueKind::String | ValueKind::Seq | ValueKind::None if !is_index => Value::UNDEFINED,
        kind => return Err(differs(&format!("looking up `{part}` in a {kind}"))),
    };
    if found.is_undefined() && (is_method(item, part) || part.starts_with("__")) {
        return Err(differs(&format!("the method `{part}` as an attribute")));
    }
    Ok(found)
}

/// Compares two keys if Python can, and orders them as Python does.
fn order(one: &Value, other: &Value) -> Result<Ordering, Error> {
    let unclear = || differs(&format!("comparing a {} with a {}", one.kind(), other.kind()));
    if let (Some(one), Some(other)) = (one.as_str(), other.as_str()) {
        return Ok(one.cmp(other));
    }
    let integer = |value: &Value| match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        _ if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    };
    let float = |value: &Value| match integer(value) {
        Some(integer) => (integer.unsigned_abs() < 1 << 53).then_some(integer as f64),
        None if value.is_number() => f64::try_from(value.clone()).ok(),
        None => None,
    };
    match (integer(one), integer(other)) {
        (Some(one), Some(other)) => Ok(one.cmp(&other)),
        _ => {
            let (one, other) = float(one).zip(float(other)).ok_or_else(unclear)?;
            one.partial_cmp(&other).ok_or_else(unclear)
        }
    }
}

/// The first of the smallest or greatest items; undefined if the list is empty.
fn extreme(items: &[(Value, Value)], wanted: Ordering) -> Result<Value, Error> {
    let Some((mut best, rest)) = items.split_first() else { return Ok(Value::UNDEFINED) };
    for item in rest {
        if order(&item.0, &best.0)? == wanted {
            best = item;
        }
    }
    Ok(best.1.clone())
}

fn sorted(
    state: &State,
    mut items: Vec<(Value, Value)>,
    is_reversed: bool,
) -> Result<Value, Error> {
    // Keys that compare with the first one compare with each other.
    if let Some((first, rest)) = items.split_first() {
        rest.iter().try_for_each(|item| order(&first.0, &item.0).map(|_| ()))?;
    }
    let bytes: usize = items.iter().filter_map(|item| item.0.as_str()).map(str::len).sum();
    let rounds = u64::from(items.len().max(1).ilog2());
    state.consume_fuel((items.len() + bytes / 64) as u64 * rounds)?;
    // In reverse too, equal items keep their order.
    items.sort_by(|one, other| {
        let ordering = order(&one.0, &other.0).unwrap_or(Ordering::Equal);
        if is_reversed { ordering.reverse() } else { ordering }
    });
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

fn dictsort(
    state: &State,
    value: &Value,
    [case, by, reverse]: [&Value; 3],
) -> Result<Value, Error> {
    let by = match by.as_str() {
        None if by.is_undefined() => 0,
        Some("key") => 0,
        Some("value") => 1,
        _ => return Err(differs("such a key of the filter `dictsort`")),
    };
    if value.kind() != ValueKind::Map || is_namespace(value) {
        return Err(Error::new(ErrorKind::InvalidOperation, "`dictsort` needs a map"));
    }
    let mut pairs = Vec::new();
    for key in value.try_iter()? {
        state.consume_fuel(1)?;
        let pair = [key.clone(), value.get_item(&key)?];
        pairs.push((folded(state, pair[by].clone(), case)?, Value::from(Tuple::from(pair))));
    }
    sorted(state, pairs, reverse.is_true())
}

/// The first of the items with each key.
fn unique(items: Vec<(Value, Value)>) -> Result<Value, Error> {
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for (key, item) in items {
        let key = match key.kind() {
            ValueKind::String => format!("'{}", key.as_str().unwrap_or_default()),
            ValueKind::None => "none".to_owned(),
            ValueKind::Bool => i64::from(key.is_true()).to_string(),
            _ if key.is_integer() => key.to_string(),
            kind => return Err(differs(&format!("the filter `unique` on a {kind}"))),
        };
        if seen.insert(key) {
            kept.push(item);
        }
    }
    Ok(Value::from(kept))
}

/// The sum of integers. Versions of Python add floats differently.
fn sum(items: &[(Value, Value)], start: Value) -> Result<Value, Error> {
    let integer = |value: &Value| match value.kind() {
        ValueKind::Bool => Ok(i64::from(value.is_true())),
        _ if value.is_integer() => i64::try_from(value.clone()),
        kind => Err(differs(&format!("the filter `sum` on a {kind}"))),
    };
    if items.is_empty() {
        return Ok(start);
    }
    let add = |sum: i64, item: &(Value, Value)| {
        sum.checked_add(integer(&item.0)?).ok_or_else(|| differs("such a large sum"))
    };
    items.iter().try_fold(integer(&start)?, add).map(Value::from)
}

fn count(value: &Value) -> Result<usize, Error> {
    let count = if value.is_integer() { value.as_usize() } else { None };
    count.filter(|count| *count > 0).ok_or_else(|| differs("such a count of items"))
}

/// Lists of `size` items; the last one may be filled up.
fn batch(state: &State, items: Vec<Value>, size: usize, fill: &Value) -> Result<Value, Error> {
    let mut batches: Vec<Vec<Value>> = items.chunks(size).map(<[Value]>::to_vec).collect();
    if let Some(last) = batches.last_mut().filter(|_| is_filled(fill)) {
        state.consume_fuel((size - last.len()) as u64)?;
        last.resize(size, fill.clone());
    }
    Ok(batches.into_iter().map(Value::from).collect())
}

/// So many lists of nearly the same length; the shorter ones may be filled up.
fn slice(state: &State, items: &[Value], slices: usize, fill: &Value) -> Result<Value, Error> {
    state.consume_fuel(slices as u64)?;
    let (length, longer) = (items.len() / slices, items.len() % slices);
    let mut rest = items;
    let slices = (0..slices).map(|index| {
        let (slice, behind) = rest.split_at(length + usize::from(index < longer));
        rest = behind;
        let filled = (is_filled(fill) && index >= longer).then(|| fill.clone());
        Value::from(slice.iter().cloned().chain(filled).collect::<Vec<Value>>())
    });
    Ok(slices.collect())
}

fn is_filled(fill: &Value) -> bool {
    !fill.is_undefined() && !fill.is_none()
}
