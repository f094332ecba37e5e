//! Small views of text that several stages must agree on: the normal form, and hashes as hex.

use sha2::{Digest, Sha256};

/// Returns the normal form: lower case, single spaces, and no white space at the ends. Texts with
/// the same normal form are considered equal.
#[must_use]
pub fn normalised(text: &str) -> String {
    let mut normal = Vec::with_capacity(text.len());
    normalise_into(text, &mut normal);
    String::from_utf8(normal).expect("the normal form of UTF-8 is UTF-8")
}

/// Appends the normal form of a text (UTF-8). A space separates them if neither is empty.
pub fn normalise_into(text: &str, normal: &mut Vec<u8>) {
    if text.is_ascii() {
        return normalise_ascii(text, normal);
    }
    for word in text.split_whitespace() {
        if !normal.is_empty() {
            normal.push(b' ');
        }
        if word.is_ascii() {
            let start = normal.len();
            normal.extend_from_slice(word.as_bytes());
            normal[start..].make_ascii_lowercase();
        } else {
            normal.extend_from_slice(word.to_lowercase().as_bytes());
        }
    }
}

/// The same for ASCII, ten times as fast: it processes whole blocks, and single words only at
/// repeated white space.
fn normalise_ascii(text: &str, normal: &mut Vec<u8>) {
    let is_space = |letter: char| matches!(letter, '\t'..='\r' | ' ');
    let text = text.trim_matches(is_space);
    if !normal.is_empty() && !text.is_empty() {
        normal.push(b' ');
    }
    let start = normal.len();
    let space_or_lower =
        |byte: u8| if matches!(byte, 9..=13) { b' ' } else { byte.to_ascii_lowercase() };
    normal.extend(text.bytes().map(space_or_lower));
    // Repeated spaces are closed up within the buffer.
    let double = |normal: &[u8], from: usize| {
        memchr::memmem::find(&normal[from..], b"  ").map(|offset| from + offset + 1)
    };
    let Some(mut end) = double(normal, start) else { return };
    let mut next = Some(end);
    while let Some(from) = next {
        let spaces = normal[from..].iter().take_while(|byte| **byte == b' ').count();
        next = double(normal, from + spaces);
        let rest = from + spaces..next.unwrap_or(normal.len());
        let length = rest.len();
        normal.copy_within(rest, end);
        end += length;
    }
    normal.truncate(end);
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// SHA-256 as hex: the `prompt_id` of the published Zephyr sets, and every digest in the manifest.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns the first eight bytes of a SHA-256 as a number. All random choices use it, with a key
/// that identifies the choice.
#[must_use]
pub fn hash64(key: &str) -> u64 {
    let digest = Sha256::digest(key.as_bytes());
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_form_of_ascii_is_that_of_any_text() {
        for text in [
            "",
            " \n ",
            "A",
            " Two\t words ",
            "a\r\n\r\n\u{b}B  c\u{1f}d ",
            "x\n\ny\n\n\n",
            "a  b\t\t\tC d  ",
        ] {
            let word_by_word =
                text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ");
            assert_eq!(normalised(text), word_by_word);
            assert_eq!(normalised(&format!("É {text}")), format!("é {word_by_word}").trim_end());
        }
        let mut joined = Vec::new();
        for text in ["One", " ", "Two"] {
            normalise_into(text, &mut joined);
        }
        assert_eq!(joined, b"one two");
    }
}
