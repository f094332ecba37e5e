//! Byte-pair merges: the table of pairs, and the exact merging of one word.
//!
//! The rule is that of `tokenizers`' `Word::merge_all`: of all neighbours that merge, the pair that stands first in the merges list
//! goes first, and of equal pairs the leftmost. Its queue drops an entry whose pair has changed since; a pair that gives the same
//! piece at the same place is the same pair, so the rule has no other exception.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;

/// Words of more symbols merge through a queue: a scan for the best pair is quadratic, and faster only while a word is short.
const SCAN_MAX: usize = 48;
const NONE: u64 = u64::MAX;
const GONE: u32 = u32::MAX;

/// Which two tokens merge, how early, and into which: an open-addressing table of 16 bytes a slot.
pub(super) struct Merges {
    slots: Vec<Slot>,
    shift: u32,
    /// Whether a token stands left, or right, in any merge: most whole words do not, and small bit sets stay in the fast caches.
    left: Vec<u64>,
    right: Vec<u64>,
}

#[derive(Clone, Copy)]
struct Slot {
    pair: u64,
    /// The rank in the upper half, the new id in the lower.
    outcome: u64,
}

/// A word on its way from characters to tokens: ids, and how many bytes each stands for.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// The ids.
    pub ids: Vec<u32>,
    /// The bytes of each.
    pub lens: Vec<u32>,
    /// What each gives with its right neighbour: rank and new id, [`NONE`] where they do not merge.
    outcomes: Vec<u64>,
}

impl Symbols {
    /// Makes room for the next word.
    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.lens.clear();
    }

    /// Appends a symbol.
    pub(super) fn push(&mut self, id: u32, len: u32) {
        self.ids.push(id);
        self.lens.push(len);
    }
}

impl Merges {
    /// The table of `(left, right, new)` ids in the order of the merges list; of a pair that stands there twice, the later counts.
    pub(super) fn new(list: &[(u32, u32, u32)]) -> Merges {
        let bits = (list.len() * 2).next_power_of_two().trailing_zeros().max(1);
        let empty = Slot { pair: NONE, outcome: NONE };
        let words = list.iter().map(|(left, right, new)| left.max(right).max(new) / 64 + 1).max().unwrap_or(1) as usize;
        let mut merges = Merges { slots: vec![empty; 1 << bits], shift: 64 - bits, left: vec![0; words], right: vec![0; words] };
        for (rank, (left, right, new)) in list.iter().enumerate() {
            let pair = pair(*left, *right);
            let place = merges.place(pair);
            merges.left[*left as usize / 64] |= 1 << (left % 64);
            merges.right[*right as usize / 64] |= 1 << (right % 64);
            merges.slots[place] = Slot { pair, outcome: (rank as u64) << 32 | u64::from(*new) };
        }
        merges
    }

    /// The slot of a pair, or the free one it would take. Half of the slots are free, so the search ends.
    #[inline]
    fn place(&self, pair: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = (pair.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize & mask;
        while self.slots[place].pair != pair && self.slots[place].pair != NONE {
            place = (place + 1) & mask;
        }
        place
    }

    #[inline]
    fn outcome(&self, left: u32, right: u32) -> u64 {
        let stands = |set: &[u64], id: u32| set.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1);
        if !stands(&self.left, left) || !stands(&self.right, right) {
            return NONE;
        }
        self.slots[self.place(pair(left, right))].outcome
    }

    /// Merges a word to its tokens.
    pub(super) fn apply(&self, symbols: &mut Symbols) {
        if symbols.ids.len() <= SCAN_MAX { self.scan(symbols) } else { self.by_rank(symbols) }
    }

    fn scan(&self, symbols: &mut Symbols) {
        let Symbols { ids, lens, outcomes } = symbols;
        outcomes.clear();
        outcomes.extend(ids.windows(2).map(|pair| self.outcome(pair[0], pair[1])));
        loop {
            let mut best = (NONE, 0);
            for (place, outcome) in outcomes.iter().enumerate() {
                if *outcome < best.0 {
                    best = (*outcome, place);
                }
            }
            let (outcome, place) = best;
            if outcome == NONE {
                return;
            }
            ids[place] = outcome as u32;
            lens[place] += lens[place + 1];
            ids.remove(place + 1);
            lens.remove(place + 1);
            outcomes.remove(place);
            if let Some(next) = outcomes.get_mut(place) {
                *next = self.outcome(ids[place], ids[place + 1]);
            }
            if let Some(before) = place.checked_sub(1) {
                outcomes[before] = self.outcome(ids[before], ids[place]);
            }
        }
    }

    /// The same for long words, in little more than one step for each symbol: symbols in a linked list, places in a bucket for each
    /// outcome, outdated places skipped. A merge never gives another pair of its own outcome, since what it gives is longer than both
    /// sides of that; so a bucket is sorted once, and a better outcome that turns up meanwhile goes first.
    fn by_rank(&self, symbols: &mut Symbols) {
        let Symbols { ids, lens, .. } = symbols;
        let end = ids.len();
        let mut next: Vec<u32> = (1..=end as u32).collect();
        let mut before: Vec<u32> = std::iter::once(GONE).chain(0..end as u32 - 1).collect();
        let mut queue = Queue::default();
        (1..end).for_each(|right| queue.push(self.outcome(ids[right - 1], ids[right]), right - 1));
        while let Some((outcome, place)) = queue.pop() {
            let right = next[place] as usize;
            if lens[place] == 0 || right >= end || self.outcome(ids[place], ids[right]) != outcome {
                continue;
            }
            ids[place] = outcome as u32;
            lens[place] += lens[right];
            lens[right] = 0;
            next[place] = next[right];
            let after = next[place] as usize;
            if after < end {
                before[after] = place as u32;
                queue.push(self.outcome(ids[place], ids[after]), place);
            }
            if before[place] != GONE {
                let left = before[place] as usize;
                queue.push(self.outcome(ids[left], ids[place]), left);
            }
        }
        let mut kept = 0;
        for place in 0..ids.len() {
            if lens[place] != 0 {
                (ids[kept], lens[kept]) = (ids[place], lens[place]);
                kept += 1;
            }
        }
        ids.truncate(kept);
        lens.truncate(kept);
    }
}

/// Places to merge, by outcome and then from the left.
#[derive(Default)]
struct Queue {
    outcomes: BinaryHeap<Reverse<u64>>,
    buckets: HashMap<u64, Bucket>,
}

#[derive(Default)]
struct Bucket {
    places: Vec<u32>,
    /// How many have been taken.
    taken: usize,
    sorted: bool,
}

impl Queue {
    fn push(&mut self, outcome: u64, place: usize) {
        if outcome == NONE {
            return;
        }
        let bucket = self.buckets.entry(outcome).or_insert_with(|| {
            self.outcomes.push(Reverse(outcome));
            Bucket::default()
        });
        bucket.sorted = false;
        bucket.places.push(place as u32);
    }

    fn pop(&mut self) -> Option<(u64, usize)> {
        loop {
            let Reverse(outcome) = *self.outcomes.peek()?;
            let bucket = self.buckets.get_mut(&outcome)?;
            if !bucket.sorted {
                bucket.places[bucket.taken..].sort_unstable();
                bucket.sorted = true;
            }
            if let Some(place) = bucket.places.get(bucket.taken) {
                bucket.taken += 1;
                return Some((outcome, *place as usize));
            }
            self.buckets.remove(&outcome);
            self.outcomes.pop();
        }
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_merge_agree_and_the_leftmost_of_equal_pairs_goes_first() {
        // a = 1, b = 2; "aa" = 3, "aaa" by way of (aa, a) = 4, "ab" = 5.
        let merges = Merges::new(&[(1, 1, 3), (3, 1, 4), (1, 2, 5)]);
        let mut state = 7_u64;
        for words in 0..2_000 {
            let mut word = Symbols::default();
            for _ in 0..words % 40 + 1 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                word.push(1 + (state >> 62 == 0) as u32, 1);
            }
            let mut long = Symbols { ids: word.ids.clone(), lens: word.lens.clone(), ..Symbols::default() };
            merges.scan(&mut word);
            merges.by_rank(&mut long);
            assert_eq!((word.ids, word.lens), (long.ids, long.lens));
        }
        let mut word = Symbols::default();
        (0..5).for_each(|_| word.push(1, 1));
        merges.apply(&mut word);
        assert_eq!((word.ids, word.lens), (vec![3, 4], vec![2, 3]));
    }
}
