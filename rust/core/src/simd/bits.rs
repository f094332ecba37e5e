//! Classifies 64 bytes at once. The result is one bit per byte, so runs of bytes are found by
//! counting zeros.
//!
//! Plain comparisons produce one byte each, and the compiler vectorizes them. Then one bit of each
//! byte is extracted.

/// Number of bytes classified at once.
pub const WINDOW: usize = 64;

/// One bit of each byte: bit `j` for byte `j`.
#[inline]
#[must_use]
pub fn bits<const BIT: u32>(kinds: &[u8; WINDOW]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    #[expect(
        unsafe_code,
        reason = "byte-level tokenizers are 4 to 8 % faster; see docs/benchmarks-log.md"
    )]
    // SAFETY: every x86-64 has SSE2.
    return unsafe { by_vectors::<BIT>(kinds) };
    #[cfg(not(target_arch = "x86_64"))]
    by_products::<BIT>(kinds)
}

/// Every x86-64 processor has an instruction that extracts the top bit of sixteen bytes.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn by_vectors<const BIT: u32>(kinds: &[u8; WINDOW]) -> u64 {
    use std::arch::x86_64::{_mm_cvtsi32_si128, _mm_movemask_epi8, _mm_set_epi64x, _mm_sll_epi16};
    let (words, _) = kinds.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().enumerate().fold(0, |mask, (position, [low, high])| {
        let bytes = _mm_set_epi64x(i64::from_le_bytes(*high), i64::from_le_bytes(*low));
        // In 16-bit lanes, because there is no shift of bytes. Bits that cross into the next byte
        // stay below its top bit.
        let tops = _mm_movemask_epi8(_mm_sll_epi16(bytes, _mm_cvtsi32_si128(7 - BIT as i32)));
        mask | (tops as u64 & 0xFFFF) << (16 * position)
    })
}

/// The bits of eight bytes, drawn together by a product.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn by_products<const BIT: u32>(kinds: &[u8; WINDOW]) -> u64 {
    let (words, _) = kinds.as_chunks::<8>();
    words.iter().enumerate().fold(0, |mask, (position, word)| {
        let ones = u64::from_le_bytes(*word) >> BIT & 0x0101_0101_0101_0101;
        mask | ones.wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * position)
    })
}

/// Lists the positions of the set bits, counted from `base`, eight at a time, because a branch for
/// each would be mispredicted once per mask. Returns their number. Values after these are
/// meaningless.
#[inline]
pub fn list(mut mask: u64, base: u32, positions: &mut [u32; WINDOW]) -> usize {
    let count = mask.count_ones() as usize;
    for positions in positions.as_chunks_mut::<8>().0.iter_mut().take(count.div_ceil(8)) {
        for position in positions {
            *position = base.wrapping_add(mask.trailing_zeros());
            mask &= mask.wrapping_sub(1);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_of_each_byte_is_found_both_ways() {
        let mut state = 1_u64;
        for _ in 0..1_000 {
            let kinds: [u8; WINDOW] = std::array::from_fn(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            });
            let slowly = |bit: u32| {
                (0..WINDOW).fold(0, |mask, position| {
                    mask | u64::from(kinds[position] >> bit & 1) << position
                })
            };
            assert_eq!([bits::<0>(&kinds), by_products::<0>(&kinds)], [slowly(0); 2]);
            assert_eq!([bits::<3>(&kinds), by_products::<3>(&kinds)], [slowly(3); 2]);
            assert_eq!([bits::<7>(&kinds), by_products::<7>(&kinds)], [slowly(7); 2]);
        }
    }
}
