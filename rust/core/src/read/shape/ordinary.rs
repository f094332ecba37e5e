//! Keys that decide nothing, remembered per thread: most rows have the same few keys.

use std::cell::Cell;

use super::deciding::Level;

/// Remembered keys. Each has one possible slot, and the latest one stays.
const SLOTS: usize = 64;
/// A key of up to 24 bytes, with its length and level.
type Packed = [u64; 4];

thread_local! {
    static ORDINARY: [Cell<Packed>; SLOTS] = const { [const { Cell::new([0; 4]) }; SLOTS] };
}

/// Whether a key at that level decides nothing, which `find_out` tells of a key that is new.
pub(super) fn is_ordinary(key: &str, level: Level, find_out: impl FnOnce() -> bool) -> bool {
    let Some(packed) = packed(key.as_bytes(), level) else { return find_out() };
    ORDINARY.with(|slots| {
        let slot = &slots[slot(packed)];
        if slot.get() == packed {
            return true;
        }
        let is_ordinary = find_out();
        if is_ordinary {
            slot.set(packed);
        }
        is_ordinary
    })
}

fn slot(packed: Packed) -> usize {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let hash = (packed[0] ^ packed[1].rotate_left(21) ^ packed[2].rotate_left(42) ^ packed[3])
        .wrapping_mul(ODD);
    (hash >> 32) as usize % SLOTS
}

/// Different for all keys and levels. Parts of a key overlap where its length is between two sizes
/// of a number, and an empty or longer key has none.
fn packed(key: &[u8], level: Level) -> Option<Packed> {
    let [first, second, third] = match key.len() {
        1..4 => [key[0], key[key.len() / 2], key[key.len() - 1]].map(u64::from),
        4..8 => {
            [u32::from_le_bytes(*key.first_chunk()?), u32::from_le_bytes(*key.last_chunk()?), 0]
                .map(u64::from)
        }
        8..16 => {
            [u64::from_le_bytes(*key.first_chunk()?), u64::from_le_bytes(*key.last_chunk()?), 0]
        }
        16..=24 => [
            u64::from_le_bytes(*key.first_chunk()?),
            u64::from_le_bytes(*key[8..].first_chunk()?),
            u64::from_le_bytes(*key.last_chunk()?),
        ],
        _ => return None,
    };
    Some([first, second, third, (key.len() << 8 | level as usize) as u64])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::deciding::{decides, may_decide};
    use super::*;

    const LEVELS: [Level; 5] =
        [Level::Row, Level::Message, Level::Answer, Level::Turn, Level::Spoken];

    /// Keys of all lengths that differ from each other in one letter, again and again, beside names.
    fn keys() -> Vec<String> {
        let mut keys: Vec<_> =
            ["", "id", "mask", "loss_mask", "tool_calls", "train_on_turn", "é_mask"]
                .map(str::to_owned)
                .into();
        for length in 1..30 {
            for place in 0..length {
                for letter in ["b", "_", "M"] {
                    let mut key = "a".repeat(length);
                    key.replace_range(place..=place, letter);
                    keys.push(key);
                }
            }
        }
        keys
    }

    #[test]
    fn a_key_that_was_seen_is_decided_as_a_new_one_is() {
        for _ in 0..3 {
            for key in keys() {
                for level in LEVELS {
                    assert_eq!(may_decide(&key, level), decides(&key, level), "{key}");
                }
            }
        }
    }

    #[test]
    fn no_two_keys_are_packed_alike() {
        let mut seen = HashMap::new();
        for key in keys() {
            for level in LEVELS {
                let Some(packed) = packed(key.as_bytes(), level) else { continue };
                let other = seen.insert(packed, (key.clone(), level as usize));
                assert!(other.is_none_or(|other| other == (key.clone(), level as usize)), "{key}");
            }
        }
    }

    #[test]
    fn a_key_is_not_asked_about_twice() {
        assert!(is_ordinary("some_key", Level::Row, || true));
        assert!(is_ordinary("some_key", Level::Row, || unreachable!()));
        assert!(!is_ordinary("some_key", Level::Message, || false));
        assert!(!is_ordinary("some_kez", Level::Row, || false));
    }
}
