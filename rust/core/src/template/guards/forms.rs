//! Classifies template expressions by their syntax.

use minijinja::machinery::Span;
use minijinja::machinery::ast::{CallArg, Expr};

use super::{LAZY_FILTERS, LAZY_FUNCTION, LAZY_METHODS};

/// Filters that return a text or a number, or fail.
pub(super) const PLAIN_FILTERS: [&str; 13] = [
    "abs",
    "capitalize",
    "count",
    "format",
    "join",
    "length",
    "lower",
    "replace",
    "string",
    "title",
    "tojson",
    "trim",
    "upper",
];

pub(super) fn argument_value<'tree>(argument: &'tree CallArg<'tree>) -> &'tree Expr<'tree> {
    match argument {
        CallArg::Pos(value)
        | CallArg::Kwarg(_, value)
        | CallArg::PosSplat(value)
        | CallArg::KwargSplat(value) => value,
    }
}

pub(super) fn is_loop(expression: &Expr) -> bool {
    matches!(expression, Expr::Var(variable) if variable.id == "loop")
}

pub(super) fn is_integer(expression: &Expr) -> bool {
    matches!(expression, Expr::Const(constant) if constant.value.is_integer())
}

pub(super) fn is_text(expression: &Expr) -> bool {
    matches!(expression, Expr::Const(constant) if constant.value.as_str().is_some())
}

/// Digits, either an integer or with digits on both sides of a point. Jinja reads `1.` as a number
/// followed by a point, and has its own rules for other bases and exponents.
pub(super) fn is_number(text: &str) -> bool {
    text.split('.').count() <= 2
        && text
            .split('.')
            .all(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether the expression yields a value that Python evaluates lazily.
pub(super) fn is_lazy(expression: &Expr) -> bool {
    match expression {
        Expr::Filter(filter) => LAZY_FILTERS.contains(&filter.name) && filter.expr.is_some(),
        Expr::Call(call) => match &call.expr {
            Expr::GetAttr(method) => LAZY_METHODS.contains(&method.name),
            Expr::Var(function) => function.id == LAZY_FUNCTION,
            _ => false,
        },
        _ => false,
    }
}

/// Whether the value is stored already: it has a name, or is a literal list, tuple or map.
pub(super) fn is_stored(expression: &Expr) -> bool {
    matches!(
        expression,
        Expr::Var(_)
            | Expr::GetAttr(_)
            | Expr::GetItem(_)
            | Expr::List(_)
            | Expr::Tuple(_)
            | Expr::Map(_)
    )
}

pub(super) fn end(expression: &Expr) -> usize {
    to(expression.span())
}

pub(super) fn to(span: Span) -> usize {
    span.end_offset as usize
}
