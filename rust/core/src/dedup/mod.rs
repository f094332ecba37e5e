//! Finds dialogues that repeat an earlier one, exactly or nearly. Near duplicates are searched with
//! shingles of five words and MinHash, and confirmed by their exact Jaccard similarity. In short
//! rows, a sign or an indentation can be the whole difference, so their signs and code must be
//! similar too.
//!
//! Deduplication has state, so it has two parts: [`sign`] is pure and runs on any thread, and
//! [`Seen::admit`] is called in row order, so the earliest row is kept. Only kept rows are
//! remembered, in about 250 bytes each. Their shingles are on disk.
//!
//! An example, with the threshold at its default, 0.7:
//!
//! ```
//! # use zephyr_core::{Folder, dedup::{Repeat, Seen, sign}, recipe::Dedup};
//! # use zephyr_core::dialogue::{Dialogue, Role, Turn};
//! # let directory = tempfile::tempdir()?;
//! # let dedup = Dedup { exact: Some(true), near: true, ..Dedup::default() };
//! # let mut seen = Seen::new(&Folder::open(directory.path())?, &dedup)?;
//! let rows = [
//!     // Ten words, so 6 shingles of five words. The first row is new.
//!     ("the quick brown fox jumps over the lazy dog now", None),
//!     // Case and white space do not count: the hash of the text is that of row 0.
//!     (" The quick  brown fox jumps over the lazy dog now", Some(Repeat::Exact(0))),
//!     // 3 of 14 bands agree with row 0, so they are compared: 5 of 7 shingles are shared, 0.71.
//!     ("the quick brown fox jumps over the lazy dog tonight", Some(Repeat::Near(0))),
//!     // 1 of 11 shingles is shared. No band agrees, so nothing is compared.
//!     ("the quick brown fox jumps across the lazy dog now", None),
//!     // 5 of 7 are shared, but no band agrees. At 0.7, MinHash misses four pairs in ten.
//!     ("the quick brown fox jumps over the lazy dog again", None),
//! ];
//! for (row, (text, expected)) in (0..).zip(rows) {
//!     # let turns = vec![Turn::new(Role::User, text)];
//!     # let dialogue = Dialogue { turns, ..Dialogue::default() };
//!     assert_eq!(seen.admit(row, &sign(&dialogue, &dedup))?, expected);
//! }
//! assert_eq!(seen.comparisons(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod marked;
mod minhash;
mod signature;
mod tokens;

use std::cmp::Reverse;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::disk::Folder;
use crate::disk::spool::Spool;
use crate::error::Result;
use crate::recipe::Dedup;

use signature::Near;

pub use minhash::{BANDS, VERSION};
pub use signature::{Signature, sign, sign_bytes, sign_dialogue};

/// Maximum number of rows with the same band key that are compared, the newest first. Longer runs
/// consist of rows that share a template without being near duplicates, and comparing them would
/// take quadratic time. On 55,000 rows of chat, the longest run is 11. The manifest contains the
/// number of rows whose search was truncated.
const FOLLOWED_MAX: usize = 1_024;
/// Maximum number of these rows that are compared. Those that share the most bands come first, as
/// near duplicates do, and among them the newest.
const COMPARED_MAX: usize = 256;
/// Maximum number of shingles of other rows that a row is compared with in total: this many, or
/// this many times its own.
const SHINGLES_FREE: usize = 1 << 17;
const SHINGLES_RATIO_MAX: usize = 16;

/// The earlier row that a row repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The same text as this earlier row.
    Exact(i64),
    /// Nearly the text of this earlier row.
    Near(i64),
}

impl Repeat {
    /// The kinds of repetition, as manifest and ledger name them.
    pub const KINDS: [&str; 2] = ["exact", "near"];

    /// Its kind, and the earlier row.
    #[must_use]
    pub fn told(self) -> (&'static str, i64) {
        match self {
            Repeat::Exact(row) => (Self::KINDS[0], row),
            Repeat::Near(row) => (Self::KINDS[1], row),
        }
    }
}

/// The dialogues kept so far. With both kinds of dedup, each takes 8 bytes for the row, 16 for the
/// exact hash, 56 for band keys, 56 for chains, 16 in the spool, and 5 in each of 15 tables that are
/// at least seven sixteenths full: 324 at most.
pub struct Seen {
    /// Per kept dialogue: its row.
    rows: Vec<i64>,
    /// For each kept dialogue, the hash of its text, if exact dedup is enabled.
    exact: Vec<u128>,
    /// Kept dialogues by that hash.
    by_exact: HashTable<u32>,
    /// Per kept dialogue: its band keys.
    keys: Vec<[u32; BANDS]>,
    /// For each band and key, the newest kept dialogue with that key. A coincidentally shared key
    /// only costs a check.
    newest: [HashTable<u32>; BANDS],
    /// Per kept dialogue: per band, the one before it in its chain, plus one.
    before: Vec<[u32; BANDS]>,
    /// Per kept dialogue, two records: its shingles of words, and its record of marks.
    shingles: Spool,
    threshold: f64,
    near_search_truncated: u64,
    /// Pairs of rows compared so far.
    comparisons: u64,
    /// The shingles read last.
    buffer: Vec<u8>,
}

impl Seen {
    /// Creates an empty state. `folder` is the directory for the shingles.
    pub fn new(folder: &Folder, dedup: &Dedup) -> Result<Seen> {
        Ok(Seen {
            rows: Vec::new(),
            exact: Vec::new(),
            by_exact: HashTable::new(),
            keys: Vec::new(),
            newest: std::array::from_fn(|_| HashTable::new()),
            before: Vec::new(),
            shingles: Spool::create(folder, "shingles")?,
            threshold: dedup.threshold,
            near_search_truncated: 0,
            comparisons: 0,
            buffer: Vec::new(),
        })
    }

    /// The number of rows that share a band with more rows than they were compared with, so a near
    /// duplicate may have been missed.
    #[must_use]
    pub fn near_search_truncated(&self) -> u64 {
        self.near_search_truncated
    }

    /// Pairs of rows that were compared by their shingles so far.
    #[must_use]
    pub fn comparisons(&self) -> u64 {
        self.comparisons
    }

    /// Compares a dialogue with all earlier kept ones, and remembers it if it is new. Must be
    /// called in row order.
    pub fn admit(&mut self, row: i64, signature: &Signature) -> Result<Option<Repeat>> {
        if let Some(exact) = signature.exact
            && let Some(kept) =
                self.by_exact.find(exact as u64, |kept| self.exact[*kept as usize] == exact)
        {
            return Ok(Some(Repeat::Exact(self.rows[*kept as usize])));
        }
        if let Some(near) = &signature.near
            && let Some(earlier) = self.near(near)?
        {
            return Ok(Some(Repeat::Near(earlier)));
        }
        if signature.exact.is_some() || signature.near.is_some() {
            self.remember(row, signature)?;
        }
        Ok(None)
    }

    /// The earliest kept row that shares a band and, checked exactly, enough shingles.
    fn near(&mut self, near: &Near) -> Result<Option<i64>> {
        let (followed, is_followed_short) = self.followed(near);
        let (candidates, is_compared_short) = self.candidates(followed, near.shingles.len());
        self.near_search_truncated += u64::from(is_followed_short || is_compared_short);
        for kept in candidates {
            self.comparisons += 1;
            if self.is_similar(near, kept as usize)? {
                return Ok(Some(self.rows[kept as usize]));
            }
        }
        Ok(None)
    }

    /// Whether a row shares enough shingles of words with a kept one and, if both are short, enough
    /// shingles of marks.
    fn is_similar(&mut self, near: &Near, kept: usize) -> Result<bool> {
        self.shingles.read(2 * kept, &mut self.buffer)?;
        if jaccard(&near.shingles, self.buffer.as_chunks().0) < self.threshold {
            return Ok(false);
        }
        self.shingles.read(2 * kept + 1, &mut self.buffer)?;
        let marked = marked::compared(&near.marked, self.buffer.as_chunks().0);
        Ok(marked.is_none_or(|(own, other)| jaccard(own, other) >= self.threshold))
    }

    /// Kept dialogues that share a band and have a suitable length to be near duplicates, once per
    /// band, and whether there are more.
    fn followed(&self, near: &Near) -> (Vec<u32>, bool) {
        let mut found = Vec::new();
        let mut is_cut_short = false;
        for (band, key) in near.bands.iter().enumerate() {
            let newest = self.newest[band]
                .find(spread(*key), |kept| self.keys[*kept as usize][band] == *key);
            let mut next = newest.map_or(0, |kept| kept + 1);
            let mut followed = 0;
            while next != 0 && followed < FOLLOWED_MAX {
                let kept = (next - 1) as usize;
                if bound(near.shingles.len(), self.count(kept)) >= self.threshold {
                    found.push(next - 1);
                }
                followed += 1;
                next = self.before[kept][band];
            }
            is_cut_short |= next != 0;
        }
        (found, is_cut_short)
    }

    /// The dialogues to compare, the earliest first, and whether there are more. `own` is the row's
    /// number of shingles.
    fn candidates(&self, mut followed: Vec<u32>, own: usize) -> (Vec<u32>, bool) {
        followed.sort_unstable();
        let mut counted: Vec<(u32, usize)> =
            followed.chunk_by(|a, b| a == b).map(|same| (same[0], same.len())).collect();
        counted.sort_by_key(|(kept, bands)| (Reverse(*bands), Reverse(*kept)));
        let mut room = SHINGLES_FREE.max(own.saturating_mul(SHINGLES_RATIO_MAX));
        let mut fits = |kept: u32| {
            let left = room.checked_sub(self.count(kept as usize));
            room = left.unwrap_or(0);
            left.is_some()
        };
        let mut compared: Vec<u32> = counted
            .iter()
            .map(|(kept, _)| *kept)
            .take(COMPARED_MAX)
            .take_while(|kept| fits(*kept))
            .collect();
        compared.sort_unstable();
        let is_cut_short = compared.len() < counted.len();
        (compared, is_cut_short)
    }

    /// The number of shingles of words of a kept row.
    fn count(&self, kept: usize) -> usize {
        self.shingles.length(2 * kept) / 8
    }

    fn remember(&mut self, row: i64, signature: &Signature) -> Result<()> {
        let number = u32::try_from(self.rows.len()).expect("memory holds fewer than 2^32 rows");
        self.rows.push(row);
        // Each vector stays empty if its kind of dedup is disabled. If it is enabled, a dialogue
        // without the compared part still gets an entry, so one index is valid for all of them.
        if let Some(exact) = signature.exact {
            self.exact.resize(number as usize, 0);
            self.exact.push(exact);
            self.by_exact
                .insert_unique(exact as u64, number, |kept| self.exact[*kept as usize] as u64);
        }
        let Some(near) = &signature.near else { return Ok(()) };
        while self.keys.len() < number as usize {
            self.keys.push([0; BANDS]);
            self.before.push([0; BANDS]);
            self.shingles.push_u64(&[])?;
            self.shingles.push_u64(&[])?;
        }
        self.keys.push(near.bands);
        self.shingles.push_u64(&near.shingles)?;
        self.shingles.push_u64(&near.marked)?;
        let mut before = [0; BANDS];
        for (band, key) in near.bands.iter().enumerate() {
            let keys = &self.keys;
            match self.newest[band].entry(
                spread(*key),
                |kept| keys[*kept as usize][band] == *key,
                |kept| spread(keys[*kept as usize][band]),
            ) {
                Entry::Occupied(mut newest) => {
                    before[band] = std::mem::replace(newest.get_mut(), number) + 1
                }
                Entry::Vacant(none) => {
                    none.insert(number);
                }
            }
        }
        self.before.push(before);
        Ok(())
    }
}

/// Expands a band's key, 32 bits of a hash, to the 64 bits that a table needs.
fn spread(key: u32) -> u64 {
    u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The upper bound of the similarity of two sets of these sizes.
fn bound(a: usize, b: usize) -> f64 {
    a.min(b) as f64 / a.max(b) as f64
}

/// The Jaccard similarity of two ascending sets that are not both empty. One is in the spool's
/// format.
fn jaccard(a: &[u64], b: &[[u8; 8]]) -> f64 {
    let (mut i, mut j, mut shared) = (0, 0, 0_usize);
    while i < a.len() && j < b.len() {
        let (left, right) = (a[i], u64::from_le_bytes(b[j]));
        shared += usize::from(left == right);
        i += usize::from(left <= right);
        j += usize::from(right <= left);
    }
    shared as f64 / (a.len() + b.len() - shared) as f64
}

#[cfg(test)]
mod tests;
