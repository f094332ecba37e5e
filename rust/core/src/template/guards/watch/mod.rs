//! Adds filters that watch the contents of messages: they fail where a template looks into one, so
//! that its output could depend on more than where the content goes. They are inserted into a source
//! that has its guards. In a watched rendering, each content has marks around it.
//!
//! Everything is watched except operations that treat all contents alike: writing, joining with
//! other text, storing, asking for the type, and asking whether it is empty. Three questions are
//! recorded: whether a content holds a literal, white space at its ends, and letters that JSON
//! escapes.
//!
//! An example (`the_example_at_the_head_is_watched`): a content may be written, but not compared.
//!
//! ```text
//! source    {{ m.content|trim if '<b>' in m.content or m.content == m.role }}
//! watched   {{ ((m.content)|__edges)|trim if '<b>' in ((m.content)|__holds('<b>'))
//!           or ((m.content)|__blind) == ((m.role)|__blind) }}
//! ```

mod blocks;

use std::collections::BTreeSet;

use minijinja::machinery::ast::{
    BinOp, BinOpKind, CallArg, CompareOpKind, Expr, Filter, UnaryOpKind,
};

use super::forms::{argument_value, end, is_text};
use super::scopes::{FUNCTIONS, LOOP};
use super::tree::{Edit, HOLD};
use super::{
    ATTRIBUTE, FLAT, HELD, ITEM, LOOPED, MATERIALIZED, PAID, PASSED, PLAIN, READ, SAFE, TEXT,
};
use crate::template::python::is_space;
use crate::template::source::FILTER;

/// Fails if a value holds a content.
pub(in crate::template) const BLIND: &str = "__blind";
/// Fails if a value is a text with a content in it. Lists and maps may hold some.
pub(in crate::template) const WHOLE: &str = "__whole";
/// Records that contents are asked for a literal.
pub(in crate::template) const HOLDS: &str = "__holds";
/// Records that white space at the ends of contents is removed.
pub(in crate::template) const EDGES: &str = "__edges";
/// Records that contents are written as JSON.
pub(in crate::template) const JSON: &str = "__json";

/// Filters that pass their value on, whatever it is.
const PASS: [&str; 12] =
    [HELD, FLAT, PAID, PASSED, READ, PLAIN, TEXT, SAFE, MATERIALIZED, "default", "d", "string"];
/// Filters that read the items of a list, or the letters of a text.
const OF_LISTS: [&str; 7] = [LOOPED, "count", "first", "join", "last", "length", "list"];
/// Tests that ask for the type.
const OF_TYPES: [&str; 14] = [
    "boolean",
    "callable",
    "defined",
    "false",
    "float",
    "integer",
    "iterable",
    "mapping",
    "none",
    "number",
    "sequence",
    "string",
    "true",
    "undefined",
];
/// The block of a call, which is watched like a macro, and a function that ends the rendering.
const CALLER: &str = "caller";
const RAISE: &str = "raise_exception";
/// Arguments of `tojson` that do not decide how a text is written.
const LAYOUTS: [&str; 3] = ["indent", "separators", "sort_keys"];
const STRIPS: [&str; 3] = ["lstrip", "rstrip", "strip"];
const ENDS: [&str; 2] = ["endswith", "startswith"];
const VIEWS: [&str; 3] = ["items", "keys", "values"];

/// The filters that watch a source.
pub(super) struct Watch<'source> {
    source: &'source str,
    pub(super) edits: Vec<Edit>,
    /// Whether the source has something that cannot be watched.
    pub(super) is_refused: bool,
    /// Whether a block removes white space around its text.
    pub(super) strips_blocks: bool,
    macros: BTreeSet<String>,
}

impl<'source> Watch<'source> {
    pub(super) fn new(source: &'source str) -> Watch<'source> {
        Watch {
            source,
            edits: Vec::new(),
            is_refused: false,
            strips_blocks: false,
            macros: BTreeSet::new(),
        }
    }

    /// Sends the value of an expression that starts at `start` through a filter.
    fn filter(&mut self, expression: &Expr, start: usize, name: &str) {
        let end = end(expression);
        // The filter of a block has no start.
        self.is_refused |= start > end;
        for (offset, text) in [(start, "((".to_owned()), (end, format!(")|{name})"))] {
            self.edits.push(Edit { start: offset, end: offset, text });
        }
    }

    /// Watches an expression whose value is looked into. Returns its start.
    fn blind(&mut self, expression: &Expr) -> usize {
        self.through(expression, BLIND)
    }

    /// Watches an expression, and sends its value through a filter unless it is a literal.
    fn through(&mut self, expression: &Expr, name: &str) -> usize {
        let start = self.expression(expression);
        if !matches!(expression, Expr::Const(_)) {
            self.filter(expression, start, name);
        }
        start
    }

    /// Watches one side of a comparison with a literal, or of a search for it.
    fn asked(&mut self, expression: &Expr, literal: &Expr) -> usize {
        let Some(text) = self.spelled(literal) else { return self.blind(expression) };
        self.through(expression, &format!("{HOLDS}({text})"))
    }

    /// A literal text as the source writes it.
    fn spelled(&self, literal: &Expr) -> Option<&'source str> {
        let span = literal.span();
        is_text(literal)
            .then(|| &self.source[span.start_offset as usize..span.end_offset as usize])
            .filter(|text| ["\"", "'"].iter().any(|quote| is_between(text, quote)))
    }

    fn arguments(&mut self, arguments: &[CallArg], is_blind: bool) {
        for argument in arguments {
            let value = argument_value(argument);
            if is_blind {
                self.blind(value);
            } else {
                self.expression(value);
            }
        }
    }

    /// Watches an expression. Returns where its first operand starts.
    fn expression(&mut self, expression: &Expr) -> usize {
        let start = expression.span().start_offset as usize;
        match expression {
            Expr::Var(variable) => {
                // A function under another name would not be known where it is called.
                self.is_refused |= self.is_function(variable.id);
                start
            }
            Expr::Const(_) => start,
            Expr::Slice(slice) => {
                let of = self.through(&slice.expr, WHOLE);
                for index in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    self.blind(index);
                }
                of
            }
            Expr::UnaryOp(operation) => {
                match operation.op {
                    UnaryOpKind::Not => self.expression(&operation.expr),
                    UnaryOpKind::Neg => self.blind(&operation.expr),
                };
                start
            }
            Expr::BinOp(operation) => self.operation(operation),
            Expr::Compare(comparison) => match &comparison.ops[..] {
                [only] => {
                    let (left, right) = (&comparison.expr, &only.expr);
                    match only.op {
                        CompareOpKind::Eq | CompareOpKind::Ne => self.equality(left, right),
                        CompareOpKind::In | CompareOpKind::NotIn => self.search(left, right),
                        _ => self.both(left, right),
                    }
                }
                more => {
                    let start = self.blind(&comparison.expr);
                    for one in more {
                        self.blind(&one.expr);
                    }
                    start
                }
            },
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr);
                choice.false_expr.as_ref().map(|other| self.expression(other));
                self.expression(&choice.true_expr)
            }
            Expr::Filter(filter) => self.filtered(filter),
            Expr::Test(test) => {
                self.arguments(&test.args, true);
                if OF_TYPES.contains(&test.name) {
                    self.expression(&test.expr)
                } else {
                    self.blind(&test.expr)
                }
            }
            // A text has no members.
            Expr::GetAttr(lookup) => self.expression(&lookup.expr),
            Expr::GetItem(lookup) if is_text(&lookup.subscript_expr) => {
                self.expression(&lookup.expr)
            }
            Expr::GetItem(lookup) => {
                self.blind(&lookup.subscript_expr);
                self.through(&lookup.expr, WHOLE)
            }
            Expr::Call(call) => self.call(&call.expr, &call.args),
            Expr::List(list) => self.holding(start, &list.items),
            Expr::Tuple(tuple) => self.holding(start, &tuple.items),
            Expr::Map(map) => {
                for key in &map.keys {
                    self.blind(key);
                }
                self.holding(start, &map.values)
            }
        }
    }

    fn is_function(&self, name: &str) -> bool {
        let is_known = HOLD.contains(&name) || FUNCTIONS.contains(&name);
        is_known && ![CALLER, LOOP].contains(&name) || self.macros.contains(name)
    }

    fn holding<'tree>(
        &mut self,
        start: usize,
        items: impl IntoIterator<Item = &'tree Expr<'tree>>,
    ) -> usize {
        items.into_iter().map(|item| self.expression(item)).fold(start, usize::min)
    }

    fn operation(&mut self, operation: &BinOp) -> usize {
        let (left, right) = (&operation.left, &operation.right);
        match operation.op {
            BinOpKind::Add | BinOpKind::Concat | BinOpKind::ScAnd | BinOpKind::ScOr => {
                self.expression(right);
                self.expression(left)
            }
            BinOpKind::Eq | BinOpKind::Ne => self.equality(left, right),
            BinOpKind::In => self.search(left, right),
            _ => self.both(left, right),
        }
    }

    fn both(&mut self, left: &Expr, right: &Expr) -> usize {
        self.blind(right);
        self.blind(left)
    }

    /// No text equals a literal of another type.
    fn equality(&mut self, left: &Expr, right: &Expr) -> usize {
        if matches!(right, Expr::Const(_)) && !is_text(right) {
            return self.expression(left);
        }
        if is_text(left) {
            self.asked(right, left);
            return left.span().start_offset as usize;
        }
        self.blind(right);
        self.asked(left, right)
    }

    fn search(&mut self, wanted: &Expr, within: &Expr) -> usize {
        self.asked(within, wanted);
        self.blind(wanted)
    }

    fn filtered(&mut self, filter: &Filter) -> usize {
        let Some(value) = &filter.expr else {
            self.of_block(filter);
            return usize::MAX;
        };
        match filter.name {
            name if PASS.contains(&name) => {
                self.arguments(&filter.args, false);
                self.expression(value)
            }
            name if OF_LISTS.contains(&name) => {
                self.arguments(&filter.args, false);
                self.through(value, WHOLE)
            }
            ITEM | ATTRIBUTE => {
                self.arguments(&filter.args, true);
                self.through(value, WHOLE)
            }
            "trim" if strips_space(&filter.args) => self.through(value, EDGES),
            "tojson" if filter.args.iter().all(is_layout) => {
                self.arguments(&filter.args, true);
                self.through(value, JSON)
            }
            _ => {
                self.arguments(&filter.args, true);
                self.blind(value)
            }
        }
    }

    /// A filter of a block has no expression to watch.
    fn of_block(&mut self, filter: &Filter) {
        match filter.name {
            FILTER => {}
            "trim" if filter.args.is_empty() => self.strips_blocks = true,
            _ => self.is_refused = true,
        }
    }

    fn call(&mut self, callee: &Expr, arguments: &[CallArg]) -> usize {
        match callee {
            Expr::GetAttr(method) => {
                let (of, name) = (&method.expr, method.name);
                match arguments {
                    _ if STRIPS.contains(&name) && strips_space(arguments) => {
                        self.through(of, EDGES)
                    }
                    [CallArg::Pos(literal)] if ENDS.contains(&name) && is_text(literal) => {
                        self.asked(of, literal)
                    }
                    [] if VIEWS.contains(&name) => self.through(of, WHOLE),
                    [CallArg::Pos(Expr::Const(_)), ..] if name == "get" => {
                        self.arguments(arguments, false);
                        self.through(of, WHOLE)
                    }
                    _ => {
                        self.arguments(arguments, true);
                        self.blind(of)
                    }
                }
            }
            Expr::Var(function) => {
                let name = function.id;
                let holds = HOLD.contains(&name)
                    || [CALLER, RAISE].contains(&name)
                    || self.macros.contains(name);
                self.arguments(arguments, !holds);
                callee.span().start_offset as usize
            }
            _ => {
                self.arguments(arguments, true);
                self.blind(callee)
            }
        }
    }
}

/// Whether an argument of `tojson` only says what goes around texts.
fn is_layout(argument: &CallArg) -> bool {
    matches!(argument, CallArg::Kwarg(name, _) if LAYOUTS.contains(name))
}

fn is_between(text: &str, quote: &str) -> bool {
    text.strip_prefix(quote).is_some_and(|rest| rest.ends_with(quote))
}

/// Whether arguments of a method that strips a text name only white space, or there are none.
fn strips_space(arguments: &[CallArg]) -> bool {
    match arguments {
        [] => true,
        [CallArg::Pos(Expr::Const(letters))] => {
            letters.value.as_str().is_some_and(|letters| letters.chars().all(is_space))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
