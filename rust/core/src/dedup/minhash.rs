//! Shingles and their MinHash bands: one hash per shingle, one permutation, empty bins filled by optimal densification
//! (Shrivastava 2017, "Optimal Densification for Fast and Accurate Minwise Hashing"), 14 bands of 8.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The version of normal form, shingles and hashes.
pub const VERSION: u32 = 1;
/// Bands of a signature; two rows that share one are compared. 14 × 8 is datatrove's default.
pub const BANDS: usize = 14;
/// Hashes that must all agree for a band to be shared.
const ROWS: usize = 8;
/// Words of a shingle.
const WORDS: usize = 5;
const SEED: u64 = 1;
const HASHES: usize = BANDS * ROWS;

/// The hashes of all runs of five words, ascending, each once; of a shorter text, the hash of all its words.
pub(super) fn shingles(text: &str) -> Vec<u64> {
    let words: Vec<u64> = words(text).map(|word| xxh3_64(word.as_bytes())).collect();
    let mut shingles: Vec<u64> = match words.len() {
        0 => Vec::new(),
        1..WORDS => vec![mixed(&words)],
        _ => words.windows(WORDS).map(mixed).collect(),
    };
    shingles.sort_unstable();
    shingles.dedup();
    shingles
}

/// The runs of letters and digits.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// One hash of several words in order.
fn mixed(words: &[u64]) -> u64 {
    words.iter().fold(SEED, |hash, word| (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
}

/// The keys of the bands.
pub(super) fn bands(shingles: &[u64]) -> [u32; BANDS] {
    let hashes = hashes(shingles);
    std::array::from_fn(|band| {
        let bytes: Vec<u8> = hashes[band * ROWS..(band + 1) * ROWS].iter().flat_map(|hash| hash.to_le_bytes()).collect();
        xxh3_64(&bytes) as u32
    })
}

/// The smallest shingle of each bin; a bin without one borrows from the bin that a fixed chain of choices leads to.
fn hashes(shingles: &[u64]) -> [u64; HASHES] {
    let mut bins = [u64::MAX; HASHES];
    for shingle in shingles {
        let hash = xxh3_64_with_seed(&shingle.to_le_bytes(), SEED);
        let bin = ((u128::from(hash) * HASHES as u128) >> 64) as usize;
        bins[bin] = bins[bin].min(hash);
    }
    if shingles.is_empty() {
        return bins;
    }
    let filled = bins;
    for (bin, hash) in bins.iter_mut().enumerate() {
        let mut attempt = 0_u64;
        while *hash == u64::MAX {
            attempt += 1;
            let choice = xxh3_64_with_seed(&attempt.to_le_bytes(), SEED + bin as u64);
            *hash = filled[((u128::from(choice) * HASHES as u128) >> 64) as usize];
        }
    }
    bins
}
