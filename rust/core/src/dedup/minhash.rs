//! Shingles and their MinHash bands: one hash per shingle, one permutation, empty bins filled by
//! optimal densification (Shrivastava 2017, "Optimal Densification for Fast and Accurate Minwise
//! Hashing"), 14 bands of 8.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::words::{hash_run, runs};

/// The version of normal form, shingles and hashes.
pub const VERSION: u32 = 4;
/// Number of bands in a signature. Rows that share one are compared. 14 × 8 is the default of
/// datatrove.
pub const BANDS: usize = 14;
/// Hashes that must all agree for a band to be shared.
const ROWS: usize = 8;
/// Words of a shingle.
const WORDS: usize = 5;
const SEED: u64 = 1;
/// 4,096 buckets, 16 KiB: they stay in the fastest cache.
const BUCKET_BITS_MAX: u32 = 12;
const HASHES: usize = BANDS * ROWS;

/// The distinct hashes of all runs of five tokens in ascending order. A shorter dialogue has one hash
/// of all its tokens, and one without tokens has none.
pub(super) fn shingles(hashes: &[u64]) -> Vec<u64> {
    let mut shingles = match hashes.len() {
        0 => Vec::new(),
        1..WORDS => vec![hash_run(hashes)],
        _ => ascending(&runs::<WORDS>(hashes).collect::<Vec<_>>()),
    };
    shingles.dedup();
    shingles
}

/// Sorts hashes first into buckets by their upper bits, then within each bucket. The hashes are
/// uniformly distributed, so a bucket contains about one.
fn ascending(hashes: &[u64]) -> Vec<u64> {
    let bits = hashes.len().ilog2().clamp(1, BUCKET_BITS_MAX);
    let bucket = |hash: u64| (hash >> (64 - bits)) as usize;
    let mut ends = [0_u32; 1 << BUCKET_BITS_MAX];
    hashes.iter().for_each(|hash| ends[bucket(*hash)] += 1);
    let mut end = 0;
    for bucket in &mut ends[..1 << bits] {
        // Temporarily, the start of the bucket.
        end += std::mem::replace(bucket, end);
    }
    let mut sorted = vec![0; hashes.len()];
    for hash in hashes {
        let slot = &mut ends[bucket(*hash)];
        sorted[*slot as usize] = *hash;
        *slot += 1;
    }
    let mut start = 0;
    for end in ends[..1 << bits].iter().map(|end| *end as usize) {
        if end - start > 1 {
            sorted[start..end].sort_unstable();
        }
        start = end;
    }
    sorted
}

/// The keys of the bands.
pub(super) fn bands(shingles: &[u64]) -> [u32; BANDS] {
    let hashes = hashes(shingles);
    std::array::from_fn(|band| {
        let mut bytes = [0; 8 * ROWS];
        for (bytes, hash) in bytes.as_chunks_mut().0.iter_mut().zip(&hashes[band * ROWS..]) {
            *bytes = hash.to_le_bytes();
        }
        xxh3_64(&bytes) as u32
    })
}

/// The smallest shingle of each bin. An empty bin borrows from another one, found by a fixed
/// sequence of choices.
fn hashes(shingles: &[u64]) -> [u64; HASHES] {
    let mut bins = [u64::MAX; HASHES];
    // A shingle's hash is already uniformly distributed, so its upper bits choose the bin, and the
    // hash is its rank there.
    for shingle in shingles {
        let bin = bin(*shingle);
        bins[bin] = bins[bin].min(*shingle);
    }
    if shingles.is_empty() {
        return bins;
    }
    let filled = bins;
    for (slot, hash) in bins.iter_mut().enumerate() {
        let mut attempt = 0_u64;
        while *hash == u64::MAX {
            attempt += 1;
            let choice = xxh3_64_with_seed(&attempt.to_le_bytes(), SEED + slot as u64);
            *hash = filled[bin(choice)];
        }
    }
    bins
}

/// The bin that a hash falls in.
fn bin(hash: u64) -> usize {
    ((u128::from(hash) * HASHES as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting_by_buckets_is_sorting() {
        let mut state = 7_u64;
        for length in (1..600).chain([5_000, 40_000]) {
            let hashes: Vec<u64> = (0..length)
                .map(|slot| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    // Repeated hashes, and some that all belong to one bucket.
                    if slot % 5 == 0 { state % 7 } else { state }
                })
                .collect();
            let mut expected = hashes.clone();
            expected.sort_unstable();
            assert_eq!(ascending(&hashes), expected);
        }
    }
}
