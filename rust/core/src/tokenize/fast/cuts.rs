//! Finds positions at which a text can be split without changing a token: between two characters
//! that no merge joins.
//!
//! A merge joins a left piece to a right one. A merge can therefore cross the boundary between the
//! characters `a` and `b` only if its left piece ends in `a` and its right piece begins with `b`.
//! If no merge does, the two sides of the boundary merge independently. Mistral's 58,980 merges
//! join fewer than 3,000 pairs of characters.
//!
//! An example (`the_example_at_the_head_is_cut_in_three`): the vocabulary has three merges, `▁`
//! with `c`, `a` with `t`, and `▁c` with `at`. The last one joins the characters `c` and `a`.
//!
//! ```text
//! text             ␣   c   a   t   ␣   a   t        a space counts as ▁
//! a merge joins?     yes yes yes no  no  yes
//! segments         ␣   c   a   t | ␣ | a   t        they end at bytes 4, 5 and 7
//! ```
//!
//! Each segment is merged separately: to `▁cat`, `▁` and `at`. The boundary of `c` and `a` is never
//! cut in any text, even if no pieces join there. A missing cut costs time, but never changes a
//! token.

use hashbrown::HashSet;

use super::batch::{BATCH, Ends};
use super::groups::Groups;
use super::utf8::decode;
use crate::simd::bits::{WINDOW, list};
#[cfg(target_arch = "x86_64")]
use crate::simd::vectors;

/// A space as sentencepiece writes it.
pub(super) const SPACE: char = '▁';
const PLANES: usize = 0x110000;
const LEFT: u8 = 1;
const RIGHT: u8 = 2;

/// The boundary between two bytes is a cut.
const CUT: u8 = 1;
/// The boundary has a non-ASCII character on one side, so the pair must be looked up.
const ASK: u8 = 2;
/// Parts of a window that are processed in parallel.
const PARTS: usize = 4;

/// The pairs of characters that a merge joins. A space in the text is a `▁`.
pub(super) struct Cuts {
    /// For each two neighboring bytes, combined by [`neighbours`]: zero, [`CUT`] or [`ASK`].
    bytes: Box<[u8; 1 << 16]>,
    /// All pairs with a character beyond ASCII.
    pairs: HashSet<(u32, u32)>,
    /// Which characters occur on the left or right side of any pair.
    sides: Box<[u8]>,
    /// The ASCII part of `bytes`, in groups.
    groups: Groups,
}

impl Cuts {
    /// Collects the pairs. The vocabulary spells a space as `▁`.
    pub(super) fn new(joined: impl Iterator<Item = (char, char)>) -> Cuts {
        let (mut pairs, mut rows) = (HashSet::new(), [0_u128; 128]);
        let mut sides = vec![0; PLANES].into_boxed_slice();
        for (left, right) in joined {
            for left in
                [Some(left), (left == SPACE).then_some(' ')].into_iter().flatten().map(u32::from)
            {
                for right in [Some(right), (right == SPACE).then_some(' ')]
                    .into_iter()
                    .flatten()
                    .map(u32::from)
                {
                    if left < 128 && right < 128 {
                        rows[left as usize] |= 1 << right;
                    } else {
                        sides[left as usize] |= LEFT;
                        sides[right as usize] |= RIGHT;
                        pairs.insert((left, right));
                    }
                }
            }
        }
        let groups = Groups::new(&rows);
        Cuts { bytes: boundaries(&groups), pairs, sides, groups }
    }

    /// May any merge join these two characters?
    #[inline]
    pub(super) fn joins(&self, left: u32, right: u32) -> bool {
        if left < 128 && right < 128 {
            return self.groups.join(left as u8, right as u8);
        }
        self.sides[left as usize] & LEFT != 0
            && self.sides[right as usize] & RIGHT != 0
            && self.pairs.contains(&(left, right))
    }

    /// Writes the ends of segments after `scanned` and up to `end`, until little room is left.
    /// Returns how many it wrote, and advances `scanned`.
    pub(super) fn fill(
        &self,
        text: &[u8],
        scanned: &mut usize,
        end: usize,
        ends: &mut Ends,
    ) -> usize {
        #[cfg(target_arch = "x86_64")]
        if vectors::are_here() {
            #[expect(unsafe_code, reason = "see `vectors`")]
            // SAFETY: the processor's features were checked.
            return unsafe { self.fill_by_vectors(text, scanned, end, ends) };
        }
        self.fill_by(text, (scanned, end), ends, |window| self.block(window), list)
    }

    /// The same for processors of wide vectors.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,popcnt")]
    fn fill_by_vectors(
        &self,
        text: &[u8],
        scanned: &mut usize,
        end: usize,
        ends: &mut Ends,
    ) -> usize {
        let Groups { left, right } = &self.groups;
        let block = |window: &[u8; WINDOW + 1]| {
            let (cuts, asked) = vectors::boundaries(window, left, right);
            (cuts | asked, asked != 0)
        };
        self.fill_by(text, (scanned, end), ends, block, |mask, base, positions| {
            vectors::list(mask, base, positions)
        })
    }

    /// Implements `fill` with one function to classify a window and one to list its bits. It is
    /// inlined, so each variant is compiled for its processor.
    #[inline(always)]
    fn fill_by(
        &self,
        text: &[u8],
        (scanned, end): (&mut usize, usize),
        ends: &mut Ends,
        block: impl Fn(&[u8; WINDOW + 1]) -> (u64, bool),
        list: impl Fn(u64, u32, &mut [u32; WINDOW]) -> usize,
    ) -> usize {
        let mut count = 0;
        while *scanned < end && count <= BATCH - WINDOW {
            let base = *scanned;
            let (cuts, asked) = match text[base..end].first_chunk() {
                Some(window) => block(window),
                None => last_block(&text[base..end], &block),
            };
            *scanned = end.min(base + WINDOW);
            let positions = ends[count..].first_chunk_mut().expect("a full window remains");
            let found = list(cuts, base as u32 + 1, positions);
            if !asked {
                count += found;
                continue;
            }
            let mut kept = count;
            for position in count..count + found {
                let end = ends[position];
                ends[kept] = end;
                kept += usize::from(!self.joined_at(text, end as usize));
            }
            count = kept;
        }
        if *scanned == end {
            ends[count] = end as u32;
            count += 1;
        }
        count
    }

    /// Returns one bit for each pair of neighboring bytes, set at cuts and at pairs to look up, and
    /// whether any pair must be looked up.
    #[inline]
    fn block(&self, window: &[u8; WINDOW + 1]) -> (u64, bool) {
        let found = |position: usize| {
            self.bytes[neighbours(
                *window[position..].first_chunk().expect("the window is one byte longer"),
            )]
        };
        if window.is_ascii() {
            // Four accumulators, so no step waits for the one before. Each is filled from its last
            // bit on, which avoids counting positions.
            let mut cuts = [0_u64; PARTS];
            for position in (0..WINDOW / PARTS).rev() {
                for (part, cuts) in cuts.iter_mut().enumerate() {
                    *cuts = *cuts << 1 | u64::from(found(position + part * WINDOW / PARTS));
                }
            }
            return (cuts.iter().rev().fold(0, |all, cuts| all << (WINDOW / PARTS) | cuts), false);
        }
        let ask =
            (0..WINDOW).fold(0, |ask, position| ask | u64::from(found(position) / ASK) << position);
        let cuts = (0..WINDOW)
            .fold(0, |cuts, position| cuts | u64::from(found(position) & CUT) << position);
        (cuts | ask, ask != 0)
    }

    /// Whether the characters on both sides of an offset join.
    fn joined_at(&self, text: &[u8], position: usize) -> bool {
        let mut before = position - 1;
        while before > 0 && text[before] & 0xC0 == 0x80 {
            before -= 1;
        }
        self.joins(decode(text, before).0, decode(text, position).0)
    }
}

/// A window that extends beyond the text.
#[inline(always)]
fn last_block(rest: &[u8], block: &impl Fn(&[u8; WINDOW + 1]) -> (u64, bool)) -> (u64, bool) {
    let mut window = [0; WINDOW + 1];
    window[..rest.len()].copy_from_slice(rest);
    let (cuts, asked) = block(&window);
    (cuts & ((1 << (rest.len() - 1)) - 1), asked)
}

/// The table index of two bytes, which equals the number that reading them from memory yields.
#[inline]
fn neighbours(bytes: [u8; 2]) -> usize {
    usize::from(u16::from_le_bytes(bytes))
}

/// Marks boundaries between ASCII characters as cuts unless a merge may join them. Boundaries
/// inside a character are never cuts.
fn boundaries(groups: &Groups) -> Box<[u8; 1 << 16]> {
    Box::new(std::array::from_fn(|pair| match ((pair & 255) as u8, (pair >> 8) as u8) {
        (left @ 0..=127, right @ 0..=127) => u8::from(!groups.join(left, right)) * CUT,
        (_, 0x80..=0xBF) => 0,
        _ => ASK,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::fast::batch::hostile;

    /// The ends of all segments.
    fn ends(text: &str, fill: impl Fn(&mut usize, &mut Ends) -> usize) -> Vec<u32> {
        let (mut all, mut scanned, mut ends) = (Vec::new(), 0, [0; BATCH + 1]);
        while scanned < text.len() {
            let count = fill(&mut scanned, &mut ends);
            all.extend_from_slice(&ends[..count]);
        }
        all
    }

    #[test]
    fn segments_end_where_no_merge_joins_with_vectors_or_without() {
        let joined = "ab bc ▁a ▁▁ .. 'a éa aé 中中 \n\n zA A' 💖💖 00".split(' ');
        let joined = joined
            .map(|pair| (pair.chars().next().expect("two"), pair.chars().nth(1).expect("two")));
        let cuts = Cuts::new(joined.clone());
        for (left, right) in joined.chain([(' ', 'a'), (' ', ' '), ('▁', ' ')]) {
            assert!(cuts.joins(u32::from(left), u32::from(right)), "{left:?} {right:?}");
        }
        for text in hostile() {
            let bytes = text.as_bytes();
            let pairs = text.char_indices().zip(text.chars().skip(1));
            let wanted =
                pairs.filter(|((_, left), right)| !cuts.joins(u32::from(*left), u32::from(*right)));
            let wanted = wanted
                .map(|((at, left), _)| (at + left.len_utf8()) as u32)
                .chain([text.len() as u32]);
            let wanted: Vec<u32> = wanted.collect();
            assert_eq!(
                ends(&text, |scanned, ends| cuts.fill(bytes, scanned, bytes.len(), ends)),
                wanted,
                "{text:?}"
            );
            let plainly = |scanned: &mut usize, ends: &mut Ends| {
                cuts.fill_by(bytes, (scanned, bytes.len()), ends, |window| cuts.block(window), list)
            };
            assert_eq!(ends(&text, plainly), wanted, "{text:?}");
        }
    }

    #[test]
    fn the_example_at_the_head_is_cut_in_three() {
        let cuts = Cuts::new([('▁', 'c'), ('a', 't'), ('c', 'a')].into_iter());
        let text = " cat at";
        let pairs = text.bytes().zip(text.bytes().skip(1));
        let joined = pairs.map(|(left, right)| cuts.joins(u32::from(left), u32::from(right)));
        assert_eq!(joined.collect::<Vec<_>>(), [true, true, true, false, false, true]);
        let (text, end) = (text.as_bytes(), text.len());
        assert_eq!(ends(" cat at", |scanned, ends| cuts.fill(text, scanned, end, ends)), [4, 5, 7]);
    }
}
