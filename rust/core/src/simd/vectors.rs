//! Vectors of 64 bytes for processors that support them. One instruction replaces a loop elsewhere.
//!
//! Each function has a portable reference implementation, which other processors use and tests
//! compare with.
#![expect(
    unsafe_code,
    reason = "without it, Mistral tokenization takes 14 % longer; see docs/benchmarks-log.md"
)]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_castsi512_si128, _mm512_cmplt_epi8_mask,
    _mm512_cmplt_epu8_mask, _mm512_cvtepu8_epi32, _mm512_extracti32x4_epi32, _mm512_loadu_si512,
    _mm512_maskz_compress_epi8, _mm512_movepi8_mask, _mm512_or_si512, _mm512_permutex2var_epi8,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_storeu_si512, _mm512_sub_epi8,
    _mm512_testn_epi8_mask,
};

use crate::simd::bits::WINDOW;

/// Whether this processor supports all features that the functions here need.
pub(crate) fn are_here() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("popcnt")
}

const NUMBERS: [u8; WINDOW] = {
    let mut numbers = [0; WINDOW];
    let mut position = 0;
    while position < WINDOW {
        numbers[position] = position as u8;
        position += 1;
    }
    numbers
};

#[inline]
#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; WINDOW]) -> __m512i {
    // SAFETY: it reads 64 bytes from an array of 64 bytes, at any alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Like [`crate::simd::bits::list`], with sixteen positions at a time.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
pub(crate) fn list(mask: u64, base: u32, positions: &mut [u32; WINDOW]) -> usize {
    let count = mask.count_ones() as usize;
    let found = _mm512_maskz_compress_epi8(mask, load(&NUMBERS));
    let base = _mm512_set1_epi32(base as i32);
    let (quarters, _) = positions.as_chunks_mut::<16>();
    let [first, second, third, last] =
        quarters.first_chunk_mut().expect("64 bytes are four groups of 16");
    let store = |quarter: &mut [u32; 16], positions: __m512i| {
        // SAFETY: it writes 64 bytes to an array of 64 bytes, at any alignment.
        unsafe {
            _mm512_storeu_si512(quarter.as_mut_ptr().cast(), _mm512_add_epi32(base, positions))
        }
    };
    store(first, _mm512_cvtepu8_epi32(_mm512_castsi512_si128(found)));
    store(second, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<1>(found)));
    if count > 32 {
        store(third, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<2>(found)));
        store(last, _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<3>(found)));
    }
    count
}

/// Returns two masks of 64 boundaries between bytes: those between ASCII characters whose bits in
/// the two tables are disjoint, and those with a non-ASCII character on one side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(crate) fn boundaries(
    window: &[u8; WINDOW + 1],
    left: &[u8; 128],
    right: &[u8; 128],
) -> (u64, u64) {
    let [lefts, rights] = [window.first_chunk(), window.last_chunk()]
        .map(|bytes| load(bytes.expect("the window is one byte longer")));
    let apart = _mm512_testn_epi8_mask(look_up(left, lefts), look_up(right, rights));
    let beyond = _mm512_movepi8_mask(lefts) | _mm512_movepi8_mask(rights);
    // As signed bytes, those that continue a character are the 64 smallest.
    let inside = _mm512_cmplt_epi8_mask(rights, _mm512_set1_epi8(-64));
    (apart & !beyond, beyond & !inside)
}

/// The entry of each byte's low seven bits.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi")]
fn look_up(table: &[u8; 128], bytes: __m512i) -> __m512i {
    let [low, high] = [table.first_chunk(), table.last_chunk()]
        .map(|half| load(half.expect("64 bytes are two halves of 32")));
    _mm512_permutex2var_epi8(low, bytes, high)
}

/// Marks the bytes that, with the bits of `set` added, are among the `count` values from `first`
/// on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) fn among(window: &[u8; WINDOW], set: u8, first: u8, count: u8) -> u64 {
    let bytes = _mm512_or_si512(load(window), _mm512_set1_epi8(set as i8));
    _mm512_cmplt_epu8_mask(
        _mm512_sub_epi8(bytes, _mm512_set1_epi8(first as i8)),
        _mm512_set1_epi8(count as i8),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::bits;

    /// Some bytes of every kind, the same each time.
    fn windows() -> impl Iterator<Item = [u8; WINDOW + 1]> {
        let mut state = 5_u64;
        (0..2_000).map(move |round| {
            std::array::from_fn(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let byte = (state >> 56) as u8;
                if round % 2 == 0 { byte & 0x7F } else { byte }
            })
        })
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "a test that says it was skipped")]
    fn vectors_find_what_loops_find() {
        if !are_here() {
            println!("skipped: this processor has no wide vectors");
            return;
        }
        let table: [[u8; 128]; 2] = [3, 11].map(|step| {
            std::array::from_fn(|position| 1 << (position * step % 8) & (position as u8 | 0x55))
        });
        for window in windows() {
            let bytes = window.first_chunk().expect("a byte more");
            // SAFETY: the processor's features were checked.
            let (found, letters, listed, positions) = unsafe {
                let mut positions = [0; WINDOW];
                let mask = u64::from_le_bytes(*bytes.first_chunk().expect("64 bytes"));
                let listed = list(mask, 1_000, &mut positions);
                (
                    boundaries(&window, &table[0], &table[1]),
                    among(bytes, 0x20, b'a', 26),
                    listed,
                    positions,
                )
            };
            let mut wanted = [0; WINDOW];
            let mask = u64::from_le_bytes(*bytes.first_chunk().expect("64 bytes"));
            assert_eq!(bits::list(mask, 1_000, &mut wanted), listed);
            assert_eq!(positions[..listed], wanted[..listed]);
            for position in 0..WINDOW {
                let [left, right] = [window[position], window[position + 1]];
                let is_ascii = left < 128 && right < 128;
                let apart = is_ascii
                    && table[0][usize::from(left & 127)] & table[1][usize::from(right & 127)] == 0;
                let beyond = !is_ascii && !(0x80..0xC0).contains(&right);
                let bit = |mask: u64| mask >> position & 1 == 1;
                assert_eq!(
                    (bit(found.0), bit(found.1), bit(letters)),
                    (apart, beyond, left.is_ascii_alphabetic()),
                    "{left:x} {right:x}"
                );
            }
        }
    }
}
