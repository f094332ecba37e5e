//! Tells shapes by the columns of a row, and says what a row of no known shape may be.

use super::columns::Columns;
use super::{SHAPES, Shape, not_of_shape};
use crate::stage::Reason;

/// Columns that an error names.
const COLUMNS_NAMED: usize = 12;
/// Characters of a column's name that an error repeats.
const NAME_CHARS_MAX: usize = 40;

/// The first shape for a command that a row has the columns of.
pub(super) fn shape(row: &Columns<'_>, compares: bool) -> Option<&'static Shape> {
    SHAPES.iter().find(|shape| shape.compares == compares && fits(shape, row))
}

/// Whether a row has the columns of a shape. Each of `told_by` is a list of columns that must all be
/// there and not null: `chosen:text` must be a text, `chosen:list` a list, and `chosen:[role]` a list
/// which is empty or whose first element has the field `role`.
pub(super) fn fits(shape: &Shape, row: &Columns<'_>) -> bool {
    shape.told_by.iter().any(|columns| columns.split(' ').all(|column| has(row, column)))
}

fn has(row: &Columns<'_>, column: &str) -> bool {
    let (name, kind) = column.split_once(':').unwrap_or((column, ""));
    let Ok(Some(value)) = row.get(name) else { return false };
    match kind {
        "" => true,
        "text" => value.starts_with('"'),
        "list" => value.starts_with('['),
        field => {
            let field = field.trim_matches(['[', ']']);
            let Ok(objects) = row.objects(name) else { return false };
            objects.first().is_none_or(|first| first.names().any(|name| name == field))
        }
    }
}

/// The names of the columns that tell a shape.
fn names(columns: &'static str) -> impl Iterator<Item = &'static str> {
    columns.split(' ').map(|column| column.split(':').next().unwrap_or(column))
}

/// Whether a row has any of the columns that tell a shape.
pub(super) fn resembles(shape: &Shape, row: &Columns<'_>) -> bool {
    let has = |name: &str| row.names().any(|column| column == name);
    shape.told_by.iter().any(|columns| names(columns).any(has))
}

/// Why a row is of no known shape: its columns, the nearest shape, and the way out.
pub(super) fn unknown(row: &Columns<'_>, compares: bool) -> Reason {
    let columns: Vec<String> = row.names().map(shown).collect();
    let more = columns.len().saturating_sub(COLUMNS_NAMED);
    let mut listed = columns.iter().take(COLUMNS_NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        listed = format!("{listed} and {more} more");
    }
    let other = SHAPES.iter().find(|shape| shape.compares != compares && fits(shape, row));
    let advice = match other {
        Some(shape) => {
            let command = if compares { "prep" } else { "binarize" };
            format!("rows of shape `{}` are read by `zephyr-fast {command}`", shape.name)
        }
        None => nearest(row, compares),
    };
    let listed = if columns.is_empty() { "none".to_owned() } else { listed };
    not_of_shape(format!("no known shape has its columns ({listed}); {advice}"))
}

/// The shape that lacks the fewest columns, and how to name them.
fn nearest(row: &Columns<'_>, compares: bool) -> String {
    let has = |name: &str| matches!(row.get(name), Ok(Some(_)));
    let candidates = SHAPES.iter().filter(|shape| shape.compares == compares);
    let candidates =
        candidates.flat_map(|shape| shape.told_by.iter().map(move |columns| (shape, *columns)));
    let lacking = |columns: &'static str| names(columns).filter(|name| !has(name)).count();
    let known = |columns: &'static str| names(columns).filter(|name| has(name)).count();
    let best =
        candidates.min_by_key(|(_, columns)| (std::cmp::Reverse(known(columns)), lacking(columns)));
    let Some((shape, columns)) = best else { return String::new() };
    let wanted = names(columns).map(shown).collect::<Vec<_>>().join(", ");
    let missing = names(columns).find(|name| !has(name));
    if known(columns) == 0 {
        let example = if compares { "chosen" } else { "completion" };
        return format!(
            "if its columns have other names, add e.g. `--map prompt=…` and `--map {example}=…`"
        );
    }
    // The longest text is likelier than an id.
    let is_free = |(name, value): &(&str, &str)| {
        value.starts_with('"') && !names(columns).any(|wanted| wanted == *name)
    };
    let free = row.members().filter(is_free).max_by_key(|(_, value)| value.len());
    let free = free.map(|(name, _)| name);
    let hint = match (missing, free) {
        (Some(missing), Some(free)) => {
            let free = head(free);
            format!("; if `{free}` is its `{missing}`, add `--map {missing}={free}`")
        }
        (Some(missing), None) => format!("; it has no `{missing}`"),
        (None, _) => ", but its columns have other types".to_owned(),
    };
    format!("the nearest shape is `{}` ({wanted}){hint}", shape.name)
}

fn shown(name: &str) -> String {
    format!("`{}`", head(name))
}

fn head(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}
