//! Where a text may be cut without changing a token: between two characters that no merge joins.
//!
//! A merge joins a left piece to a right one, so a boundary between the characters `a` and `b` is crossed only if some merge's left
//! piece ends in `a` and its right piece begins with `b`. Where no such merge exists, what stands left and right of the boundary
//! merges as if the other side were not there. Mistral's 58,980 merges join fewer than 3,000 pairs of characters.

use hashbrown::HashSet;

use super::batch::{BATCH, Ends};
use super::utf8::decode;
use crate::bits::{WINDOW, list};

/// A space as sentencepiece writes it.
pub(super) const SPACE: char = '▁';
const PLANES: usize = 0x110000;
const LEFT: u8 = 1;
const RIGHT: u8 = 2;

/// What two neighbouring bytes say of the boundary between them.
const CUT: u8 = 1;
/// A boundary with a character beyond ASCII on a side: ask for the pair.
const ASK: u8 = 2;
/// Parts of a window that are gone through side by side.
const PARTS: usize = 4;

/// The pairs of characters that some merge joins. A space in the text is a `▁`.
pub(super) struct Cuts {
    /// For each two neighbouring bytes, as [`neighbours`] puts them together, nothing, [`CUT`] or [`ASK`].
    bytes: Box<[u8; 1 << 16]>,
    /// All pairs with a character beyond ASCII.
    pairs: HashSet<(u32, u32)>,
    /// Which characters stand left or right in any of them.
    sides: Box<[u8]>,
}

impl Cuts {
    /// Collects the pairs; the vocabulary writes a space as `▁`.
    pub(super) fn new(joined: impl Iterator<Item = (char, char)>) -> Cuts {
        let mut cuts = Cuts { bytes: boundaries(), pairs: HashSet::new(), sides: vec![0; PLANES].into_boxed_slice() };
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
            self.bytes[neighbours([left as u8, right as u8])] = 0;
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
            return self.bytes[neighbours([left as u8, right as u8])] == 0;
        }
        self.sides[left as usize] & LEFT != 0 && self.sides[right as usize] & RIGHT != 0 && self.pairs.contains(&(left, right))
    }

    /// Writes where segments end, after `scanned` and up to `end`, until little room is left; returns how many, and moves `scanned`.
    pub(super) fn fill(&self, text: &[u8], scanned: &mut usize, end: usize, ends: &mut Ends) -> usize {
        let mut count = 0;
        while *scanned < end && count <= BATCH - WINDOW {
            let base = *scanned;
            let (cuts, asked) = match text[base..end].first_chunk() {
                Some(window) => self.block(window),
                None => self.last_block(&text[base..end]),
            };
            *scanned = end.min(base + WINDOW);
            let places = ends[count..].first_chunk_mut().expect("a window still fits");
            let found = list(cuts, base as u32 + 1, places);
            if !asked {
                count += found;
                continue;
            }
            let mut kept = count;
            for place in count..count + found {
                let end = ends[place];
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

    /// One bit for each two neighbours, set where a cut is or has to be asked for; and whether any has to be.
    #[inline]
    fn block(&self, window: &[u8; WINDOW + 1]) -> (u64, bool) {
        let found = |place: usize| self.bytes[neighbours(*window[place..].first_chunk().expect("a window has a byte more"))];
        if window.is_ascii() {
            // Four sums, so that no step waits for the one before; each from its last bit on, which spares a count of places.
            let mut cuts = [0_u64; PARTS];
            for place in (0..WINDOW / PARTS).rev() {
                for (part, cuts) in cuts.iter_mut().enumerate() {
                    *cuts = *cuts << 1 | u64::from(found(place + part * WINDOW / PARTS));
                }
            }
            return (cuts.iter().rev().fold(0, |all, cuts| all << (WINDOW / PARTS) | cuts), false);
        }
        let ask = (0..WINDOW).fold(0, |ask, place| ask | u64::from(found(place) / ASK) << place);
        let cuts = (0..WINDOW).fold(0, |cuts, place| cuts | u64::from(found(place) & CUT) << place);
        (cuts | ask, ask != 0)
    }

    fn last_block(&self, rest: &[u8]) -> (u64, bool) {
        let mut window = [0; WINDOW + 1];
        window[..rest.len()].copy_from_slice(rest);
        let (cuts, asked) = self.block(&window);
        (cuts & ((1 << (rest.len() - 1)) - 1), asked)
    }

    /// Do the characters on both sides of this place join?
    fn joined_at(&self, text: &[u8], place: usize) -> bool {
        let mut before = place - 1;
        while before > 0 && text[before] & 0xC0 == 0x80 {
            before -= 1;
        }
        self.joins(decode(text, before).0, decode(text, place).0)
    }
}

/// The place of two bytes in a table, as one reads them from memory at once.
#[inline]
fn neighbours(bytes: [u8; 2]) -> usize {
    usize::from(u16::from_le_bytes(bytes))
}

/// Between ASCII characters a cut until some merge joins them; never one inside a character.
fn boundaries() -> Box<[u8; 1 << 16]> {
    Box::new(std::array::from_fn(|pair| match (pair & 255, pair >> 8) {
        (0..=127, 0..=127) => CUT,
        (_, 0x80..=0xBF) => 0,
        _ => ASK,
    }))
}
