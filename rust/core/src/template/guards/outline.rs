//! Properties of an expression that the guards around it depend on.

/// Properties of an expression with its guards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outline {
    /// Where its first operand starts, without brackets around that operand: another pair of
    /// brackets may be added on either side of them. Spans do not contain this, since the span of a
    /// chain starts at its last link and the span of a choice at the token before it.
    pub start: usize,
    /// How many lists that read other lists it may stand for, one within the other.
    pub nesting: u32,
    /// Whether the result is always a text, a number or a boolean. Such a value contains no other
    /// value, and comparing it takes at most as many steps as it has bytes.
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
