//! Looks words up in batches, so memory latencies overlap.

use std::ops::Range;

use super::cache::{self, Cache, Known, SHORT_TOKENS};
use crate::tokenize::encode::{Sink, Span};

/// Approximate number of words per batch, more than twice the number in a window.
pub(super) const BATCH: usize = 128;
const TOKENS: usize = SHORT_TOKENS * (BATCH + 1);

/// The ends of words.
pub(super) type Ends = [u32; BATCH + 1];

/// Consecutive words, their cached tokens, and space for new tokens.
pub(super) struct Batch {
    start: usize,
    len: usize,
    ends: Ends,
    keys: [u128; BATCH + 1],
    hashes: [u32; BATCH + 1],
    found: [Known; BATCH + 1],
    /// The words that were not found in the first table, and their number. The length equals the
    /// number of values of a byte, so no access needs a bounds check.
    rest: [u8; 256],
    rest_len: usize,
    ids: [u32; TOKENS],
    spans: [Span; TOKENS],
}

impl Default for Batch {
    fn default() -> Batch {
        Batch {
            start: 0,
            len: 0,
            ends: [0; BATCH + 1],
            keys: [0; BATCH + 1],
            hashes: [0; BATCH + 1],
            found: [Known::NOTHING; BATCH + 1],
            rest: [0; 256],
            rest_len: 0,
            ids: [0; TOKENS],
            spans: [Span::default(); TOKENS],
        }
    }
}

impl Batch {
    /// No words.
    pub(super) fn clear(&mut self) {
        (self.len, self.rest_len) = (0, 0);
    }

    /// Fills the batch with the words from `start` on. Returns where the last one ends.
    #[inline]
    pub(super) fn fill(&mut self, start: usize, fill: impl FnOnce(&mut Ends) -> usize) -> usize {
        (self.start, self.len) = (start, fill(&mut self.ends));
        self.ends[self.len - 1] as usize
    }

    /// Looks all words up in the first table and prefetches cache entries of the others. Each word
    /// of a step is prefetched before the first is read, and no step waits for a branch that
    /// depends on memory.
    #[inline]
    pub(super) fn look_up(&mut self, text: &[u8], cache: &Cache) {
        let Batch { keys, hashes, ends, found, rest, .. } = self;
        // A counted loop, because zipped iterators take 25 % more instructions here.
        let len = self.len.min(BATCH + 1);
        let mut from = self.start;
        for index in 0..len {
            let end = ends[index] as usize;
            let key = cache::key(text, from, end);
            let hash = cache::hash(key);
            cache.expect_front(hash);
            (keys[index], hashes[index]) = (key, hash);
            from = end;
        }
        let mut count = 0_u8;
        for index in 0..len {
            let known = cache.find_front(keys[index], hashes[index]);
            found[index] = known;
            rest[usize::from(count)] = index as u8;
            count += u8::from(known.is_nothing());
        }
        self.rest_len = usize::from(count);
        self.rest[..self.rest_len]
            .iter()
            .for_each(|index| cache.expect_behind(self.hashes[usize::from(*index)]));
    }

    /// Looks up the words that the first table lacks in the next one.
    #[inline]
    pub(super) fn look_behind(&mut self, cache: &mut Cache) {
        for index in self.rest[..self.rest_len].iter().map(|index| usize::from(*index)) {
            self.found[index] = cache.find_behind(self.keys[index], self.hashes[index]);
        }
    }

    /// Outputs the tokens of all words in order. For a word that is not cached or has too many
    /// tokens for the table, it calls `unknown` with the cached entry and the word's range.
    #[inline]
    pub(super) fn pass_on<S: Sink>(
        &mut self,
        sink: &mut S,
        mut unknown: impl FnMut(Known, Range<usize>, &mut S),
    ) {
        let Batch { start, ends, found, ids, spans, .. } = self;
        let mut count = 0;
        for (index, known) in found[..self.len].iter().enumerate() {
            let range = || {
                (if index == 0 { *start } else { ends[index - 1] as usize })..ends[index] as usize
            };
            if known.count().wrapping_sub(1) < 2 {
                // One word in ten has two. A branch mispredicted so often costs more than writing a
                // token that is not used.
                ids[count..count + 2].copy_from_slice(&known.first_two());
                if S::SPANS {
                    let middle = range().start + known.end(0);
                    spans[count..count + 2]
                        .copy_from_slice(&[span(range().start, middle), span(middle, range().end)]);
                }
                count += known.count();
            } else if known.count().wrapping_sub(1) < SHORT_TOKENS {
                let mut from = range().start;
                for token in 0..known.count() {
                    ids[count] = known.id(token);
                    if S::SPANS {
                        let to = range().start + known.end(token);
                        spans[count] = span(from, to);
                        from = to;
                    }
                    count += 1;
                }
            } else {
                sink.take(&ids[..count], if S::SPANS { &spans[..count] } else { &[] });
                count = 0;
                unknown(*known, range(), sink);
            }
        }
        sink.take(&ids[..count], if S::SPANS { &spans[..count] } else { &[] });
    }
}

fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, end: end as u32 }
}

/// Generates texts of up to 190 characters: runs of letters, digits, white space, signs and
/// characters of two to four bytes. Two thirds are ASCII.
#[cfg(test)]
pub(super) fn hostile() -> impl Iterator<Item = String> {
    let alphabet: Vec<char> =
        "aabcdelmrstvzALSTZ  \n\r\t''.,-09_<\u{0}é▁中💖\u{3000}".chars().collect();
    let mut state = 9_u64;
    (0..600).map(move |round| {
        let ascii = alphabet.iter().take_while(|character| character.is_ascii()).count();
        let (mut character, known) = ('a', if round % 3 == 0 { alphabet.len() } else { ascii });
        let next = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            if state >> 62 != 0 {
                character = alphabet[(state >> 32) as usize % known];
            }
            character
        };
        (0..round % 190 + 1).map(next).collect()
    })
}
