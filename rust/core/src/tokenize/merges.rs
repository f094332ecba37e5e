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
/// The rank of what does not merge.
const NONE: u32 = u32::MAX;
const GONE: u32 = u32::MAX;
const FREE: u64 = u64::MAX;
const ID_BITS: u32 = 20;
const RANK_BITS: u32 = 24;

/// Which two tokens merge, and how early: an open-addressing table of 8 bytes a slot, since a merge is as slow as memory.
pub(super) struct Merges {
    /// From the top: the left token, the right one, the rank.
    slots: Vec<u64>,
    shift: u32,
    /// The new token of each rank.
    new: Vec<u32>,
    /// Whether a token stands left, or right, in any merge: most whole words do not, and small bit sets stay in the fast caches.
    left: Vec<u64>,
    right: Vec<u64>,
}

/// A word on its way from characters to tokens: ids, and how many bytes each stands for.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// The ids.
    pub ids: Vec<u32>,
    /// The bytes of each; 0 for a symbol that a merge has taken in.
    pub lens: Vec<u32>,
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

    /// Lets go of symbols that are taken in.
    fn close_ranks(&mut self) {
        let mut kept = 0;
        for place in 0..self.ids.len() {
            (self.ids[kept], self.lens[kept]) = (self.ids[place], self.lens[place]);
            kept += usize::from(self.lens[place] != 0);
        }
        self.ids.truncate(kept);
        self.lens.truncate(kept);
    }
}

impl Merges {
    /// The table of `(left, right, new)` ids in the order of the merges list; of a pair that stands there twice, the later counts.
    pub(super) fn new(list: &[(u32, u32, u32)]) -> Result<Merges, String> {
        let last = list.iter().map(|(left, right, new)| *left.max(right).max(new)).max().unwrap_or(0);
        if last >> ID_BITS != 0 || list.len() >> RANK_BITS != 0 {
            return Err("its vocabulary has more than a million tokens".to_owned());
        }
        let bits = (list.len() * 2).next_power_of_two().trailing_zeros().max(1);
        let (slots, sets) = (vec![FREE; 1 << bits], vec![0; last as usize / 64 + 1]);
        let new = list.iter().map(|(_, _, new)| *new).collect();
        let mut merges = Merges { slots, shift: 64 - bits, new, left: sets.clone(), right: sets };
        for (rank, (left, right, _)) in list.iter().enumerate() {
            merges.left[*left as usize / 64] |= 1 << (left % 64);
            merges.right[*right as usize / 64] |= 1 << (right % 64);
            let pair = pair(*left, *right);
            let place = merges.place(pair);
            merges.slots[place] = pair << RANK_BITS | rank as u64;
        }
        Ok(merges)
    }

    /// The slot of a pair, or the free one it would take. Half of the slots are free, so the search ends.
    #[inline]
    fn place(&self, pair: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut place = (pair.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize & mask;
        while self.slots[place] >> RANK_BITS != pair && self.slots[place] != FREE {
            place = (place + 1) & mask;
        }
        place
    }

    /// How early two tokens merge, [`NONE`] if they do not.
    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        let stands = |set: &[u64], id: u32| set.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1);
        if !stands(&self.left, left) || !stands(&self.right, right) {
            return NONE;
        }
        match self.slots[self.place(pair(left, right))] {
            FREE => NONE,
            slot => slot as u32 & ((1 << RANK_BITS) - 1),
        }
    }

    /// Merges a word to its tokens.
    pub(super) fn apply(&self, symbols: &mut Symbols) {
        match symbols.ids.len() {
            0 | 1 => return,
            ..=SCAN_MAX => self.scan(symbols),
            _ => self.by_rank(symbols),
        }
        symbols.close_ranks();
    }

    fn scan(&self, symbols: &mut Symbols) {
        let Symbols { ids, lens } = symbols;
        let end = ids.len();
        let (mut next, mut before) = ([0_u8; SCAN_MAX], [0_u8; SCAN_MAX]);
        // What each symbol gives with the one after it; those taken in give nothing.
        let mut ranks = [NONE; SCAN_MAX];
        for place in 0..end - 1 {
            (next[place], before[place + 1]) = (place as u8 + 1, place as u8);
            ranks[place] = self.rank(ids[place], ids[place + 1]);
        }
        next[end - 1] = end as u8;
        loop {
            let mut best = (NONE, 0);
            for (place, rank) in ranks[..end - 1].iter().enumerate() {
                if *rank < best.0 {
                    best = (*rank, place);
                }
            }
            let (rank, place) = best;
            if rank == NONE {
                return;
            }
            let right = usize::from(next[place]);
            let after = usize::from(next[right]);
            ids[place] = self.new[rank as usize];
            lens[place] += lens[right];
            (lens[right], ranks[right], next[place], ranks[place]) = (0, NONE, after as u8, NONE);
            if after < end {
                before[after] = place as u8;
                ranks[place] = self.rank(ids[place], ids[after]);
            }
            if place > 0 {
                let left = usize::from(before[place]);
                ranks[left] = self.rank(ids[left], ids[place]);
            }
        }
    }

    /// The same for long words, in little more than one step for each symbol: symbols in a linked list, places in a bucket for each
    /// rank, outdated places skipped. A merge never gives another pair of its own rank, since what it gives is longer than both sides
    /// of that; so a bucket is sorted once, and a lower rank that turns up meanwhile goes first.
    fn by_rank(&self, symbols: &mut Symbols) {
        let Symbols { ids, lens } = symbols;
        let end = ids.len();
        let mut next: Vec<u32> = (1..=end as u32).collect();
        let mut before: Vec<u32> = std::iter::once(GONE).chain(0..end as u32 - 1).collect();
        let mut queue = Queue::default();
        (1..end).for_each(|right| queue.push(self.rank(ids[right - 1], ids[right]), right - 1));
        while let Some((rank, place)) = queue.pop() {
            let right = next[place] as usize;
            if lens[place] == 0 || right >= end || self.rank(ids[place], ids[right]) != rank {
                continue;
            }
            ids[place] = self.new[rank as usize];
            lens[place] += lens[right];
            lens[right] = 0;
            next[place] = next[right];
            let after = next[place] as usize;
            if after < end {
                before[after] = place as u32;
                queue.push(self.rank(ids[place], ids[after]), place);
            }
            if before[place] != GONE {
                let left = before[place] as usize;
                queue.push(self.rank(ids[left], ids[place]), left);
            }
        }
    }
}

/// Places to merge, by rank and then from the left.
#[derive(Default)]
struct Queue {
    ranks: BinaryHeap<Reverse<u32>>,
    buckets: HashMap<u32, Bucket>,
}

#[derive(Default)]
struct Bucket {
    places: Vec<u32>,
    /// How many have been taken.
    taken: usize,
    sorted: bool,
}

impl Queue {
    fn push(&mut self, rank: u32, place: usize) {
        if rank == NONE {
            return;
        }
        let bucket = self.buckets.entry(rank).or_insert_with(|| {
            self.ranks.push(Reverse(rank));
            Bucket::default()
        });
        bucket.sorted = false;
        bucket.places.push(place as u32);
    }

    fn pop(&mut self) -> Option<(u32, usize)> {
        loop {
            let Reverse(rank) = *self.ranks.peek()?;
            let bucket = self.buckets.get_mut(&rank)?;
            if !bucket.sorted {
                bucket.places[bucket.taken..].sort_unstable();
                bucket.sorted = true;
            }
            if let Some(place) = bucket.places.get(bucket.taken) {
                bucket.taken += 1;
                return Some((rank, *place as usize));
            }
            self.buckets.remove(&rank);
            self.ranks.pop();
        }
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << ID_BITS | u64::from(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_merge_agree_and_the_leftmost_of_equal_pairs_goes_first() {
        // a = 1, b = 2; "aa" = 3, "aaa" by way of (aa, a) = 4, "ab" = 5.
        let merges = Merges::new(&[(1, 1, 3), (3, 1, 4), (1, 2, 5)]).expect("few tokens");
        let mut state = 7_u64;
        for words in 0..2_000 {
            let mut word = Symbols::default();
            for _ in 0..words % 40 + 1 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                word.push(1 + (state >> 62 == 0) as u32, 1);
            }
            let mut long = Symbols { ids: word.ids.clone(), lens: word.lens.clone() };
            if words % 40 > 0 {
                merges.scan(&mut word);
            }
            merges.by_rank(&mut long);
            assert_eq!((word.ids, word.lens), (long.ids, long.lens));
        }
        let mut word = Symbols::default();
        (0..5).for_each(|_| word.push(1, 1));
        merges.apply(&mut word);
        assert_eq!((word.ids, word.lens), (vec![3, 4], vec![2, 3]));
    }
}
