//! Reproduces the random choices of the October 2023 script. It seeded CPython's generator with 42
//! for each row, so they are a fixed list.

use crate::dialogue::Reply;

/// The first 64 outputs of MT19937 seeded by CPython's `random.seed(42)`. A test compares them with
/// CPython.
#[rustfmt::skip]
const OUTPUTS: [u32; 64] = [
    0xa3b1799d, 0x1c80317f, 0x06671ad1, 0xbdd640fb, 0x46685257, 0x3eb13b90, 0x392456de, 0x23b8c1e9,
    0xbc8960a9, 0x1a3d1fa7, 0xad3c2d6d, 0xbd9c66b3, 0xe465e150, 0x8b9d2434, 0x16419f82, 0x972a8469,
    0x6c031199, 0x0822e8f3, 0x07a0ca6e, 0x17fc695a, 0x37f8a88b, 0x3b8faa18, 0x815ef6d1, 0x9a1de644,
    0x06cb0fb3, 0x8fadc1a6, 0x32e70629, 0xb74d0fb1, 0xa65ed389, 0xb38a088c, 0x8b8148f6, 0x6b65a6a4,
    0x386ecbe0, 0x72ff5d2a, 0x96da1dac, 0x47378190, 0xcf36d58b, 0xde8a774b, 0x01a9e71f, 0xc241330b,
    0xce4a2bbd, 0x28df6ec4, 0xb2b9437a, 0x6c307511, 0x571aa876, 0x47229389, 0x27cd8130, 0x371ecd7b,
    0xf50bea63, 0xc37459ee, 0x562b0f79, 0x1a2a73ed, 0x17be3111, 0x6142ea7d, 0x18c26797, 0x5be6128e,
    0xd8f56413, 0x580d7b71, 0x9a8dca03, 0x43b7a3a6, 0xce9ff57f, 0x0b1f9163, 0xbacfb3d0, 0x759cde66,
];

/// Draws like `random.choice` until score, text or model differ from those of the chosen
/// completion. Returns `None` if all are the same. The script then stopped after three seconds and
/// kept the chosen one.
pub(super) fn rejected(replies: &[Reply], scores: &[Option<f64>], chosen: usize) -> Option<usize> {
    let differs = |index: usize| {
        let (a, b) = (&replies[index], &replies[chosen]);
        scores[index] != scores[chosen] || a.text != b.text || a.model != b.model
    };
    draws(replies.len())
        .find(|index| differs(*index))
        .or_else(|| (0..replies.len()).find(|index| differs(*index)))
}

/// `random.choice` of `count` items: draws as many high bits as `count` needs, and repeats until
/// they are below it.
fn draws(count: usize) -> impl Iterator<Item = usize> {
    let bits = usize::BITS - count.leading_zeros();
    OUTPUTS
        .iter()
        .map(move |output| (output >> (32 - bits.clamp(1, 32))) as usize)
        .filter(move |draw| *draw < count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rejected_reply_follows_from_the_chosen_one() {
        let table = |count: usize| -> Vec<Option<usize>> {
            let replies: Vec<Reply> = (0..count)
                .map(|index| Reply { text: index.to_string(), ..Reply::default() })
                .collect();
            (0..count).map(|chosen| rejected(&replies, &vec![Some(1.0); count], chosen)).collect()
        };
        assert_eq!(table(4), [Some(2), Some(0), Some(0), Some(0)]);
        assert_eq!(table(3), [Some(2), Some(2), Some(0)]);
        assert_eq!(table(2), [Some(1), Some(0)]);
    }
}
