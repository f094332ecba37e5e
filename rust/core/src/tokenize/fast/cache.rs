//! Cache of merged words in tables of fixed size, so memory is bounded. The cache affects only
//! speed, never the tokens.

use std::hint::select_unpredictable;

use super::merges::{ID_BITS, Symbols};
use crate::simd::prefetch::prefetch;
use crate::tokenize::encode::Sink;

/// Length of the longest word in the first two tables. Together with its length, it fills 16 bytes.
pub(super) const SHORT_MAX: usize = 15;
/// The most tokens of a word of the first two tables.
pub(super) const SHORT_TOKENS: usize = 4;
/// Bit offsets of the ids: two in full, then two of [`ID_BITS`].
const IDS_AT: [u32; SHORT_TOKENS] = [0, 32, 64, 64 + ID_BITS];
/// Bit offsets of the ends, 4 bits each, and of the number of tokens.
const ENDS_AT: u32 = 64 + 2 * ID_BITS;
const COUNT_AT: u32 = 120;
/// 2^16 words, 2 MiB: nearly all words of a text except rare ones. Its entries are prefetched, so
/// it does not need to fit into the fastest cache. With 2^14 entries, which would fit, a pass takes
/// 5 to 9 % longer.
const FRONT_BITS: u32 = 16;
/// 2^17 sets of four words, 16 MiB. The 21 M segments of 98 MB of dialogues contain about 144 k
/// distinct ones, and evicting one costs as much as 50 lookups. With sets of two, one in six was
/// evicted.
const SET_BITS: u32 = 17;
const SET_WORDS: usize = 4;
const LONG_MAX: usize = 47;
const LONG_TOKENS: usize = 12;
/// 2^14 words of 112 bytes, 1.8 MiB.
const LONG: usize = 1 << 14;

/// Words and their tokens.
pub(super) struct Cache {
    front: Box<[Word; 1 << FRONT_BITS]>,
    sets: Box<[Set; 1 << SET_BITS]>,
    long: Vec<Long>,
}

/// A word of up to 15 bytes and four tokens, in one line of the processor's cache.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Word {
    key: u128,
    known: Known,
}

/// Words with the same hash. A new word is inserted at the front and evicts the last one.
#[derive(Clone, Copy)]
#[repr(align(128))]
struct Set([Word; SET_WORDS]);

/// A word of up to 47 bytes and twelve tokens.
#[derive(Clone, Copy)]
struct Long {
    key: [u8; LONG_MAX],
    len: u8,
    ids: [u32; LONG_TOKENS],
    ends: [u8; LONG_TOKENS],
    tokens: u8,
}

/// The tokens of a short word. From the highest bits on, it contains their number, the end of each
/// in the word, and their ids. All bits are zero if a word is not cached.
#[derive(Clone, Copy)]
pub(super) struct Known(u128);

impl Known {
    /// The entry of a word that is not cached.
    pub(super) const NOTHING: Known = Known(0);
    /// The word has too many tokens for this entry, but the last table may contain them.
    const ELSEWHERE: Known = Known(0x7F << COUNT_AT);

    fn new(symbols: &Symbols) -> Known {
        let (mut known, mut end) = ((symbols.ids.len() as u128) << COUNT_AT, 0);
        for (index, (id, len)) in symbols.ids.iter().zip(&symbols.lens).enumerate() {
            end += len;
            known |=
                u128::from(*id) << IDS_AT[index] | u128::from(end) << (ENDS_AT + 4 * index as u32);
        }
        Known(known)
    }

    /// The number of tokens.
    #[inline]
    pub(super) fn count(self) -> usize {
        (self.0 >> COUNT_AT) as usize
    }

    /// Whether the word is not cached.
    #[inline]
    pub(super) fn is_nothing(self) -> bool {
        self.count() == 0
    }

    /// The first two ids, or arbitrary values if there are fewer.
    #[inline]
    pub(super) fn first_two(self) -> [u32; 2] {
        [self.0 as u32, (self.0 >> 32) as u32]
    }

    /// The id of the token at an index.
    #[inline]
    pub(super) fn id(self, index: usize) -> u32 {
        (self.0 >> IDS_AT[index]) as u32 & ((1 << ID_BITS) - 1)
    }

    /// The end of the token at an index, as an offset in the word.
    #[inline]
    pub(super) fn end(self, index: usize) -> usize {
        (self.0 >> (ENDS_AT + 4 * index as u32)) as usize & 15
    }
}

impl Cache {
    /// No words yet.
    pub(super) fn new() -> Cache {
        let word = Word { key: 0, known: Known::NOTHING };
        let long = Long {
            key: [0; LONG_MAX],
            len: 0,
            ids: [0; LONG_TOKENS],
            ends: [0; LONG_TOKENS],
            tokens: 0,
        };
        Cache { front: table(word), sets: table(Set([word; SET_WORDS])), long: vec![long; LONG] }
    }

    /// Prefetches the first table's entry of a word.
    #[inline]
    pub(super) fn expect_front(&self, hash: u32) {
        prefetch(self.front.as_slice(), slot(hash, FRONT_BITS));
    }

    /// Prefetches the second table's entry of a word.
    #[inline]
    pub(super) fn expect_behind(&self, hash: u32) {
        let words = &self.sets[slot(hash, SET_BITS)].0;
        prefetch(words, 0);
        prefetch(words, SET_WORDS / 2);
    }

    /// Looks a word up in the first table. It is free of branches, which would be mispredicted for
    /// one word in ten.
    #[inline]
    pub(super) fn find_front(&self, key: u128, hash: u32) -> Known {
        self.front[slot(hash, FRONT_BITS)].known_as(key)
    }

    /// Looks a word up in the second table and copies the result to the first. It is free of
    /// branches, too: a branch that depends on memory and is mispredicted for one word in seven
    /// would stall each time.
    #[inline]
    pub(super) fn find_behind(&mut self, key: u128, hash: u32) -> Known {
        let Set(words) = &self.sets[slot(hash, SET_BITS)];
        let known = Known(words.iter().fold(0, |known, word| known | word.known_as(key).0));
        let front = &mut self.front[slot(hash, FRONT_BITS)];
        let is_known = !known.is_nothing();
        front.key = select_unpredictable(is_known, key, front.key);
        front.known = Known(select_unpredictable(is_known, known.0, front.known.0));
        known
    }

    /// Outputs the tokens of a word that is not in the first two tables, if the last one contains
    /// it.
    pub(super) fn emit_long<S: Sink>(
        &self,
        word: &[u8],
        found: Known,
        start: usize,
        sink: &mut S,
    ) -> bool {
        let may_be_there =
            word.len() <= LONG_MAX && (word.len() > SHORT_MAX || !found.is_nothing());
        let Some(known) = may_be_there.then(|| &self.long[long_place(word)]) else { return false };
        if &known.key[..usize::from(known.len)] != word {
            return false;
        }
        let mut from = start;
        for (id, end) in known.ids.iter().zip(&known.ends).take(usize::from(known.tokens)) {
            let end = start + usize::from(*end);
            sink.push(*id, from, end);
            from = end;
        }
        true
    }

    /// Keeps a word, if it fits into one of the tables.
    pub(super) fn insert(&mut self, word: &[u8], symbols: &Symbols) {
        let (bytes, tokens) = (word.len(), symbols.ids.len());
        if bytes <= SHORT_MAX {
            let is_small =
                tokens <= SHORT_TOKENS && symbols.ids.iter().all(|id| id >> ID_BITS == 0);
            let known = if is_small { Known::new(symbols) } else { Known::ELSEWHERE };
            let key = key(word, 0, bytes);
            let Set(words) = &mut self.sets[slot(hash(key), SET_BITS)];
            words.rotate_right(1);
            words[0] = Word { key, known };
            if is_small {
                return;
            }
        }
        if bytes <= LONG_MAX && tokens <= LONG_TOKENS {
            let long = &mut self.long[long_place(word)];
            long.key[..bytes].copy_from_slice(word);
            (long.len, long.tokens) = (bytes as u8, tokens as u8);
            write(symbols, &mut long.ids, &mut long.ends);
        }
    }
}

impl Word {
    #[inline]
    fn known_as(&self, key: u128) -> Known {
        // Compares by halves, because the compiler uses a branch to select between 128-bit numbers.
        let differs = self.key ^ key;
        let is_it = (differs as u64 | (differs >> 64) as u64) == 0;
        let low = select_unpredictable(is_it, self.known.0 as u64, 0);
        let high = select_unpredictable(is_it, (self.known.0 >> 64) as u64, 0);
        Known(u128::from(high) << 64 | u128::from(low))
    }
}

/// A table whose indices are masked to its size, so no access needs a bounds check.
fn table<T: Clone, const LEN: usize>(item: T) -> Box<[T; LEN]> {
    vec![item; LEN].try_into().unwrap_or_else(|_| unreachable!("both slices have the same length"))
}

fn write(symbols: &Symbols, ids: &mut [u32], ends: &mut [u8]) {
    ids.iter_mut().zip(&symbols.ids).for_each(|(to, id)| *to = *id);
    let mut end = 0;
    for (to, len) in ends.iter_mut().zip(&symbols.lens) {
        end += *len as u8;
        *to = end;
    }
}

/// For each word length, a mask of its bytes among 16, and all bytes for longer words.
const MASKS: [u128; SHORT_MAX + 2] = {
    let mut masks = [u128::MAX; SHORT_MAX + 2];
    let mut len = 0;
    while len <= SHORT_MAX {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// The bytes of a word of at most 15 bytes, and its length. Longer words get a value that no such
/// word has.
#[inline]
pub(super) fn key(text: &[u8], start: usize, end: usize) -> u128 {
    let len = (end - start).min(SHORT_MAX + 1);
    let bytes = match text[start..].first_chunk::<16>() {
        Some(chunk) => u128::from_le_bytes(*chunk) & MASKS[len],
        None => {
            let mut chunk = [0; 16];
            chunk[..len].copy_from_slice(&text[start..start + len]);
            u128::from_le_bytes(chunk)
        }
    };
    bytes | (len as u128) << 120
}

/// The index of a word in the tables.
#[inline]
pub(super) fn hash(key: u128) -> u32 {
    let product = u128::from(key as u64 ^ 0x9E37_79B9_7F4A_7C15)
        * u128::from((key >> 64) as u64 ^ 0xC2B2_AE3D_27D4_EB4F);
    (product as u64 ^ (product >> 64) as u64) as u32
}

#[inline]
fn slot(hash: u32, bits: u32) -> usize {
    hash as usize & ((1 << bits) - 1)
}

fn long_place(word: &[u8]) -> usize {
    xxhash_rust::xxh3::xxh3_64(word) as usize % LONG
}
