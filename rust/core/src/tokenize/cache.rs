//! What words have been merged before: tables of fixed size, so that memory is bounded. They decide how fast a word's tokens come,
//! never which.

use super::encode::Sink;
use super::merges::Symbols;

/// The longest word of the first two tables.
const SHORT_MAX: usize = 8;
const ID_BITS: u32 = 28;
/// 2^13 words, 128 KiB: nine words in ten of a text, which must not share the fast caches with the rare.
const FRONT_BITS: u32 = 13;
/// 2^17 sets of two words of 16 bytes, 4 MiB. Of 5.4 M segments of 25 MB of dialogues 83 k differ, and the commonest 16 k make 96 %.
const SHORT_SET_BITS: u32 = 17;
/// The longest word of the middle table.
const MIDDLE_MAX: usize = 15;
/// 2^16 sets of two words of 32 bytes, 4 MiB.
const MIDDLE_SETS: usize = 1 << 16;
const LONG_MAX: usize = 47;
const LONG_TOKENS: usize = 12;
/// 2^15 words of 112 bytes, 3.5 MiB.
const LONG: usize = 1 << 15;

/// Words and their tokens.
pub(super) struct Cache {
    front: Vec<Short>,
    short: Vec<ShortSet>,
    middle: Vec<MiddleSet>,
    long: Vec<Long>,
}

/// Two words; a new one takes the first place and moves the other to the second.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct ShortSet([Short; 2]);

/// A word of up to 8 bytes and two tokens.
#[derive(Clone, Copy)]
struct Short {
    /// Its bytes, zeros after them.
    key: u64,
    /// From the top: its length, where the first of two tokens ends (0 if there is one), the second token, the first.
    found: u64,
}

impl Short {
    /// 0 if this is the word.
    #[inline]
    fn differs(&self, key: u64, len: usize) -> u64 {
        self.key ^ key | self.found >> 60 ^ len as u64
    }
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct MiddleSet([Middle; 2]);

/// A word of up to 15 bytes and two tokens.
#[derive(Clone, Copy)]
struct Middle {
    /// Its bytes, zeros after them, its length.
    key: u128,
    /// As in [`Short`].
    found: u64,
}

/// A word of up to 47 bytes and twelve tokens.
#[derive(Clone, Copy)]
struct Long {
    key: [u8; LONG_MAX],
    len: u8,
    ids: [u32; LONG_TOKENS],
    ends: [u8; LONG_TOKENS],
    tokens: u8,
}

impl Cache {
    /// No words yet.
    pub(super) fn new() -> Cache {
        let short = Short { key: 0, found: 0 };
        let middle = Middle { key: 0, found: 0 };
        let long = Long { key: [0; LONG_MAX], len: 0, ids: [0; LONG_TOKENS], ends: [0; LONG_TOKENS], tokens: 0 };
        Cache {
            front: vec![short; 1 << FRONT_BITS],
            short: vec![ShortSet([short; 2]); 1 << SHORT_SET_BITS],
            middle: vec![MiddleSet([middle; 2]); MIDDLE_SETS],
            long: vec![long; LONG],
        }
    }

    /// What the front knows of a word of up to 8 bytes, for [`unpack`]; 0 if nothing. Free of branches.
    #[inline]
    pub(super) fn find_front(&self, key: u64, len: usize) -> u64 {
        let word = &self.front[hash(key, FRONT_BITS)];
        word.found & all_if_zero(word.differs(key, len))
    }

    /// The same for the tables behind the front and words of up to 15 bytes.
    #[inline]
    pub(super) fn find_behind(&mut self, text: &[u8], start: usize, end: usize) -> u64 {
        match end - start {
            0..=SHORT_MAX => self.find_short(key(text, start, end), end - start),
            9..=MIDDLE_MAX => self.find_middle(middle_key(text, start, end)),
            _ => 0,
        }
    }

    #[inline]
    fn find_short(&mut self, key: u64, len: usize) -> u64 {
        let ShortSet([first, second]) = &self.short[hash(key, SHORT_SET_BITS)];
        let found = first.found & all_if_zero(first.differs(key, len)) | second.found & all_if_zero(second.differs(key, len));
        if found != 0 {
            self.front[hash(key, FRONT_BITS)] = Short { key, found };
        }
        found
    }

    #[inline]
    fn find_middle(&self, key: u128) -> u64 {
        let MiddleSet([first, second]) = &self.middle[middle_set(key)];
        let differs = |word: &Middle| (word.key ^ key) as u64 | ((word.key ^ key) >> 64) as u64;
        first.found & all_if_zero(differs(first)) | second.found & all_if_zero(differs(second))
    }

    /// Passes on the tokens of a word of the last table, if it is known.
    pub(super) fn emit_long<S: Sink>(&self, word: &[u8], start: usize, sink: &mut S) -> bool {
        let Some(known) = word.len().le(&LONG_MAX).then(|| &self.long[place(word)]) else { return false };
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
        if bytes <= MIDDLE_MAX && tokens <= 2 && symbols.ids.iter().all(|id| id >> ID_BITS == 0) {
            let second = symbols.ids.get(1).map_or(0, |id| u64::from(*id) | u64::from(symbols.lens[0]) << ID_BITS);
            let found = (bytes as u64) << 60 | second << ID_BITS | u64::from(symbols.ids[0]);
            if bytes <= SHORT_MAX {
                let key = key(word, 0, bytes);
                let ShortSet(words) = &mut self.short[hash(key, SHORT_SET_BITS)];
                words.swap(0, 1);
                words[0] = Short { key, found };
            } else {
                let key = middle_key(word, 0, bytes);
                let MiddleSet(words) = &mut self.middle[middle_set(key)];
                words.swap(0, 1);
                words[0] = Middle { key, found };
            }
        } else if bytes <= LONG_MAX && tokens <= LONG_TOKENS {
            let long = &mut self.long[place(word)];
            long.key[..bytes].copy_from_slice(word);
            (long.len, long.tokens) = (bytes as u8, tokens as u8);
            write(symbols, &mut long.ids, &mut long.ends);
        }
    }
}

fn write(symbols: &Symbols, ids: &mut [u32], ends: &mut [u8]) {
    ids.iter_mut().zip(&symbols.ids).for_each(|(to, id)| *to = *id);
    let mut end = 0;
    for (to, len) in ends.iter_mut().zip(&symbols.lens) {
        end += *len as u8;
        *to = end;
    }
}

/// The tokens of what [`Cache::find`] has found: the first, the second, and where the first ends, 0 if it is the only one.
#[inline]
pub(super) fn unpack(found: u64) -> ([u32; 2], usize) {
    let id = |bits: u64| bits as u32 & ((1 << ID_BITS) - 1);
    ([id(found), id(found >> ID_BITS)], (found >> (2 * ID_BITS)) as usize & 15)
}

const MASKS: [u64; SHORT_MAX + 1] = {
    let mut masks = [u64::MAX; SHORT_MAX + 1];
    let mut len = 0;
    while len < SHORT_MAX {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// The first 8 bytes of a word.
#[inline]
pub(super) fn key(text: &[u8], start: usize, end: usize) -> u64 {
    match text[start..].first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk) & MASKS[(end - start).min(SHORT_MAX)],
        None => {
            let mut chunk = [0; 8];
            chunk[..end - start].copy_from_slice(&text[start..end]);
            u64::from_le_bytes(chunk)
        }
    }
}

/// The bytes of a word of at most 15, and how many there are.
#[inline]
fn middle_key(text: &[u8], start: usize, end: usize) -> u128 {
    let len = end - start;
    let bytes = match text[start..].first_chunk::<16>() {
        Some(chunk) => u128::from_le_bytes(*chunk) & ((1 << (8 * len)) - 1),
        None => {
            let mut chunk = [0; 16];
            chunk[..len].copy_from_slice(&text[start..end]);
            u128::from_le_bytes(chunk)
        }
    };
    bytes | (len as u128) << 120
}

/// All bits, or none. Written as arithmetic since a branch would be wrong whenever the second of two words is the right one.
#[inline]
fn all_if_zero(difference: u64) -> u64 {
    u64::from(difference == 0).wrapping_neg()
}

#[inline]
fn hash(key: u64, bits: u32) -> usize {
    // The upper half of a product depends on all bits of the key only if they are mixed upwards first.
    let mixed = (key ^ key >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (64 - bits)) as usize
}

#[inline]
fn middle_set(key: u128) -> usize {
    let product = u128::from(key as u64 ^ 0x9E37_79B9_7F4A_7C15) * u128::from((key >> 64) as u64 ^ 0xC2B2_AE3D_27D4_EB4F);
    (product as u64 ^ (product >> 64) as u64) as usize % MIDDLE_SETS
}

fn place(word: &[u8]) -> usize {
    xxhash_rust::xxh3::xxh3_64(word) as usize % LONG
}
