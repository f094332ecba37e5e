//! Small views of text that several stages must agree on: the normal form, and hashes as hex.

use sha2::{Digest, Sha256};

/// Lower-cased, every run of white space one space, none at the ends: two texts with the same normal form say the same.
#[must_use]
pub fn normalised(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !normal.is_empty() {
            normal.push(' ');
        }
        if word.is_ascii() {
            normal.push_str(word);
        } else {
            normal.push_str(&word.to_lowercase());
        }
    }
    normal.make_ascii_lowercase();
    normal
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).map(char::from).collect()
}

/// SHA-256 as hex: the `prompt_id` of the published Zephyr sets, and every digest in the manifest.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The first eight bytes of a SHA-256 as a number: all the chance there is, keyed by what it belongs to.
#[must_use]
pub fn hash64(key: &str) -> u64 {
    let digest = Sha256::digest(key.as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(head)
}
