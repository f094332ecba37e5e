//! Finds dialogues that say the same as an earlier one: exactly, or nearly (5-word shingles, MinHash, exact Jaccard check).
//!
//! Dedup has memory, so it is split: [`sign`] is pure and runs on any thread; [`Seen::admit`] is called in row order,
//! and the earliest row stays. Only rows that stay are remembered, about 250 bytes each; their shingles lie on disk.

mod minhash;

use std::path::Path;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128;

use crate::dialogue::Dialogue;
use crate::error::Result;
use crate::recipe::Dedup;
use crate::spool::Spool;
use crate::text::normalised;

pub use minhash::{BANDS, VERSION};

/// A chain of rows that share a band is followed this far; longer chains are made of rows that are not alike.
const CANDIDATES_MAX: usize = 256;

/// What is compared of one dialogue.
#[derive(Debug)]
pub struct Signature {
    /// XXH3-128 of the normalised text.
    exact: Option<u128>,
    /// The near-dedup part, where it is on.
    near: Option<Near>,
}

#[derive(Debug)]
struct Near {
    bands: [u32; BANDS],
    /// Hashes of the shingles, ascending, each once.
    shingles: Vec<u64>,
}

/// What admitting a dialogue found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Nothing like it came before.
    New,
    /// The same text as this earlier row.
    Exact(i64),
    /// Nearly the text of this earlier row.
    Near(i64),
}

/// Signs a dialogue. Pure: the result depends on the text and the recipe alone.
#[must_use]
pub fn sign(dialogue: &Dialogue, dedup: &Dedup) -> Signature {
    let turns: Vec<&str> = dialogue.turns.iter().map(|turn| turn.text.as_str()).collect();
    let text = normalised(&turns.join("\n"));
    let near = dedup.near.then(|| {
        let shingles = minhash::shingles(&text);
        Near { bands: minhash::bands(&shingles), shingles }
    });
    Signature { exact: dedup.exact.then(|| xxh3_128(text.as_bytes())), near }
}

/// Signs a row by its very bytes: what `binarize` compares.
#[must_use]
pub fn sign_bytes(row: &[u8]) -> Signature {
    Signature { exact: Some(xxh3_128(row.trim_ascii())), near: None }
}

/// The dialogues that stayed so far.
pub struct Seen {
    exact: HashMap<u128, i64>,
    /// By band and its key: the newest kept dialogue with that key. A key shared by chance only costs a check.
    newest: Vec<HashMap<u32, u32>>,
    /// Per kept dialogue: per band, the one before it in its chain, plus one.
    before: Vec<[u32; BANDS]>,
    /// Per kept dialogue: its row.
    rows: Vec<i64>,
    shingles: Spool,
    threshold: f64,
}

impl Seen {
    /// Remembers nothing yet. `folder` holds the shingles.
    pub fn new(folder: &Path, dedup: &Dedup) -> Result<Seen> {
        Ok(Seen {
            exact: HashMap::new(),
            newest: vec![HashMap::new(); if dedup.near { BANDS } else { 0 }],
            before: Vec::new(),
            rows: Vec::new(),
            shingles: Spool::create(&folder.join("shingles"))?,
            threshold: dedup.threshold,
        })
    }

    /// Compares a dialogue with all earlier ones that stayed, and remembers it if it is new. Call in row order.
    pub fn admit(&mut self, row: i64, signature: &Signature) -> Result<Admission> {
        if let Some(earlier) = signature.exact.and_then(|exact| self.exact.get(&exact)) {
            return Ok(Admission::Exact(*earlier));
        }
        if let Some(near) = &signature.near {
            if let Some(earlier) = self.near(near)? {
                return Ok(Admission::Near(earlier));
            }
            self.remember(row, near)?;
        }
        if let Some(exact) = signature.exact {
            self.exact.insert(exact, row);
        }
        Ok(Admission::New)
    }

    /// The earliest kept row that shares a band and, checked exactly, enough shingles.
    fn near(&mut self, near: &Near) -> Result<Option<i64>> {
        let mut candidates = Vec::new();
        for (band, key) in near.bands.iter().enumerate() {
            let mut next = self.newest[band].get(key).map(|kept| kept + 1).unwrap_or_default();
            let mut followed = 0;
            while next != 0 && followed < CANDIDATES_MAX {
                candidates.push(next - 1);
                next = self.before[(next - 1) as usize][band];
                followed += 1;
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        for kept in candidates {
            let shingles = self.shingles.read_u64(kept as usize)?;
            if jaccard(&near.shingles, &shingles) >= self.threshold {
                return Ok(Some(self.rows[kept as usize]));
            }
        }
        Ok(None)
    }

    fn remember(&mut self, row: i64, near: &Near) -> Result<()> {
        let kept = u32::try_from(self.rows.len()).expect("fewer than 2^32 rows fit in memory");
        let mut before = [0; BANDS];
        for (band, key) in near.bands.iter().enumerate() {
            if let Some(earlier) = self.newest[band].insert(*key, kept) {
                before[band] = earlier + 1;
            }
        }
        self.before.push(before);
        self.rows.push(row);
        self.shingles.push_u64(&near.shingles)
    }
}

/// Shared over all, of two ascending sets.
fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut i, mut j, mut shared) = (0, 0, 0_usize);
    while i < a.len() && j < b.len() {
        let (left, right) = (a[i], b[j]);
        shared += usize::from(left == right);
        i += usize::from(left <= right);
        j += usize::from(right <= left);
    }
    let all = a.len() + b.len() - shared;
    if all == 0 { 1.0 } else { shared as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::{Replies, Role, Turn};

    fn dialogue(text: &str) -> Dialogue {
        let turns = vec![Turn { role: Role::User, text: text.to_owned() }];
        Dialogue { id: None, source: None, turns, replies: Replies::Inline }
    }

    #[test]
    fn the_earliest_of_equal_and_near_equal_dialogues_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dedup = Dedup { exact: true, near: true, threshold: 0.7 };
        let mut seen = Seen::new(folder.path(), &dedup).expect("creates its spool");
        let words: Vec<String> = (0..200).map(|word| format!("word{word}")).collect();
        let long = words.join(" ");
        let nearly = long.replace("word150", "other");
        let mut admit = |row: i64, text: &str| seen.admit(row, &sign(&dialogue(text), &dedup)).expect("reads its spool");
        assert_eq!(admit(0, &long), Admission::New);
        assert_eq!(admit(1, "short text"), Admission::New);
        assert_eq!(admit(2, &format!("  {}\n", long.to_uppercase())), Admission::Exact(0));
        assert_eq!(admit(3, &nearly), Admission::Near(0));
        assert_eq!(admit(4, "another short text"), Admission::New);
        assert_eq!(admit(5, "Short  text!"), Admission::Near(1));
    }
}
