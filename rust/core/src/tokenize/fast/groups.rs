//! Groups ASCII characters by the characters that they merge with, so one byte per pair of
//! neighbors shows whether they may merge.
//!
//! If two rows are combined, a group joins everything that any of its members joins. An extra pair
//! loses a cut, but never changes a token, because text that does not merge may stay together.
//! Mistral's vocabulary groups itself into blank, lowercase letters, capitals and signs.

/// The number of groups, each with one bit of a byte.
const GROUPS: usize = 8;
/// ASCII characters.
const ASCII: usize = 128;

/// For each character as the left of two its group, as the right one the groups that join it.
pub(super) struct Groups {
    /// One bit, or zero for a character that is never on the left side of a merge.
    pub left: [u8; ASCII],
    /// Any bits.
    pub right: [u8; ASCII],
}

/// Characters that are treated alike.
struct Group {
    members: u128,
    joined: u128,
}

impl Groups {
    /// Groups the characters. A row has one bit for each character that a merge joins to the row's
    /// character on the right.
    pub(super) fn new(rows: &[u128; ASCII]) -> Groups {
        let mut groups: Vec<Group> = Vec::new();
        for (character, joined) in rows.iter().enumerate().filter(|(_, joined)| **joined != 0) {
            match groups.iter_mut().find(|group| group.joined == *joined) {
                Some(group) => group.members |= 1 << character,
                None => groups.push(Group { members: 1 << character, joined: *joined }),
            }
        }
        while groups.len() > GROUPS {
            let pairs =
                (1..groups.len()).flat_map(|right| (0..right).map(move |left| (left, right)));
            let Some((left, right)) =
                pairs.min_by_key(|(left, right)| groups[*left].cost(&groups[*right]))
            else {
                break;
            };
            let Group { members, joined } = groups.swap_remove(right);
            groups[left].members |= members;
            groups[left].joined |= joined;
        }
        let all = |bit: &dyn Fn(&Group) -> u128| {
            std::array::from_fn(|character| {
                groups.iter().enumerate().fold(0, |bits, (index, group)| {
                    bits | ((bit(group) >> character & 1) as u8) << index
                })
            })
        };
        Groups { left: all(&|group| group.members), right: all(&|group| group.joined) }
    }

    /// May a merge join these two?
    #[inline]
    pub(super) fn join(&self, left: u8, right: u8) -> bool {
        self.left[usize::from(left)] & self.right[usize::from(right)] != 0
    }
}

impl Group {
    /// The number of unnecessary pairs that joining two groups would add.
    fn cost(&self, other: &Group) -> u32 {
        let more = |one: &Group, other: &Group| {
            one.members.count_ones() * (other.joined & !one.joined).count_ones()
        };
        more(self, other) + more(other, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pair_is_lost_and_few_groups_add_none() {
        let mut state = 3_u64;
        let mut rows = [0_u128; ASCII];
        for row in &mut rows[32..] {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *row = u128::from(state) << (state >> 58);
        }
        let lost = |rows: &[u128; ASCII], groups: &Groups, added: bool| {
            let pairs = (0..ASCII * ASCII).map(|pair| (pair / ASCII, pair % ASCII));
            pairs
                .filter(|(left, right)| {
                    let joined = rows[*left] >> right & 1 == 1;
                    groups.join(*left as u8, *right as u8) != joined && joined != added
                })
                .count()
        };
        assert_eq!(lost(&rows, &Groups::new(&rows), false), 0);
        let few =
            std::array::from_fn(
                |character| if character % 9 == 8 { 0 } else { rows[40 + character % 9] },
            );
        let groups = Groups::new(&few);
        assert_eq!((lost(&few, &groups, false), lost(&few, &groups, true)), (0, 0));
    }
}
