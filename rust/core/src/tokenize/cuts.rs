//! Where a text may be cut without changing a token: between two characters that no merge joins.
//!
//! A merge joins a left piece to a right one, so a boundary between the characters `a` and `b` is crossed only if some merge's left
//! piece ends in `a` and its right piece begins with `b`. Where no such merge exists, what stands left and right of the boundary
//! merges as if the other side were not there. Mistral's 58,980 merges join fewer than 3,000 pairs of characters.

use hashbrown::HashSet;

use super::utf8::decode;

/// A space as sentencepiece writes it.
pub(super) const SPACE: char = '▁';
const PLANES: usize = 0x110000;
const LEFT: u8 = 1;
const RIGHT: u8 = 2;

/// The pairs of characters that some merge joins. A space in the text is a `▁`.
pub(super) struct Cuts {
    /// Bit `b` of row `a`: the ASCII characters `a` and `b`.
    ascii: Box<[[u64; 2]; 128]>,
    /// All pairs with a character beyond ASCII.
    pairs: HashSet<(u32, u32)>,
    /// Which characters stand left or right in any of them.
    sides: Box<[u8]>,
}

impl Cuts {
    /// Collects the pairs; the vocabulary writes a space as `▁`.
    pub(super) fn new(joined: impl Iterator<Item = (char, char)>) -> Cuts {
        let mut cuts = Cuts { ascii: Box::new([[0; 2]; 128]), pairs: HashSet::new(), sides: vec![0; PLANES].into_boxed_slice() };
        for (left, right) in joined {
            for left in [Some(left), (left == SPACE).then_some(' ')].into_iter().flatten().map(u32::from) {
                for right in [Some(right), (right == SPACE).then_some(' ')].into_iter().flatten().map(u32::from) {
                    cuts.join(left, right);
                }
            }
        }
        cuts
    }

    fn join(&mut self, left: u32, right: u32) {
        if left < 128 && right < 128 {
            self.ascii[left as usize][right as usize / 64] |= 1 << (right % 64);
        } else {
            self.sides[left as usize] |= LEFT;
            self.sides[right as usize] |= RIGHT;
            self.pairs.insert((left, right));
        }
    }

    /// Does any merge join these two characters?
    #[inline]
    pub(super) fn joins(&self, left: u32, right: u32) -> bool {
        if left < 128 && right < 128 {
            return self.ascii[left as usize][right as usize / 64] >> (right % 64) & 1 == 1;
        }
        self.sides[left as usize] & LEFT != 0 && self.sides[right as usize] & RIGHT != 0 && self.pairs.contains(&(left, right))
    }

    /// The first cut after `start`, at `end` at the latest.
    #[inline]
    pub(super) fn next(&self, text: &[u8], start: usize, end: usize) -> usize {
        let text = &text[..end];
        let mut left = text[start];
        let mut at = start;
        while left < 128 {
            at += 1;
            match text.get(at) {
                None => return end,
                Some(right) if *right < 128 => {
                    if self.ascii[usize::from(left)][usize::from(*right) / 64] >> (right % 64) & 1 == 0 {
                        return at;
                    }
                    left = *right;
                }
                Some(_) => {
                    at -= 1;
                    break;
                }
            }
        }
        self.next_beyond_ascii(text, at)
    }

    fn next_beyond_ascii(&self, text: &[u8], start: usize) -> usize {
        let (mut left, mut len) = decode(text, start);
        let mut at = start + len;
        while at < text.len() {
            let right;
            (right, len) = decode(text, at);
            if !self.joins(left, right) {
                break;
            }
            left = right;
            at += len;
        }
        at
    }
}
