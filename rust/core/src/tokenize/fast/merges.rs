//! Byte-pair merges: a table of pairs, and the exact merging of one word.
//!
//! The rule is that of `tokenizers`' `Word::merge_all`: among all neighbors that merge, the pair
//! that comes first in the list of merges is merged first, and among equal pairs the leftmost. The
//! queue in `merge_all` drops entries whose pair has changed since. A pair that produces the same
//! piece at the same index is the same pair, so the rule has no other exception.
//!
//! An example (`the_example_at_the_head_takes_these_merges`): the list has `a a` (rank 0), `aa a`
//! (rank 1) and `a b` (rank 2). The word is `aaaaab`.
//!
//! ```text
//! a a a a a b     `a a` has the lowest rank, and the leftmost of its four is merged
//! aa a a a b      `a a` again, before the `aa a` further left: its rank is lower
//! aa aa a b       `aa a` (rank 1) goes before `a b` (rank 2) and takes its `a`
//! aa aaa b        neither `aa aaa` nor `aaa b` is in the list: three tokens, of 2, 3 and 1 bytes
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::simd::prefetch::prefetch;

/// Words with more symbols are merged through a queue. A scan for the best pair is quadratic, so it
/// is faster only for short words.
const SCAN_MAX: usize = 192;
/// Nearly all words have fewer symbols, and small arrays are faster to initialize.
const SHORT_MAX: usize = 32;
/// The rank of a pair that does not merge.
const NONE: u32 = u32::MAX;
const GONE: u32 = u32::MAX;
const FREE: u64 = u64::MAX;
/// Maximum number of bits in a token's id.
pub(super) const ID_BITS: u32 = 20;
const RANK_BITS: u32 = 24;

/// The rank of each pair of tokens that merge: an open-addressing table of 8 bytes per slot,
/// because merging is limited by memory.
pub(super) struct Merges {
    /// The rank of each pair of letters. Words start as letters, so this small table answers half
    /// of all lookups.
    letters: Box<[u32]>,
    /// From the highest bits on: the left token, the right one, the rank.
    slots: Vec<u64>,
    shift: u32,
    /// The new token of each rank.
    new: Vec<u32>,
    /// Four bits per slot, set at the hashes of existing pairs. Most pairs do not merge, and this
    /// filter stays in the fast caches.
    filter: Vec<u64>,
}

/// A word on its way from characters to tokens: ids, and how many bytes each stands for.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    /// The ids.
    pub ids: Vec<u32>,
    /// The length of each symbol in bytes, or 0 for a symbol that was merged into another one.
    pub lens: Vec<u32>,
}

impl Symbols {
    /// Clears the buffers for the next word.
    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.lens.clear();
    }

    /// Appends a symbol.
    pub(super) fn push(&mut self, id: u32, len: u32) {
        self.ids.push(id);
        self.lens.push(len);
    }

    /// Removes symbols that were merged into others.
    fn close_ranks(&mut self) {
        let mut kept = 0;
        for index in 0..self.ids.len() {
            (self.ids[kept], self.lens[kept]) = (self.ids[index], self.lens[index]);
            kept += usize::from(self.lens[index] != 0);
        }
        self.ids.truncate(kept);
        self.lens.truncate(kept);
    }
}

impl Merges {
    /// Builds the table from the `(left, right, new)` ids in the order of the list of merges. If a
    /// pair occurs twice, the later entry counts. `alphabet` contains the tokens of the letters, at
    /// most 256, which callers of [`Merges::apply`] pass as bytes.
    pub(super) fn new(list: &[(u32, u32, u32)], alphabet: &[u32]) -> Result<Merges, String> {
        let last =
            list.iter().map(|(left, right, new)| *left.max(right).max(new)).max().unwrap_or(0);
        if last >> ID_BITS != 0 || list.len() >> RANK_BITS != 0 {
            return Err("the vocabulary has more than a million tokens".to_owned());
        }
        let bits = (list.len() + list.len() / 3 + 1).next_power_of_two().trailing_zeros().max(4);
        let (slots, filter) = (vec![FREE; 1 << bits], vec![0; (1 << bits) / 16]);
        let new = list.iter().map(|(_, _, new)| *new).collect();
        let letters = vec![NONE; 1 << 16].into_boxed_slice();
        let mut merges = Merges { letters, slots, shift: 64 - bits, new, filter };
        for (rank, (left, right, _)) in list.iter().enumerate() {
            let pair = pair(*left, *right);
            let (word, bit) = merges.filter_place(hash(pair));
            merges.filter[word] |= 1 << bit;
            let slot = merges.slot(pair, hash(pair));
            merges.slots[slot] = pair << RANK_BITS | rank as u64;
        }
        for (index, left) in alphabet.iter().enumerate() {
            for (right_index, right) in alphabet.iter().enumerate() {
                merges.letters[index << 8 | right_index] = merges.rank(*left, *right);
            }
        }
        Ok(merges)
    }

    /// Returns the slot of a pair, or the free slot where it belongs. A quarter of the slots is
    /// free, so the search ends.
    #[inline]
    fn slot(&self, pair: u64, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (hash >> self.shift) as usize & mask;
        while self.slots[slot] >> RANK_BITS != pair && self.slots[slot] != FREE {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The word of the filter that a hash falls into, and the bit.
    #[inline]
    fn filter_place(&self, hash: u64) -> (usize, u64) {
        let bit = hash >> (self.shift - 2);
        ((bit >> 6) as usize, bit & 63)
    }

    /// The rank of two tokens, or [`NONE`] if they do not merge.
    #[inline(always)]
    fn rank(&self, left: u32, right: u32) -> u32 {
        let pair = pair(left, right);
        let hash = hash(pair);
        let (word, bit) = self.filter_place(hash);
        // Prefetched before it is certain to be needed, because the filter may have to be fetched
        // as well.
        prefetch(&self.slots, (hash >> self.shift) as usize);
        if self.filter[word] >> bit & 1 == 0 {
            return NONE;
        }
        match self.slots[self.slot(pair, hash)] {
            FREE => NONE,
            slot => {
                let rank = slot as u32 & ((1 << RANK_BITS) - 1);
                prefetch(&self.new, rank as usize);
                rank
            }
        }
    }

    #[inline]
    fn letter_rank(&self, left: u8, right: u8) -> u32 {
        self.letters[usize::from(left) << 8 | usize::from(right)]
    }

    /// Merges a word to its tokens. `letters` is the word if each of its symbols is a letter of the
    /// alphabet.
    pub(super) fn apply(&self, symbols: &mut Symbols, letters: Option<&[u8]>) {
        match symbols.ids.len() {
            ..2 => return,
            2..=SHORT_MAX => self.scan::<SHORT_MAX>(symbols, letters),
            symbol_count if symbol_count <= SCAN_MAX => self.scan::<SCAN_MAX>(symbols, letters),
            _ => self.by_rank(symbols),
        }
        symbols.close_ranks();
    }

    /// For words of at most `MAX` symbols, which fits a byte.
    fn scan<const MAX: usize>(&self, symbols: &mut Symbols, letters: Option<&[u8]>) {
        let Symbols { ids, lens } = symbols;
        let end = ids.len();
        let (mut next, mut before) = ([0_u8; MAX], [0_u8; MAX]);
        // The rank of each symbol with the one after it. Merged symbols have none.
        let mut ranks = [NONE; MAX];
        for index in 0..end - 1 {
            (next[index], before[index + 1]) = (index as u8 + 1, index as u8);
        }
        match letters {
            Some(letters) => {
                let pairs = letters.iter().zip(&letters[1..]);
                ranks
                    .iter_mut()
                    .zip(pairs)
                    .for_each(|(rank, (left, right))| *rank = self.letter_rank(*left, *right));
            }
            None => {
                let pairs = ids.iter().zip(&ids[1..]);
                ranks
                    .iter_mut()
                    .zip(pairs)
                    .for_each(|(rank, (left, right))| *rank = self.rank(*left, *right));
            }
        }
        next[end - 1] = end as u8;
        loop {
            let mut best = (NONE, 0);
            for (index, rank) in ranks[..end - 1].iter().enumerate() {
                if *rank < best.0 {
                    best = (*rank, index);
                }
            }
            let (rank, index) = best;
            if rank == NONE {
                return;
            }
            let right = usize::from(next[index]);
            let after = usize::from(next[right]);
            ids[index] = self.new[rank as usize];
            lens[index] += lens[right];
            (lens[right], ranks[right], next[index], ranks[index]) = (0, NONE, after as u8, NONE);
            if after < end {
                before[after] = index as u8;
                ranks[index] = self.rank(ids[index], ids[after]);
            }
            if index > 0 {
                let left = usize::from(before[index]);
                ranks[left] = self.rank(ids[left], ids[index]);
            }
        }
    }

    /// Merges long words: symbols in a linked list, and positions in a heap ordered by rank, then
    /// from the left. Outdated entries are skipped.
    fn by_rank(&self, symbols: &mut Symbols) {
        let Symbols { ids, lens } = symbols;
        let end = ids.len();
        let mut next: Vec<u32> = (1..=end as u32).collect();
        let mut before: Vec<u32> = std::iter::once(GONE).chain(0..end as u32 - 1).collect();
        let entry = |rank: u32, index: usize| {
            (rank != NONE).then(|| Reverse(u64::from(rank) << 32 | index as u64))
        };
        let mut queue: BinaryHeap<Reverse<u64>> = (1..end)
            .filter_map(|right| entry(self.rank(ids[right - 1], ids[right]), right - 1))
            .collect();
        while let Some(Reverse(first)) = queue.pop() {
            let (rank, index) = ((first >> 32) as u32, first as u32 as usize);
            let right = next[index] as usize;
            if lens[index] == 0 || right >= end || self.rank(ids[index], ids[right]) != rank {
                continue;
            }
            ids[index] = self.new[rank as usize];
            lens[index] += lens[right];
            lens[right] = 0;
            next[index] = next[right];
            let after = next[index] as usize;
            if after < end {
                before[after] = index as u32;
                queue.extend(entry(self.rank(ids[index], ids[after]), index));
            }
            if before[index] != GONE {
                let left = before[index] as usize;
                queue.extend(entry(self.rank(ids[left], ids[index]), left));
            }
        }
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << ID_BITS | u64::from(right)
}

fn hash(pair: u64) -> u64 {
    pair.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_merge_agree_and_the_leftmost_of_equal_pairs_goes_first() {
        // a = 1, b = 2, "aa" = 3, "aaa" from (aa, a) = 4, "ab" = 5.
        let merges =
            Merges::new(&[(1, 1, 3), (3, 1, 4), (1, 2, 5)], &[0, 1, 2]).expect("few tokens");
        let mut state = 7_u64;
        for words in 0..2_000 {
            let mut word = Symbols::default();
            for _ in 0..words % SCAN_MAX + 1 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                word.push(1 + (state >> 62 == 0) as u32, 1);
            }
            let copy = |word: &Symbols| Symbols { ids: word.ids.clone(), lens: word.lens.clone() };
            let (mut long, mut spelled) = (copy(&word), copy(&word));
            let letters: Vec<u8> = word.ids.iter().map(|id| *id as u8).collect();
            if words % SCAN_MAX > 0 {
                merges.scan::<SCAN_MAX>(&mut word, None);
                merges.scan::<SCAN_MAX>(&mut spelled, Some(&letters));
            }
            merges.by_rank(&mut long);
            assert_eq!((&word.ids, &word.lens), (&spelled.ids, &spelled.lens));
            assert_eq!((word.ids, word.lens), (long.ids, long.lens));
        }
        let mut word = Symbols::default();
        (0..5).for_each(|_| word.push(1, 1));
        merges.apply(&mut word, None);
        assert_eq!((word.ids, word.lens), (vec![3, 4], vec![2, 3]));
    }

    #[test]
    fn the_example_at_the_head_takes_these_merges() {
        let (a, b, aa, aaa, ab) = (1, 2, 3, 4, 5);
        let list = [(a, a, aa), (aa, a, aaa), (a, b, ab)];
        let merged = |list: &[(u32, u32, u32)], word: &[u32]| {
            let mut symbols = Symbols { ids: word.to_vec(), lens: vec![1; word.len()] };
            let merges = Merges::new(list, &[0, a, b]).expect("few tokens");
            merges.apply(&mut symbols, None);
            (symbols.ids, symbols.lens)
        };
        let word = [a, a, a, a, a, b];
        // With only the first merge, the word stops where the third line of the example starts.
        assert_eq!(merged(&list[..1], &word), (vec![aa, aa, a, b], vec![2, 2, 1, 1]));
        assert_eq!(merged(&list[2..], &word), (vec![a, a, a, a, ab], vec![1, 1, 1, 1, 2]));
        assert_eq!(merged(&list, &word), (vec![aa, aaa, b], vec![2, 3, 1]));
    }
}
