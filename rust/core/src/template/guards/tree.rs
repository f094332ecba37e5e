//! Finds the positions in a template's syntax tree that need guards.

use minijinja::machinery::ast::{BinOp, BinOpKind, CallArg, Expr, Filter, IfExpr, Spanned, Stmt};

use super::folding::Folding;
use super::forms::{
    PLAIN_FILTERS, argument_value, end, is_integer, is_lazy, is_loop, is_number, is_stored,
    is_text, to,
};
use super::outline::Outline;
use super::scopes::{self, Macros};
use super::{
    ATTRIBUTE, ESCAPE, FLAT, HELD, INDEX, LAZY_FILTERS, LAZY_METHODS, LOOPED, MATERIALIZED,
    NAMES_OUT, ORDERED, PAID, PLAIN, READ, READERS, SAFE, TAKE_SAFE, TEXT, names_method,
};

/// Filters that compare their input with their arguments, or its items with each other.
const COMPARE: [&str; 5] = ["map", "reject", "rejectattr", "select", "selectattr"];
const COMPARE_ITSELF: &str = "dictsort";
/// Attributes of a loop that are numbers or booleans.
const OF_LOOPS: [&str; 9] =
    ["depth", "depth0", "first", "index", "index0", "last", "length", "revindex", "revindex0"];
/// Functions that build a value from their arguments.
pub(super) const HOLD: [&str; 2] = ["dict", "namespace"];
/// Maximum nesting of lazy lists in one expression. Each of them is a native call when the list is read.
const NESTING_MAX: u32 = 32;

/// A text that replaces some bytes of the source, possibly zero.
pub(super) struct Edit {
    pub start: usize,
    pub end: usize,
    pub text: String,
}

/// The guards of a source.
pub(super) struct Guards<'source> {
    pub(super) source: &'source str,
    /// In the order of discovery. The inner one of several with the same end comes first.
    pub edits: Vec<Edit>,
    /// The unsupported feature, if the source uses one.
    pub refused: Option<String>,
    pub folding: Folding,
    pub(super) macros: Macros,
    has_safe: bool,
}

impl Guards<'_> {
    /// Creates an empty list of guards.
    pub(super) fn new(source: &str) -> Guards<'_> {
        Guards {
            source,
            edits: Vec::new(),
            refused: None,
            folding: Folding::default(),
            macros: Macros::new(),
            has_safe: source.contains(SAFE) || source.contains(ESCAPE),
        }
    }

    pub(super) fn edit(&mut self, start: usize, end: usize, text: &str) {
        self.edits.push(Edit { start, end, text: text.to_owned() });
    }

    /// Sends an expression's value through a filter.
    pub(super) fn filter(&mut self, expression: &Expr, outline: Outline, name: &str) {
        let end = end(expression);
        // Separate brackets, because an operator that follows belongs to the value, not the filter.
        self.edit(outline.start, outline.start, "((");
        self.edit(end, end, &format!(")|{name})"));
    }

    /// Adds a filter if requested and if the value may not be plain.
    pub(super) fn filter_if(
        &mut self,
        is_asked: bool,
        expression: &Expr,
        outline: Outline,
        name: &str,
    ) {
        if is_asked && !outline.is_plain {
            self.filter(expression, outline, name);
        }
    }

    fn index(&mut self, expression: &Expr) {
        let outline = self.expression(expression);
        if !is_integer(expression) && !is_text(expression) {
            self.filter(expression, outline, INDEX);
        }
    }

    fn key(&mut self, of: &Expr, outline: Outline, name: &str, end: usize) {
        if !names_method(name) || is_loop(of) {
            return;
        }
        let dot = self.source[..end - name.len()].trim_end().len() - 1;
        self.edit(outline.start, outline.start, "(");
        self.edit(dot, end, &format!("|{ATTRIBUTE}('{name}'))"));
    }

    fn all<'tree>(&mut self, expressions: impl IntoIterator<Item = &'tree Expr<'tree>>) {
        expressions.into_iter().for_each(|expression| _ = self.expression(expression));
    }

    /// Guards the items of a list or a map. Returns the start of the expression.
    fn held(&mut self, expression: &Expr) -> usize {
        let outline = self.expression(expression);
        let is_made_here = matches!(expression, Expr::List(_) | Expr::Tuple(_) | Expr::Map(_));
        self.filter_if(!is_made_here, expression, outline, HELD);
        outline.start
    }

    /// Guards a value that is assigned to a name. Returns the start of the expression.
    pub(super) fn named(&mut self, expression: &Expr) -> usize {
        let outline = self.expression(expression);
        self.filter_if(!is_stored(expression), expression, outline, FLAT);
        outline.start
    }

    /// Guards arguments. Returns whether all of them are plain.
    fn arguments(&mut self, arguments: &[CallArg], name: &str) -> bool {
        let outlines: Vec<Outline> =
            arguments.iter().map(|argument| self.expression(argument_value(argument))).collect();
        for (argument, outline) in arguments.iter().zip(&outlines) {
            self.filter_if(!name.is_empty(), argument_value(argument), *outline, name);
        }
        outlines.iter().all(|outline| outline.is_plain)
    }

    pub(super) fn expression(&mut self, expression: &Expr) -> Outline {
        self.guard(expression, false)
    }

    /// Guards an expression. With `is_read`, a resulting list is read only once, from start to end.
    pub(super) fn guard(&mut self, expression: &Expr, is_read: bool) -> Outline {
        let is_constant = self.folding.enter(expression, self.edits.len());
        let outline = self.inner(expression, is_read);
        if is_constant {
            self.folding.leave(self.edits.len());
        }
        if !is_read && is_lazy(expression) {
            self.filter(expression, outline, MATERIALIZED);
        }
        if outline.nesting <= NESTING_MAX {
            return outline;
        }
        self.filter(expression, outline, FLAT);
        Outline { nesting: 0, ..outline }
    }

    fn inner(&mut self, expression: &Expr, is_read: bool) -> Outline {
        let start = expression.span().start_offset as usize;
        match expression {
            Expr::Var(variable) => {
                if NAMES_OUT.contains(&variable.id) {
                    self.refused = Some(format!("the name `{}`", variable.id));
                }
                Outline::at(start, 0)
            }
            Expr::Const(constant) => {
                let text = &self.source[start..end(expression)];
                if constant.value.is_number() && !is_number(text) {
                    self.refused = Some(format!("the number `{text}`"));
                }
                Outline::plain(start)
            }
            Expr::Slice(slice) => {
                let of = self.expression(&slice.expr);
                self.side(&slice.expr, of, self.has_safe, PLAIN);
                self.filter_if(true, &slice.expr, of, READ);
                [&slice.start, &slice.stop, &slice.step]
                    .into_iter()
                    .flatten()
                    .for_each(|index| self.index(index));
                Outline::at(of.start, of.nesting + 1)
            }
            Expr::UnaryOp(operation) => {
                self.expression(&operation.expr);
                Outline::plain(start)
            }
            Expr::BinOp(operation) => self.operation(operation),
            Expr::Compare(comparison) => Outline::plain(self.comparison(comparison)),
            Expr::IfExpr(choice) => self.choice(choice, is_read),
            Expr::Filter(filter) => self.filtered(filter),
            Expr::Test(test) => {
                let of = self.expression(&test.expr);
                let pays = !self.arguments(&test.args, PAID);
                self.filter_if(pays, &test.expr, of, PAID);
                Outline::plain(of.start)
            }
            Expr::GetAttr(lookup) => {
                let of = self.expression(&lookup.expr);
                self.key(&lookup.expr, of, lookup.name, to(lookup.span()));
                let is_plain = is_loop(&lookup.expr) && OF_LOOPS.contains(&lookup.name);
                Outline { is_plain, ..Outline::at(of.start, 0) }
            }
            Expr::GetItem(lookup) => {
                let of = self.expression(&lookup.expr);
                self.side(&lookup.expr, of, self.has_safe, PLAIN);
                self.filter_if(!is_text(&lookup.subscript_expr), &lookup.expr, of, READ);
                self.index(&lookup.subscript_expr);
                self.replace_lookup(lookup, of.start);
                Outline::at(of.start, 0)
            }
            Expr::Call(call) => self.call(&call.expr, &call.args),
            Expr::List(list) => self.holding(start, &list.items),
            Expr::Tuple(tuple) => self.holding(start, &tuple.items),
            Expr::Map(map) => self.holding(
                start,
                map.keys.iter().zip(&map.values).flat_map(|(key, value)| [key, value]),
            ),
        }
    }

    /// Guards a list or map literal. A tuple without brackets starts with its first item.
    fn holding<'tree>(
        &mut self,
        start: usize,
        items: impl IntoIterator<Item = &'tree Expr<'tree>>,
    ) -> Outline {
        let first = items.into_iter().map(|item| self.held(item)).min();
        Outline::at(first.map_or(start, |first| first.min(start)), 0)
    }

    fn choice(&mut self, choice: &IfExpr, is_read: bool) -> Outline {
        self.expression(&choice.test_expr);
        let one = self.guard(&choice.true_expr, is_read);
        let other = choice
            .false_expr
            .as_ref()
            .map_or(Outline::plain(0), |other| self.guard(other, is_read));
        Outline {
            start: one.start,
            nesting: one.nesting.max(other.nesting),
            is_plain: one.is_plain && other.is_plain,
        }
    }

    fn filtered(&mut self, filter: &Filter) -> Outline {
        let compares = COMPARE.contains(&filter.name);
        let of = filter
            .expr
            .as_ref()
            .map(|value| (value, self.guard(value, READERS.contains(&filter.name))));
        let pays = !self.arguments(&filter.args, if compares { PAID } else { "" }) && compares;
        let Some((value, of)) = of else { return Outline::at(usize::MAX, 0) };
        self.side(value, of, self.has_safe && !TAKE_SAFE.contains(&filter.name), PLAIN);
        self.filter_if(pays || filter.name == COMPARE_ITSELF, value, of, PAID);
        if let Some(paths) = self.paths_of(filter) {
            self.filter(value, of, &paths);
        }
        let nesting = of.nesting + u32::from(LAZY_FILTERS.contains(&filter.name));
        Outline { start: of.start, nesting, is_plain: PLAIN_FILTERS.contains(&filter.name) }
    }

    /// Guards one side of an operator, unless it is a literal or an operand that it joined itself.
    pub(super) fn side(&mut self, side: &Expr, outline: Outline, is_asked: bool, name: &str) {
        let is_spelled = matches!(side, Expr::Const(_)) && (name != TEXT || is_text(side));
        let is_joined = matches!(side, Expr::BinOp(inner) if matches!(inner.op, BinOpKind::Concat));
        if is_asked && !is_spelled && !is_joined {
            self.filter(side, outline, name);
        }
    }

    fn operation(&mut self, operation: &Spanned<BinOp>) -> Outline {
        let left = self.expression(&operation.left);
        let right = self.guard(&operation.right, matches!(operation.op, BinOpKind::In));
        let is_order =
            matches!(operation.op, BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte);
        let pays = matches!(operation.op, BinOpKind::Eq | BinOpKind::Ne | BinOpKind::In)
            && !left.is_plain
            && !right.is_plain;
        for (side, outline) in [(&operation.left, left), (&operation.right, right)] {
            self.side(side, outline, is_order, ORDERED);
            self.side(
                side,
                outline,
                self.has_safe && matches!(operation.op, BinOpKind::Mul),
                PLAIN,
            );
            self.side(side, outline, matches!(operation.op, BinOpKind::Concat), TEXT);
            self.filter_if(pays, side, outline, PAID);
        }
        self.replace_operator(operation, left.start, self.has_safe);
        let nesting = left.nesting.max(right.nesting);
        let (is_plain, nesting) = match operation.op {
            // Adding to a text or a number yields a text or a number, or an error.
            BinOpKind::Add => (left.is_plain || right.is_plain, nesting + 1),
            BinOpKind::Mul => (left.is_plain && right.is_plain, nesting + 1),
            BinOpKind::ScAnd | BinOpKind::ScOr => (left.is_plain && right.is_plain, nesting),
            _ => (true, 0),
        };
        Outline { start: left.start, nesting: if is_plain { 0 } else { nesting }, is_plain }
    }

    /// Guards a call, whose callee may be a method. Returns its start and the nesting of its
    /// result.
    fn call(&mut self, callee: &Expr, arguments: &[CallArg]) -> Outline {
        let Expr::GetAttr(method) = callee else {
            let of = self.expression(callee);
            if matches!(callee, Expr::Var(function) if HOLD.contains(&function.id)) {
                self.arguments(arguments, HELD);
            } else {
                self.passed(callee, arguments);
            }
            return Outline::at(of.start, 0);
        };
        let of = self.expression(&method.expr);
        let pays = !self.arguments(arguments, PAID);
        self.filter_if(pays && !is_loop(&method.expr), &method.expr, of, PAID);
        Outline::at(of.start, of.nesting + u32::from(LAZY_METHODS.contains(&method.name)))
    }

    fn statements(&mut self, statements: &[Stmt]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    /// Adds the guards of a statement. Assignment targets are names, so they stay unchanged.
    pub(super) fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Template(template) => {
                scopes::collect(&template.children, &mut self.macros);
                self.statements(&template.children);
            }
            Stmt::EmitExpr(emitted) => _ = self.expression(&emitted.expr),
            Stmt::ForLoop(each) => {
                let outline = self.guard(&each.iter, true);
                let may_be_text =
                    matches!(&each.iter, Expr::Filter(filter) if filter.name == "reverse");
                let is_list =
                    is_lazy(&each.iter) && !may_be_text || matches!(each.iter, Expr::List(_));
                self.filter_if(!is_list, &each.iter, outline, LOOPED);
                self.all(&each.filter_expr);
                self.statements(&each.body);
                if scopes::assigns(&each.else_body) {
                    self.refused = Some("`set` behind the `else` of a loop".to_owned());
                }
                self.statements(&each.else_body);
            }
            Stmt::IfCond(choice) => {
                self.expression(&choice.expr);
                self.statements(&choice.true_body);
                self.statements(&choice.false_body);
            }
            Stmt::WithBlock(with) => {
                self.with_block(with);
                self.statements(&with.body);
            }
            Stmt::Set(set) if matches!(set.target, Expr::GetAttr(_)) => {
                let outline = self.expression(&set.expr);
                self.filter_if(true, &set.expr, outline, HELD);
            }
            Stmt::Set(set) => _ = self.named(&set.expr),
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
                self.defaults(macro_);
                self.statements(&macro_.body);
            }
            Stmt::CallBlock(block) => {
                self.call(&block.call.expr, &block.call.args);
                if !block.macro_decl.defaults.is_empty() {
                    self.refused = Some("a default of a `call` block".to_owned());
                }
                self.statements(&block.macro_decl.body);
            }
            Stmt::Do(done) => _ = self.call(&done.call.expr, &done.call.args),
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
