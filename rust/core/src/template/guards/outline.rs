//! What the guards of an expression need to know of the expressions in it.

/// What is known of an expression once it has its guards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outline {
    /// Where its first operand starts, brackets round that one left out: another pair of brackets
    /// may stand on either side of them. Spans do not say: a chain's starts at its last link, a
    /// choice's at the token before it.
    pub start: usize,
    /// How many lists that read other lists it may stand for, one within the other.
    pub nesting: u32,
    /// Whether it gives a text, a number or a yes or no for sure. Such a value holds no other, and
    /// is compared with any other in no more steps than it has bytes.
    pub is_plain: bool,
}

impl Outline {
    pub(super) fn plain(start: usize) -> Outline {
        Outline { start, nesting: 0, is_plain: true }
    }

    pub(super) fn at(start: usize, nesting: u32) -> Outline {
        Outline { start, nesting, is_plain: false }
    }
}
