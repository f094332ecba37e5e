//! Watches the statements of a template: assignments, loops, conditions, macros.

use minijinja::machinery::ast::{Expr, Stmt};

use super::{BLIND, LOOPED, MATERIALIZED, VIEWS, WHOLE, Watch};
use crate::template::guards::scopes::{Macros, collect};

impl Watch<'_> {
    /// Watches a value that is assigned to a name, or spread over several.
    fn assigned(&mut self, target: &Expr, value: &Expr) {
        if is_name(target) {
            self.expression(value);
        } else {
            self.through(value, WHOLE);
        }
    }

    fn statements(&mut self, statements: &[Stmt]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    pub(in crate::template::guards) fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Template(template) => {
                let mut macros = Macros::new();
                collect(&template.children, &mut macros);
                self.macros = macros.into_keys().collect();
                self.statements(&template.children);
            }
            Stmt::EmitExpr(emitted) => _ = self.expression(&emitted.expr),
            Stmt::ForLoop(each) => {
                let is_spread = !is_name(&each.target) && !are_pairs(&each.iter);
                self.through(&each.iter, if is_spread { BLIND } else { WHOLE });
                each.filter_expr.as_ref().map(|filter| self.expression(filter));
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(choice) => {
                self.expression(&choice.expr);
                self.statements(&choice.true_body);
                self.statements(&choice.false_body);
            }
            Stmt::WithBlock(with) => {
                for (target, value) in &with.assignments {
                    self.assigned(target, value);
                }
                self.statements(&with.body);
            }
            Stmt::Set(set) => self.assigned(&set.target, &set.expr),
            Stmt::SetBlock(set) => {
                set.filter.as_ref().map(|filter| self.expression(filter));
                self.statements(&set.body);
            }
            Stmt::FilterBlock(block) => {
                self.expression(&block.filter);
                self.statements(&block.body);
            }
            Stmt::Macro(of) => {
                for default in &of.defaults {
                    self.expression(default);
                }
                self.statements(&of.body);
            }
            Stmt::CallBlock(block) => {
                self.call(&block.call.expr, &block.call.args);
                self.statements(&block.macro_decl.body);
            }
            Stmt::Do(done) => _ = self.call(&done.call.expr, &done.call.args),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
            Stmt::AutoEscape(_)
            | Stmt::Block(_)
            | Stmt::Import(_)
            | Stmt::FromImport(_)
            | Stmt::Extends(_)
            | Stmt::Include(_) => self.is_refused = true,
        }
    }
}

/// Whether the items of a value are those of a map, which are pairs.
fn are_pairs(value: &Expr) -> bool {
    match value {
        Expr::Call(call) => matches!(&call.expr, Expr::GetAttr(method) if method.name == VIEWS[0]),
        Expr::Filter(filter) => {
            [LOOPED, MATERIALIZED].contains(&filter.name)
                && filter.expr.as_ref().is_some_and(are_pairs)
        }
        _ => false,
    }
}

fn is_name(target: &Expr) -> bool {
    matches!(target, Expr::Var(_) | Expr::GetAttr(_))
}
