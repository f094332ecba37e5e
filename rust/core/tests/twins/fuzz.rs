//! Mutates rows at random for `ZEPHYR_FAST_FUZZ_SECONDS` seconds (default: 2). The fast reader and
//! serde_json must read and refuse the same rows, and neither may panic. The corpus is
//! `hostile_rows.jsonl`, to which any row that is read in two ways is added.
//!
//! A row with several changes has several faults. Which of them is named first is only compared on
//! the corpus, or if `ZEPHYR_FAST_SEED` is set, to find rows for it.

use std::time::{Duration, Instant};

use crate::read::{HOSTILE, check, check_unless_refused};

/// Bytes that mean something to a reader of JSON, or to one of UTF-8.
const BYTES: &[u8] = b"\"\\{}[]:,0-eE.+ntf\x00\x1f\x7f\xc3\xed\xff";

/// A small generator that a printed seed replays (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

#[test]
fn rows_mutated_at_random_read_as_serde_json_reads_them() {
    let seconds = std::env::var("ZEPHYR_FAST_FUZZ_SECONDS")
        .map_or(2, |seconds| seconds.parse().expect("a number of seconds"));
    let set_seed = std::env::var("ZEPHYR_FAST_SEED").map(|seed| seed.parse().expect("a number"));
    let check = if set_seed.is_ok() { check } else { check_unless_refused };
    let seed = set_seed.unwrap_or_else(|_| u64::from(std::process::id()));
    println!("seed {seed}");
    let corpus: Vec<&[u8]> = HOSTILE.lines().map(str::as_bytes).collect();
    let mut chance = Chance(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut rows = 0;
    while Instant::now() < end {
        let row = mutated(&corpus, &mut chance);
        if std::panic::catch_unwind(|| check(&row)).is_err() {
            panic!("seed {seed}: {}", String::from_utf8_lossy(&row));
        }
        rows += 1;
    }
    println!("{rows} rows");
}

/// A row of the corpus with up to eight changes: a bit, a byte, or a piece removed, doubled, moved
/// or copied from another row.
fn mutated(corpus: &[&[u8]], chance: &mut Chance) -> Vec<u8> {
    let mut row = corpus[chance.below(corpus.len())].to_vec();
    for _ in 0..=chance.below(8) {
        let (from, to) = (chance.below(row.len() + 1), chance.below(row.len() + 1));
        let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 64));
        let other = corpus[chance.below(corpus.len())];
        let (start, end) = (chance.below(other.len() + 1), chance.below(other.len() + 1));
        let foreign = &other[start.min(end)..start.max(end)];
        match chance.below(6) {
            0 if from < row.len() => row[from] ^= 1 << chance.below(8),
            1 if from < row.len() => row[from] = BYTES[chance.below(BYTES.len())],
            2 => drop(row.drain(from..to)),
            3 => {
                let piece = row[from..to].repeat(1 + chance.below(3));
                drop(row.splice(from..from, piece));
            }
            4 => drop(row.splice(from..to, foreign.iter().copied())),
            _ => drop(row.splice(from..from, foreign.iter().copied())),
        }
    }
    row
}
