//! Bounds the work of minijinja's constant folding, the only part of its compiler that is not
//! linear in the source: it visits all operands of a chain of operators once for each operator.
//!
//! An example (`the_example_at_the_head_costs_its_visits`): `a ~ b ~ c` parses as `(a ~ b) ~ c`.
//! The compiler visits five expressions to find that the chain is not constant, then the three of
//! `a ~ b`, then each operand: 5 + 3 + 1 + 1 + 1 = 11. `1 + 2 + 3` is constant: five visits.

use minijinja::machinery::ast::Expr;

/// Maximum number of visits in one template. A chain of 1,400 operators uses all of them, which
/// takes some ten milliseconds.
const VISITS_MAX: usize = 2_000_000;

/// Counts the visits of a template.
#[derive(Default)]
pub(super) struct Folding {
    visits: usize,
    /// How many edits there were before the constant expression that is being guarded.
    constant_since: Option<usize>,
    constant_size: usize,
}

impl Folding {
    /// Counts the visits that begin at an expression. Returns whether it is the start of a constant
    /// one, which is then passed to `leave`.
    pub(super) fn enter(&mut self, expression: &Expr, edits: usize) -> bool {
        if self.constant_since.is_some() || self.is_exceeded() {
            return false;
        }
        let size = size(expression);
        self.visits += size;
        // Of one expression, there is nothing to fold.
        if size == 1 || self.is_exceeded() || expression.as_const().is_none() {
            return false;
        }
        (self.constant_since, self.constant_size) = (Some(edits), size);
        true
    }

    /// Ends a constant expression. With a guard inside, it is not constant any more.
    pub(super) fn leave(&mut self, edits: usize) {
        if self.constant_since.take().is_some_and(|before| before < edits) {
            let all = self.constant_size.saturating_mul(self.constant_size);
            self.visits = self.visits.saturating_add(all);
        }
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.visits > VISITS_MAX
    }
}

/// How many expressions folding visits to find that this one is not constant, at most.
fn size(expression: &Expr) -> usize {
    let sizes = |all: &[Expr]| all.iter().map(size).sum::<usize>();
    1 + match expression {
        Expr::List(list) => sizes(&list.items),
        Expr::Tuple(tuple) => sizes(&tuple.items),
        Expr::Map(map) => sizes(&map.keys) + sizes(&map.values),
        Expr::UnaryOp(operation) => size(&operation.expr),
        Expr::BinOp(operation) => size(&operation.left) + size(&operation.right),
        Expr::Compare(comparison) => {
            let others = comparison.ops.iter().map(|operation| size(&operation.expr));
            size(&comparison.expr) + others.sum::<usize>()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::parse;
    use minijinja::syntax::SyntaxConfig;

    use super::super::tree::Guards;

    fn visits(source: &str) -> usize {
        let mut guards = Guards::new(source);
        guards.statement(&parse(source, "", SyntaxConfig::default()).expect("parses"));
        guards.folding.visits
    }

    #[test]
    fn the_example_at_the_head_costs_its_visits() {
        assert_eq!(visits("{{ a ~ b ~ c }}"), 11);
        assert_eq!(visits("{{ 1 + 2 + 3 }}"), 5);
    }

    #[test]
    fn constants_are_visited_once_unless_they_cannot_be_folded_or_get_a_guard() {
        // Adding a number to a text fails, so every `+` is tried again: 7 + 5 + 3 and four leaves.
        assert_eq!(visits("{{ 'a' + 1 + 1 + 1 }}"), 7 + 5 + 3 + 4);
        // `~` converts the numbers with a filter.
        assert_eq!(visits("{{ 1 ~ 2 ~ 3 }}"), 5 + 25);
        assert_eq!(visits("{{ [1, [2, a]] }}"), 5 + 1 + 3 + 1 + 1);
        assert_eq!(visits("{{ not not not a }}"), 4 + 3 + 2 + 1);
    }
}
