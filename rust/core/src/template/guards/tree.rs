//! Finds in a template's syntax tree where guards belong.

use minijinja::machinery::Span;
use minijinja::machinery::ast::{BinOp, BinOpKind, CallArg, Compare, CompareOp, CompareOpKind, Expr, Stmt};

use super::{
    KEY, LAZY_FILTERS, LAZY_FUNCTION, LAZY_METHODS, NAMES_OUT, OF_LISTS, OF_MAPS, OF_NUMBERS, OF_TEXTS, ORDERED, PLACE, PLAIN, READERS,
    SAFE, TAKE_SAFE, TEXT, WHOLE, has,
};

/// A text in the place of some bytes of the source, or of none.
pub(super) struct Edit {
    pub start: usize,
    pub end: usize,
    pub text: String,
}

/// The guards of a source.
pub(super) struct Guards<'source> {
    source: &'source str,
    /// In the order in which they were met: of those that end at one place the inner one first.
    pub edits: Vec<Edit>,
    /// What in it is not known here.
    pub refused: Option<String>,
    has_safe: bool,
}

impl Guards<'_> {
    /// None yet.
    pub(super) fn new(source: &str) -> Guards<'_> {
        Guards { source, edits: Vec::new(), refused: None, has_safe: source.contains(SAFE) }
    }

    fn edit(&mut self, start: usize, end: usize, text: &str) {
        self.edits.push(Edit { start, end, text: text.to_owned() });
    }

    /// Sends an expression's value through a filter.
    fn filter(&mut self, expression: &Expr, name: &str) {
        let (start, end) = (start(expression), end(expression));
        // In brackets of its own: what follows belongs to its value, not to the filter.
        self.edit(start, start, "((");
        self.edit(end, end, &format!(")|{name})"));
    }

    fn place(&mut self, expression: &Expr) {
        self.expression(expression);
        if !matches!(expression, Expr::Const(constant) if constant.value.is_integer() || constant.value.as_str().is_some()) {
            self.filter(expression, PLACE);
        }
    }

    fn key(&mut self, of: &Expr, name: &str, end: usize) {
        let is_method = [OF_MAPS, OF_LISTS, OF_TEXTS, OF_NUMBERS].iter().any(|methods| has(methods, name));
        if !is_method || matches!(of, Expr::Var(variable) if variable.id == "loop") {
            return;
        }
        let dot = self.source[..end - name.len()].trim_end().len() - 1;
        self.edit(start(of), start(of), "(");
        self.edit(dot, end, &format!("|{KEY}('{name}'))"));
    }

    fn all<'tree>(&mut self, expressions: impl IntoIterator<Item = &'tree Expr<'tree>>) {
        expressions.into_iter().for_each(|expression| self.expression(expression));
    }

    fn arguments(&mut self, arguments: &[CallArg]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(value) | CallArg::Kwarg(_, value) | CallArg::PosSplat(value) | CallArg::KwargSplat(value) => {
                    self.expression(value);
                }
            }
        }
    }

    fn expression(&mut self, expression: &Expr) {
        self.guard(expression, false);
    }

    /// An expression, or with `is_read` one of which a list is read once, from its start to its end.
    fn guard(&mut self, expression: &Expr, is_read: bool) {
        match expression {
            Expr::Var(variable) if NAMES_OUT.contains(&variable.id) => {
                self.refused = Some(format!("the name `{}`", variable.id));
            }
            Expr::Const(constant) if constant.value.is_number() && !is_number(&self.source[start(expression)..end(expression)]) => {
                self.refused = Some(format!("the number `{}`", &self.source[start(expression)..end(expression)]));
            }
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                self.side(&slice.expr, self.has_safe, PLAIN);
                [&slice.start, &slice.stop, &slice.step].into_iter().flatten().for_each(|place| self.place(place));
            }
            Expr::UnaryOp(operation) => self.expression(&operation.expr),
            Expr::BinOp(operation) => self.operation(operation),
            Expr::Compare(comparison) => self.comparison(comparison),
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr);
                self.guard(&choice.true_expr, is_read);
                choice.false_expr.iter().for_each(|other| self.guard(other, is_read));
            }
            Expr::Filter(filter) => {
                if let Some(value) = &filter.expr {
                    self.guard(value, READERS.contains(&filter.name));
                    self.side(value, self.has_safe && !TAKE_SAFE.contains(&filter.name), PLAIN);
                }
                self.arguments(&filter.args);
            }
            Expr::Test(test) => {
                self.expression(&test.expr);
                self.arguments(&test.args);
            }
            Expr::GetAttr(lookup) => {
                self.expression(&lookup.expr);
                self.key(&lookup.expr, lookup.name, to(lookup.span()));
            }
            Expr::GetItem(lookup) => {
                self.expression(&lookup.expr);
                self.side(&lookup.expr, self.has_safe, PLAIN);
                self.place(&lookup.subscript_expr);
            }
            Expr::Call(call) => self.call(&call.expr, &call.args),
            Expr::List(list) => self.all(&list.items),
            Expr::Tuple(tuple) => self.all(&tuple.items),
            Expr::Map(map) => map.keys.iter().zip(&map.values).for_each(|(key, value)| self.all([key, value])),
        }
        if !is_read && is_lazy(expression) {
            self.filter(expression, WHOLE);
        }
    }

    fn comparison(&mut self, comparison: &Compare) {
        let orders = |operation: Option<&CompareOp>| {
            operation.is_some_and(|operation| {
                matches!(operation.op, CompareOpKind::Lt | CompareOpKind::Lte | CompareOpKind::Gt | CompareOpKind::Gte)
            })
        };
        self.expression(&comparison.expr);
        self.side(&comparison.expr, orders(comparison.ops.first()), ORDERED);
        for (place, operation) in comparison.ops.iter().enumerate() {
            self.guard(&operation.expr, matches!(operation.op, CompareOpKind::In | CompareOpKind::NotIn));
            self.side(&operation.expr, orders(Some(operation)) || orders(comparison.ops.get(place + 1)), ORDERED);
        }
    }

    /// One side of an operator that asks for a guard, unless it is spelled out or joined by the operator itself.
    fn side(&mut self, side: &Expr, is_asked: bool, name: &str) {
        let is_plain = matches!(side, Expr::Const(_)) && (name != TEXT || is_text(side));
        let is_joined = matches!(side, Expr::BinOp(inner) if matches!(inner.op, BinOpKind::Concat));
        if is_asked && !is_plain && !is_joined {
            self.filter(side, name);
        }
    }

    fn operation(&mut self, operation: &BinOp) {
        self.expression(&operation.left);
        self.guard(&operation.right, matches!(operation.op, BinOpKind::In));
        let is_order = matches!(operation.op, BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte);
        for side in [&operation.left, &operation.right] {
            self.side(side, is_order, ORDERED);
            self.side(side, self.has_safe && matches!(operation.op, BinOpKind::Add | BinOpKind::Mul), PLAIN);
            self.side(side, matches!(operation.op, BinOpKind::Concat), TEXT);
        }
    }

    /// What is called may be a method.
    fn call(&mut self, callee: &Expr, arguments: &[CallArg]) {
        match callee {
            Expr::GetAttr(method) => self.expression(&method.expr),
            _ => self.expression(callee),
        }
        self.arguments(arguments);
    }

    fn statements(&mut self, statements: &[Stmt]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    /// The guards of a statement. Targets of assignments are names, not values: they stay as they are.
    pub(super) fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emitted) => self.expression(&emitted.expr),
            Stmt::ForLoop(each) => {
                self.guard(&each.iter, true);
                self.all(&each.filter_expr);
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(choice) => {
                self.expression(&choice.expr);
                self.statements(&choice.true_body);
                self.statements(&choice.false_body);
            }
            Stmt::WithBlock(with) => {
                self.all(with.assignments.iter().map(|(_, value)| value));
                self.statements(&with.body);
            }
            Stmt::Set(set) => self.expression(&set.expr),
            Stmt::SetBlock(set) => {
                self.all(&set.filter);
                self.statements(&set.body);
            }
            Stmt::AutoEscape(block) => self.statements(&block.body),
            Stmt::FilterBlock(block) => {
                self.expression(&block.filter);
                self.statements(&block.body);
            }
            Stmt::Block(block) => self.statements(&block.body),
            Stmt::Macro(macro_) => {
                self.all(&macro_.defaults);
                self.statements(&macro_.body);
            }
            Stmt::CallBlock(block) => {
                self.call(&block.call.expr, &block.call.args);
                self.all(&block.macro_decl.defaults);
                self.statements(&block.macro_decl.body);
            }
            Stmt::Do(done) => self.call(&done.call.expr, &done.call.args),
            Stmt::EmitRaw(_)
            | Stmt::Import(_)
            | Stmt::FromImport(_)
            | Stmt::Extends(_)
            | Stmt::Include(_)
            | Stmt::Continue(_)
            | Stmt::Break(_) => {}
        }
    }
}

fn is_text(expression: &Expr) -> bool {
    matches!(expression, Expr::Const(constant) if constant.value.as_str().is_some())
}

/// Digits, as a whole number or on both sides of a point: Jinja reads `1.` as a number and a point, and knows other bases and powers by
/// rules of its own.
fn is_number(text: &str) -> bool {
    text.split('.').count() <= 2 && text.split('.').all(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether it gives what Python only makes while it is read.
fn is_lazy(expression: &Expr) -> bool {
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

/// Where an expression starts. A chain's span starts at its last link.
fn start(expression: &Expr) -> usize {
    let first = match expression {
        Expr::Slice(slice) => Some(&slice.expr),
        Expr::BinOp(operation) => Some(&operation.left),
        Expr::Compare(comparison) => Some(&comparison.expr),
        Expr::IfExpr(choice) => Some(&choice.true_expr),
        Expr::Filter(filter) => filter.expr.as_ref(),
        Expr::Test(test) => Some(&test.expr),
        Expr::UnaryOp(operation) => Some(&operation.expr),
        Expr::GetAttr(lookup) => Some(&lookup.expr),
        Expr::GetItem(lookup) => Some(&lookup.expr),
        Expr::Call(call) => Some(&call.expr),
        Expr::Var(_) | Expr::Const(_) | Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => None,
    };
    let own = expression.span().start_offset as usize;
    first.map_or(own, |first| own.min(start(first)))
}

fn end(expression: &Expr) -> usize {
    to(expression.span())
}

fn to(span: Span) -> usize {
    span.end_offset as usize
}
