//! Prefetches memory that will be read soon.

/// Prefetches the item at `index` into the fastest cache. An index out of bounds or an unsupported
/// processor has no effect.
#[inline(always)]
pub(crate) fn prefetch<T>(items: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    #[expect(
        unsafe_code,
        reason = "without it, a third of the tokenizer's time is spent waiting for memory; see \
            docs/benchmarks-log.md"
    )]
    // SAFETY: a prefetch is a hint. It reads nothing visible to the program, and unmapped addresses
    // are ignored.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(items.as_ptr().wrapping_add(index).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (items, index);
}
