//! SIMD and prefetching, with all of the engine's `unsafe` but that of the allocator: sets of bits, vectors of bytes,
//! prefetching.

pub mod bits;
pub(crate) mod prefetch;
#[cfg(target_arch = "x86_64")]
pub(crate) mod vectors;
