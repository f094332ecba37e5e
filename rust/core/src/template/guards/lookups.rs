//! Keys that a map lacks and that name one of Python's methods. In Jinja, `spec['items']` is then the
//! method, which is true; minijinja yields undefined. Such a lookup is an error, unless the key is
//! there.
//!
//! An example (`lookups_become_filters_if_the_key_may_name_a_method`):
//!
//! ```text
//! source    {{ spec['items'] }} {{ spec['type'] }} {{ spec[key] }}
//! guarded   {{ ((spec)|__item('items')) }} {{ spec['type'] }} {{ ((spec)|__item(key)) }}
//! ```

use minijinja::machinery::ast::{CallArg, Expr, Filter, GetItem, Spanned};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, State};

use super::forms::{end, is_integer, is_text, to};
use super::tree::Guards;
use super::{ITEM, PATHS, is_method, names_method};
use crate::template::python::{check_loop, differs, is_space};

/// Filters that look up the attribute of their first argument, and the one that takes it by name.
const BY_POSITION: [&str; 2] = ["rejectattr", "selectattr"];
const BY_NAME: &str = "map";

impl Guards<'_> {
    /// Replaces an index in brackets, after an operand that starts at `start`, by a filter.
    pub(super) fn replace_lookup(&mut self, lookup: &Spanned<GetItem>, start: usize) {
        let index = &lookup.subscript_expr;
        let is_harmless = match index {
            Expr::Const(name) if is_text(index) => !name.value.as_str().is_some_and(names_method),
            _ => is_integer(index),
        };
        if is_harmless {
            return;
        }
        let (of, close) = (end(&lookup.expr), to(lookup.span()) - 1);
        let open = self.source[of..].find('[').map_or(of, |between| of + between);
        let is_closing = |letter: char| letter == ')' || is_space(letter);
        if !self.source[of..open].chars().all(is_closing) || !self.source[close..].starts_with(']')
        {
            self.refused = Some("such an index".to_owned());
            return;
        }
        self.edit(start, start, "((");
        self.edit(open, open + 1, &format!(")|{ITEM}("));
        self.edit(close, close + 1, "))");
    }

    /// The filter to send the input of a filter through that looks up an attribute.
    pub(super) fn paths_of(&mut self, filter: &Filter) -> Option<String> {
        let attribute = match filter.args.first() {
            Some(CallArg::Pos(attribute)) if BY_POSITION.contains(&filter.name) => attribute,
            _ if filter.name == BY_NAME => {
                filter.args.iter().find_map(|argument| match argument {
                    CallArg::Kwarg("attribute", attribute) => Some(attribute),
                    _ => None,
                })?
            }
            _ => return None,
        };
        let Expr::Const(path) = attribute else {
            self.refused = Some(format!("an attribute of `{}` that is not a literal", filter.name));
            return None;
        };
        let path = path.value.as_str()?;
        let is_harmless = !path.split('.').any(names_method) || path.contains('\'');
        (!is_harmless).then(|| format!("{PATHS}('{path}')"))
    }
}

/// The value at an index.
pub(super) fn item(state: &State, value: &Value, index: &Value) -> Result<Value, Error> {
    if value.kind() == ValueKind::Iterable {
        state.consume_fuel(value.len().unwrap_or_default() as u64)?;
    }
    let found = value.get_item(index)?;
    check(value, index, &found)?;
    Ok(found)
}

/// The value, if a path of keys never ends at a method in one of its items.
pub(super) fn paths(state: &State, value: &Value, path: &str) -> Result<Value, Error> {
    check_loop(value)?;
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        let mut of = item;
        for part in path.split('.').map(Value::from) {
            if of.is_undefined() {
                break;
            }
            let found = of.get_item(&part)?;
            check(&of, &part, &found)?;
            of = found;
        }
    }
    Ok(value.clone())
}

fn check(of: &Value, index: &Value, found: &Value) -> Result<(), Error> {
    match index.as_str() {
        Some(name) if found.is_undefined() && is_method(of, name) => {
            Err(differs(&format!("looking up `{name}`, which names a method of a {}", of.kind())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use minijinja::syntax::SyntaxConfig;

    use super::super::guarded;

    #[test]
    fn lookups_become_filters_if_the_key_may_name_a_method() {
        for (source, expected) in [
            ("{{ a['items'] }}", "{{ ((a)|__item('items')) }}"),
            ("{{ a['type'] + a[0] }}", "{{ a['type'] + ((a)|__read)[0] }}"),
            ("{{ (a.b) [c].d }}", "{{ (((((a.b)|__read)) )|__item(((c)|__index))).d }}"),
            (
                "{{ a|map(attribute='x.items') }}",
                "{{ ((((a)|__paths('x.items'))|map(attribute='x.items'))|__materialized) }}",
            ),
        ] {
            let guarded = guarded(source, SyntaxConfig::default()).expect("parses");
            assert_eq!(guarded, expected);
        }
        assert!(guarded("{{ a|selectattr(b) }}", SyntaxConfig::default()).is_err());
    }
}
