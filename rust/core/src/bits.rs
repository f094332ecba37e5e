//! 64 bytes judged at once: what was found of each becomes one bit, so that runs of bytes are found by counting zeros.
//!
//! Plain comparisons make one byte of each, which the compiler does with vectors; then the bits of eight bytes are drawn together by a
//! product.

/// How many bytes are judged at once.
pub const WINDOW: usize = 64;

/// One bit of each byte: bit `j` for byte `j`.
#[inline]
#[must_use]
pub fn bits<const BIT: u32>(kinds: &[u8; WINDOW]) -> u64 {
    let (words, _) = kinds.as_chunks::<8>();
    words.iter().enumerate().fold(0, |mask, (place, word)| {
        let ones = u64::from_le_bytes(*word) >> BIT & 0x0101_0101_0101_0101;
        mask | ones.wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * place)
    })
}

/// Lists the places of the bits that are set, counted from `base`, eight at a time: a branch for each would be wrong once a mask. Returns how
/// many there are; what is written behind these means nothing.
#[inline]
pub fn list(mut mask: u64, base: u32, places: &mut [u32; WINDOW]) -> usize {
    let count = mask.count_ones() as usize;
    for places in places.as_chunks_mut::<8>().0.iter_mut().take(count.div_ceil(8)) {
        for place in places {
            *place = base.wrapping_add(mask.trailing_zeros());
            mask &= mask.wrapping_sub(1);
        }
    }
    count
}
