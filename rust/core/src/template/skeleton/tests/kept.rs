//! The number of skeletons that are kept is limited.

use super::Asked;
use crate::template::skeleton::kept::{Found, Kept, UNUSUAL_BYTES_MAX, UNUSUAL_MAX};
use crate::template::skeleton::sealed::Seals;
use crate::template::skeleton::slots::Key;
use crate::template::skeleton::{Skeleton, Wanted};

fn key(number: usize) -> Key {
    let mut unusual = [0; 32];
    unusual[..8].copy_from_slice(&number.to_le_bytes());
    Key {
        wanted: Wanted::Text,
        has_system: false,
        messages: 2,
        unusual: Some(unusual),
        seals: Seals::default(),
    }
}

fn skeleton(bytes: usize) -> Skeleton {
    Skeleton {
        pieces: Vec::new(),
        tail: "a".repeat(bytes),
        trained: Vec::new(),
        answers: Vec::new(),
        asked: Asked::default(),
    }
}

#[test]
fn so_many_unusual_sequences_and_bytes_are_kept_and_no_more() {
    let mut kept = Kept::default();
    for number in (0..=UNUSUAL_MAX).chain([3]) {
        kept.count(key(number));
    }
    assert_eq!((kept.unusual, kept.by_key.len()), (UNUSUAL_MAX, UNUSUAL_MAX));
    assert!(matches!(kept.by_key.get(&key(3)), Some(Found::Times(2))));
    for (number, bytes, is_kept) in [
        (0, UNUSUAL_BYTES_MAX / 2, true),
        (1, UNUSUAL_BYTES_MAX / 2, true),
        (2, 1, false),
        (0, 1, true),
        (3, 0, true),
    ] {
        kept.keep(key(number), Some(skeleton(bytes).into()));
        let found = matches!(kept.by_key.get(&key(number)), Some(Found::Made(_)));
        assert_eq!((found, kept.bytes <= UNUSUAL_BYTES_MAX), (is_kept, true), "{number}");
    }
    kept.count(key(0));
    assert!(matches!(kept.by_key.get(&key(0)), Some(Found::Made(_))), "it stays");
    let usual = Key { unusual: None, ..key(0) };
    kept.keep(usual, Some(skeleton(9).into()));
    assert!(matches!(kept.by_key.get(&usual), Some(Found::Made(_))));
    assert_eq!(kept.bytes, UNUSUAL_BYTES_MAX, "usual ones are few");
}
