//! Guards chains of comparisons, and replaces operators that minijinja lacks for some values, or that
//! treat them otherwise, by filters.
//!
//! An example (`operators_become_filters_between_any_brackets`):
//!
//! ```text
//! source    {{ (a) + ('b'|safe) }}
//! guarded   {{ (((a) )|__plus( ('b'|safe))) }}
//! ```

use minijinja::machinery::ast::{BinOp, BinOpKind, Compare, CompareOpKind, Spanned};

use super::forms::{end, is_text, to};
use super::tree::Guards;
use super::{ORDERED, PAID, PERCENT, PLUS};
use crate::template::python::is_space;

impl Guards<'_> {
    /// Guards a chain of comparisons and returns its start. Operands of equality and `in` are
    /// charged unless the value on the other side is plain.
    pub(super) fn comparison(&mut self, comparison: &Compare) -> usize {
        let mut sides = vec![(&comparison.expr, self.expression(&comparison.expr))];
        for operation in &comparison.ops {
            let is_read = matches!(operation.op, CompareOpKind::In | CompareOpKind::NotIn);
            sides.push((&operation.expr, self.guard(&operation.expr, is_read)));
        }
        for (index, (side, outline)) in sides.iter().enumerate() {
            // The operators before and after this side, each with the opposite side.
            let before = index.checked_sub(1).map(|last| (comparison.ops[last].op, sides[last].1));
            let behind = comparison.ops.get(index).map(|next| (next.op, sides[index + 1].1));
            let mut near = before.iter().chain(&behind);
            let orders = |kind: CompareOpKind| {
                matches!(
                    kind,
                    CompareOpKind::Lt | CompareOpKind::Lte | CompareOpKind::Gt | CompareOpKind::Gte
                )
            };
            if near.clone().any(|(kind, _)| orders(*kind)) {
                self.side(side, *outline, true, ORDERED);
            } else {
                self.filter_if(near.any(|(_, across)| !across.is_plain), side, *outline, PAID);
            }
        }
        sides[0].1.start
    }

    /// Replaces an operation by a filter of its left operand, which starts at `start`, with the right
    /// one as the argument, if it may need one.
    pub(super) fn replace_operator(
        &mut self,
        operation: &Spanned<BinOp>,
        start: usize,
        has_safe: bool,
    ) {
        let (operator, name) = match operation.op {
            BinOpKind::Add if has_safe => ('+', PLUS),
            BinOpKind::Rem if is_text(&operation.left) => ('%', PERCENT),
            _ => return,
        };
        let left = end(&operation.left);
        let between = self.source[left..].find(operator).unwrap_or_default();
        let is_closing = |letter: char| letter == ')' || is_space(letter);
        if !self.source[left..left + between].chars().all(is_closing) {
            self.refused = Some(format!("such an operand of `{operator}`"));
            return;
        }
        let (at, end) = (left + between, to(operation.span()));
        self.edit(start, start, "((");
        self.edit(at, at + 1, &format!(")|{name}("));
        self.edit(end, end, "))");
    }
}

#[cfg(test)]
mod tests {
    use minijinja::syntax::SyntaxConfig;

    use super::super::guarded;

    #[test]
    fn operators_become_filters_between_any_brackets() {
        for (source, expected) in [
            ("{{ (a) + ('b'|safe) }}", "{{ (((a) )|__plus( ('b'|safe))) }}"),
            ("{{ a+b }}", "{{ a+b }}"),
            ("{{ 1 % 2 }}", "{{ 1 % 2 }}"),
            ("{{ '%d' % (a, 1) }}", "{{ (('%d' )|__percent( (((a)|__held), 1))) }}"),
        ] {
            assert_eq!(guarded(source, SyntaxConfig::default()).expect("parses"), expected);
        }
    }
}
