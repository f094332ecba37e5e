//! Changes of a `tokenizer.json` that keep all other bytes, and how its numbers are read.
//!
//! `transformers` loads the file with a build of the `tokenizers` crate that reads decimals fast,
//! but not always to the nearest number. Where two splits of a text by a Unigram model have nearly
//! the same score, the last bit decides, so [`with_fast_scores`] writes its scores as that build
//! reads them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokenizers::AddedToken;

#[derive(Deserialize)]
struct File<'file> {
    #[serde(borrow)]
    added_tokens: Option<&'file RawValue>,
    #[serde(borrow)]
    padding: Option<&'file RawValue>,
}

#[derive(Deserialize)]
struct Models<'file> {
    #[serde(borrow)]
    model: Option<&'file RawValue>,
}

#[derive(Deserialize)]
struct Unigram<'file> {
    #[serde(borrow)]
    vocab: Vec<(&'file RawValue, &'file RawValue)>,
}

/// The token that the file pads with, if it says so.
pub(super) fn pad_token(json: &[u8]) -> Option<String> {
    let file: File<'_> = serde_json::from_slice(json).ok()?;
    let padding: Value = serde_json::from_str(file.padding?.get()).ok()?;
    Some(padding.get("pad_token")?.as_str()?.to_owned())
}

/// The added tokens that the file lists.
pub(super) fn added_tokens(json: &[u8]) -> Vec<Value> {
    let file = serde_json::from_slice::<File<'_>>(json);
    let listed = file.ok().and_then(|file| serde_json::from_str(file.added_tokens?.get()).ok());
    listed.unwrap_or_default()
}

/// The file with these added tokens.
pub(super) fn with_added_tokens(
    json: &[u8],
    tokens: &BTreeMap<u32, AddedToken>,
) -> Result<Vec<u8>, String> {
    let fail = |error: serde_json::Error| error.to_string();
    let file: File<'_> = serde_json::from_slice(json).map_err(fail)?;
    let entry = |(id, token): (&u32, &AddedToken)| {
        let mut entry = json!({ "id": id });
        if let (Some(entry), Value::Object(fields)) = (entry.as_object_mut(), json!(token)) {
            entry.extend(fields);
        }
        entry
    };
    let listed =
        serde_json::to_string(&tokens.iter().map(entry).collect::<Vec<_>>()).map_err(fail)?;
    let (place, text) = match file.added_tokens {
        Some(old) => (within(json, old.get()), listed),
        None => {
            let start = json.iter().position(|byte| *byte == b'{').map_or(0, |brace| brace + 1);
            (start..start, format!("\"added_tokens\":{listed},"))
        }
    };
    Ok([&json[..place.start], text.as_bytes(), &json[place.end..]].concat())
}

/// The file with the scores of a Unigram model as the published `tokenizers` read them, or `None`
/// if it has another model or no score changes.
pub(super) fn with_fast_scores(json: &[u8]) -> Option<Vec<u8>> {
    let file: Models<'_> = serde_json::from_slice(json).ok()?;
    let unigram: Unigram<'_> = serde_json::from_str(file.model?.get()).ok()?;
    let mut written: Vec<u8> = Vec::new();
    let mut kept = 0;
    for (_, score) in unigram.vocab {
        let text = score.get();
        let Some(fast) = fast_number(text) else { continue };
        if text.parse::<f64>() == Ok(fast) {
            continue;
        }
        let place = within(json, text);
        written.extend_from_slice(&json[kept..place.start]);
        let mut shortest = String::new();
        _ = write!(shortest, "{fast:e}");
        written.extend_from_slice(shortest.as_bytes());
        kept = place.end;
    }
    (kept > 0).then(|| [&written, &json[kept..]].concat())
}

/// The place of a part in the bytes that it is borrowed from.
fn within(whole: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// A decimal as serde_json reads it without its feature `float_roundtrip`: the digits as an integer,
/// then one product or quotient with a power of ten. `None` if it is an integer or out of range.
fn fast_number(text: &str) -> Option<f64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let (decimals, power) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    if !digits.contains(['.', 'e', 'E']) {
        return None;
    }
    let mut exponent: i32 = power.parse().ok()?;
    let (whole, fraction) = decimals.split_once('.').unwrap_or((decimals, ""));
    let (mut significand, mut is_full) = (0_u64, false);
    for (digit, is_fraction) in
        whole.bytes().map(|digit| (digit, false)).chain(fraction.bytes().map(|digit| (digit, true)))
    {
        let digit = u64::from(digit.checked_sub(b'0')?);
        let next = significand.checked_mul(10).and_then(|tens| tens.checked_add(digit));
        match next.filter(|_| !is_full) {
            Some(next) => {
                significand = next;
                exponent -= i32::from(is_fraction);
            }
            // Further digits are ignored.
            None => {
                is_full = true;
                exponent += i32::from(!is_fraction);
            }
        }
    }
    let mut number = significand as f64;
    while exponent < -308 && number != 0.0 {
        number /= 1e308;
        exponent += 308;
    }
    let power: f64 = format!("1e{}", exponent.unsigned_abs().min(308)).parse().ok()?;
    number = if exponent >= 0 { number * power } else { number / power };
    number.is_finite().then_some(sign * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_as_the_digits_times_a_power_of_ten() {
        assert_eq!(fast_number("-3.5"), Some(-3.5));
        assert_eq!(fast_number("12"), None);
        // 17 digits: the integer is rounded before it is divided.
        let text = "-8.5716152191162109";
        assert_eq!(fast_number(text), Some(-(85_716_152_191_162_109_u64 as f64 / 1e16)));
        assert_eq!(fast_number("1.00000000000000000000000000001"), Some(1.0));
        assert_eq!(fast_number("2e-3"), Some(2.0 / 1e3));
        assert_eq!(fast_number("1.5e999"), None);
    }

    #[test]
    fn only_the_parts_that_change_are_written() {
        let json = br#"{"a": 1.10, "model": {"type": "Unigram", "vocab": [["x", -1.25]]}}"#;
        assert_eq!(with_fast_scores(json), None);
        let tokens = BTreeMap::from([(1, AddedToken::from("y", true))]);
        let written = with_added_tokens(json, &tokens).expect("valid");
        let text = String::from_utf8(written).expect("UTF-8");
        assert!(
            text.ends_with(r#","a": 1.10, "model": {"type": "Unigram", "vocab": [["x", -1.25]]}}"#)
        );
        let again = with_added_tokens(text.as_bytes(), &BTreeMap::new()).expect("valid");
        assert!(String::from_utf8(again).expect("UTF-8").starts_with(r#"{"added_tokens":[],"a""#));
    }
}
