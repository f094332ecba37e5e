//! Packs the samples of a whole split into as few windows as it can, by best-fit decreasing.
//!
//! An example: samples of 4, 5, 2, 3 and 2 tokens, and sequences of 8 tokens. The longest sample is
//! packed first.
//!
//! ```text
//! sample 1 (5 tokens)  opens window 0, which has room for 3 more
//! sample 0 (4 tokens)  does not fit there and opens window 1, which has room for 4 more
//! sample 3 (3 tokens)  fits both; it goes into window 0, the tighter one, which is then full
//! sample 2 (2 tokens)  goes into window 1, which has room for 2 more
//! sample 4 (2 tokens)  goes into window 1, which is then full
//! ```
//!
//! Samples are ascending within a sequence, and sequences are in the order of their first samples:
//!
//! ```
//! let windows = zephyr_core::pack::pack(&[4, 5, 2, 3, 2], 8);
//! assert_eq!(windows.iter().collect::<Vec<_>>(), [&[0, 2, 4][..], &[1, 3]]);
//! ```

use crate::error::{Error, Result};

/// The version of these rules.
pub const VERSION: u32 = 1;

/// Samples grouped into windows.
#[derive(Debug, PartialEq, Eq)]
pub struct Windows {
    /// Sample numbers, window after window, ascending within one.
    samples: Vec<u32>,
    /// The end of each sequence in `samples`.
    ends: Vec<u32>,
}

impl Windows {
    /// The number of sequences.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no sample was packed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The windows, each as its sample numbers, in the order of their first samples.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.samples[start as usize..*end as usize])
    }
}

/// Packs samples of these lengths, each at most `seq_len`, into windows of `seq_len` tokens.
///
/// Packs the longest samples first (equal lengths in order), each into the fullest sequence that
/// still has room for it. A counting sort and a bitmap of the free space in use make this O(1) per
/// sample. In addition to the result, it takes 16 bytes per sample.
#[must_use]
pub fn pack(lengths: &[u32], seq_len: u32) -> Windows {
    let mut rooms = Rooms::new(seq_len);
    let mut window_of = vec![0_u32; lengths.len()];
    for sample in longest_first(lengths, seq_len) {
        window_of[sample as usize] = rooms.place(lengths[sample as usize]);
    }
    grouped(&window_of, rooms.windows)
}

/// Packs into lists of sample numbers and checks the lengths.
pub fn windows(lengths: &[u32], seq_len: u32) -> Result<Vec<Vec<u32>>> {
    if let Some(length) = lengths.iter().find(|length| **length > seq_len || **length == 0) {
        return Err(Error::Config(format!(
            "a sample of {length} tokens does not fit into a sequence of {seq_len} tokens"
        )));
    }
    Ok(pack(lengths, seq_len).iter().map(<[u32]>::to_vec).collect())
}

/// Sample numbers by descending length. The counting sort keeps samples of equal length in order.
fn longest_first(lengths: &[u32], seq_len: u32) -> Vec<u32> {
    let mut starts = vec![0_u32; seq_len as usize + 2];
    let rank = |length: u32| (seq_len - length) as usize;
    for length in lengths {
        starts[rank(*length) + 1] += 1;
    }
    for slot in 1..starts.len() {
        starts[slot] += starts[slot - 1];
    }
    let mut sorted = vec![0; lengths.len()];
    for (sample, length) in (0..).zip(lengths) {
        let slot = &mut starts[rank(*length)];
        sorted[*slot as usize] = sample;
        *slot += 1;
    }
    sorted
}

/// Gathers the samples of each window and orders the windows by their first sample.
fn grouped(window_of: &[u32], windows: u32) -> Windows {
    let mut new_number = vec![u32::MAX; windows as usize];
    let mut sizes = Vec::with_capacity(windows as usize);
    for window in window_of {
        let number = &mut new_number[*window as usize];
        if *number == u32::MAX {
            *number = sizes.len() as u32;
            sizes.push(0_u32);
        }
        sizes[*number as usize] += 1;
    }
    let mut next: Vec<u32> =
        sizes.iter().scan(0, |sum, size| Some(std::mem::replace(sum, *sum + size))).collect();
    let mut samples = vec![0; window_of.len()];
    for (sample, window) in (0..).zip(window_of) {
        let slot = &mut next[new_number[*window as usize] as usize];
        samples[*slot as usize] = sample;
        *slot += 1;
    }
    Windows { samples, ends: next }
}

/// Open windows by the room they have left.
struct Rooms {
    seq_len: u32,
    windows: u32,
    /// For each amount of free space, the sequences that have it.
    by_room: Vec<Vec<u32>>,
    /// One bit per amount of free space: whether any sequence has it.
    used: Vec<u64>,
}

impl Rooms {
    fn new(seq_len: u32) -> Rooms {
        let rooms = seq_len as usize + 1;
        Rooms {
            seq_len,
            windows: 0,
            by_room: vec![Vec::new(); rooms],
            used: vec![0; rooms.div_ceil(64)],
        }
    }

    /// Puts a sample into the fullest sequence with enough room, or into a new one. Returns its
    /// number.
    fn place(&mut self, length: u32) -> u32 {
        let (window, room) = match self.tightest(length) {
            Some(room) => {
                let windows = &mut self.by_room[room];
                let window =
                    windows.pop().expect("a room in the bit set has at least one open window");
                if windows.is_empty() {
                    self.used[room / 64] &= !(1 << (room % 64));
                }
                (window, room as u32)
            }
            None => {
                self.windows += 1;
                (self.windows - 1, self.seq_len)
            }
        };
        let left = (room - length) as usize;
        self.by_room[left].push(window);
        self.used[left / 64] |= 1 << (left % 64);
        window
    }

    /// The smallest amount of free space in use that is at least `length`.
    fn tightest(&self, length: u32) -> Option<usize> {
        let first = length as usize / 64;
        let masked = self.used[first] & (u64::MAX << (length % 64));
        std::iter::once((first, masked))
            .chain(self.used.iter().copied().enumerate().skip(first + 1))
            .find(|(_, word)| *word != 0)
            .map(|(slot, word)| slot * 64 + word.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, slowly: look at every window for every sample.
    fn windows_of_the_slow_twin(lengths: &[u32], seq_len: u32) -> usize {
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|sample| std::cmp::Reverse(lengths[*sample]));
        let mut rooms: Vec<u32> = Vec::new();
        for sample in order {
            match rooms.iter_mut().filter(|room| **room >= lengths[sample]).min() {
                Some(room) => *room -= lengths[sample],
                None => rooms.push(seq_len - lengths[sample]),
            }
        }
        rooms.len()
    }

    proptest! {
        #[test]
        fn every_sample_is_in_one_window_none_overflows_and_there_are_no_more_than_the_slow_twins(
            lengths in prop::collection::vec(1_u32..=300, 0..400),
        ) {
            let windows = pack(&lengths, 300);
            let mut seen: Vec<u32> = windows.iter().flatten().copied().collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..lengths.len() as u32).collect::<Vec<_>>());
            for window in windows.iter() {
                let tokens: u32 = window.iter().map(|sample| lengths[*sample as usize]).sum();
                prop_assert!(tokens <= 300);
                prop_assert!(window.is_sorted());
            }
            prop_assert!(windows.iter().map(|window| window[0]).is_sorted());
            prop_assert_eq!(windows.len(), windows_of_the_slow_twin(&lengths, 300));
        }
    }

    #[test]
    fn nothing_packs_into_nothing() {
        assert!(pack(&[], 2048).is_empty());
    }

    #[test]
    fn the_example_at_the_head_takes_these_steps() {
        let lengths = [4, 5, 2, 3, 2];
        let mut rooms = Rooms::new(8);
        let steps = longest_first(&lengths, 8).into_iter().map(|sample| {
            let window = rooms.place(lengths[sample as usize]);
            let room = (0..=8).find(|room| rooms.by_room[*room].contains(&window));
            (sample, window, room.expect("an open window has a room"))
        });
        let expected = [(1, 0, 3), (0, 1, 4), (3, 0, 0), (2, 1, 2), (4, 1, 0)];
        assert_eq!(steps.collect::<Vec<_>>(), expected);
    }
}
