//! Words that are looked up together, so that the memory's delays overlap.

use super::cache::{self, Cache, Known, SHORT_TOKENS};
use super::encode::{Sink, Span};

/// About how many words are looked up together; a window's words more than half of it.
pub(super) const BATCH: usize = 128;
const TOKENS: usize = SHORT_TOKENS * (BATCH + 1);

/// Where words end.
pub(super) type Ends = [u32; BATCH + 1];

/// Words in a row, what is known of them, and room for their tokens.
pub(super) struct Batch {
    start: usize,
    len: usize,
    ends: Ends,
    keys: [u128; BATCH + 1],
    hashes: [u32; BATCH + 1],
    found: [Known; BATCH + 1],
    /// Which were not found in the front, and how many these are.
    rest: [u8; BATCH + 1],
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
            rest: [0; BATCH + 1],
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

    /// How many words there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where the first one starts.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// What is known of a word, and where it ends.
    #[inline]
    pub(super) fn word(&self, place: usize) -> (Known, usize) {
        (self.found[place], self.ends[place] as usize)
    }

    /// The words from `start` on; returns where the last one ends.
    #[inline]
    pub(super) fn fill(&mut self, start: usize, fill: impl FnOnce(&mut Ends) -> usize) -> usize {
        (self.start, self.len) = (start, fill(&mut self.ends));
        self.ends[self.len - 1] as usize
    }

    /// Looks all words up in the front, and asks the memory for what may be known of the others. Each word of a step is asked for before the
    /// first is read, and no step waits for a branch that hangs on memory.
    #[inline]
    pub(super) fn look_up(&mut self, text: &[u8], cache: &Cache) {
        let mut from = self.start;
        for ((key, hash), end) in self.keys.iter_mut().zip(&mut self.hashes).zip(&self.ends[..self.len]) {
            *key = cache::key(text, from, *end as usize);
            *hash = cache::hash(*key);
            cache.expect_front(*hash);
            from = *end as usize;
        }
        let words = self.keys.iter().zip(&self.hashes).zip(&mut self.found).take(self.len);
        let mut count = 0;
        for (place, ((key, hash), found)) in words.enumerate() {
            *found = cache.find_front(*key, *hash);
            self.rest[count] = place as u8;
            count += usize::from(found.is_nothing());
        }
        self.rest_len = count;
        self.rest[..count].iter().for_each(|place| cache.expect_behind(self.hashes[usize::from(*place)]));
    }

    /// Looks up behind the front what was not found in it.
    #[inline]
    pub(super) fn look_behind(&mut self, cache: &mut Cache) {
        for place in self.rest[..self.rest_len].iter().map(|place| usize::from(*place)) {
            self.found[place] = cache.find_behind(self.keys[place], self.hashes[place]);
        }
    }

    /// Writes the tokens of a known word behind `count` others; returns how many there are then.
    #[inline]
    pub(super) fn write<S: Sink>(&mut self, known: Known, start: usize, end: usize, count: usize) -> usize {
        let span = |start: usize, end: usize| Span { start: start as u32, end: end as u32 };
        if known.count() <= 2 {
            // One word in ten has two, and a branch that is wrong so often costs more than a token written in vain.
            self.ids[count..count + 2].copy_from_slice(&[known.id(0), known.id(1)]);
            if S::SPANS {
                let middle = start + known.end(0);
                self.spans[count..count + 2].copy_from_slice(&[span(start, middle), span(middle, end)]);
            }
            return count + known.count();
        }
        let mut from = start;
        for place in 0..known.count() {
            self.ids[count + place] = known.id(place);
            if S::SPANS {
                let to = start + known.end(place);
                self.spans[count + place] = span(from, to);
                from = to;
            }
        }
        count + known.count()
    }

    /// Hands the first `count` tokens on.
    pub(super) fn flush<S: Sink>(&self, count: usize, sink: &mut S) {
        sink.take(&self.ids[..count], if S::SPANS { &self.spans[..count] } else { &[] });
    }
}
