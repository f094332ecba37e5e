//! The parts of a tokenizer whose work can far exceed the length of a text: normalizers that expand
//! it, and pre-tokenizers with backtracking patterns. They use the `tokenizers` crate and return
//! the same results, but count every match and every byte. A text that exceeds its limit fails. A
//! tokenizer is untrusted input, so it may fail a row, but never the run.

use std::panic::resume_unwind;

use base64::Engine;
use onig::Regex;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pattern::Invert;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{
    NormalizedString, Normalizer, PreTokenizedString, PreTokenizer, Result, SplitDelimiterBehavior,
};

use super::counted::{Budget, Counted, compiled, grown};

/// Normalizers in a row, and pre-tokenizers in a row. Published tokenizers have five at most.
const STEPS_MAX: usize = 64;
/// Maximum bytes of a normalized text for each byte of the row, plus [`GROWTH_FREE`], and at most
/// [`NORMAL_BYTES_MAX`]. Unicode's compatibility forms expand one byte to up to 11.
const GROWTH_MAX: usize = 16;
const GROWTH_FREE: usize = 64 << 10;
/// Each of its bytes also has an offset of 16 bytes.
const NORMAL_BYTES_MAX: usize = 64 << 20;
/// Maximum bytes that a SentencePiece normalizer may write for one character. The longest in NFKC
/// has 33.
const CHARSMAP_BYTES_MAX: usize = 64;

/// A normalizer that counts.
#[derive(Debug)]
pub(super) struct Normalizers {
    whole: NormalizerWrapper,
    steps: Vec<NormalizerStep>,
}

#[derive(Debug)]
enum NormalizerStep {
    Plain(NormalizerWrapper),
    Replace { regex: Regex, content: String },
}

impl Normalizers {
    fn new(whole: NormalizerWrapper) -> std::result::Result<Normalizers, String> {
        let mut steps = Vec::new();
        add_normalizer(&whole, &mut steps)?;
        Ok(Normalizers { whole, steps })
    }
}

fn add_normalizer(
    normalizer: &NormalizerWrapper,
    steps: &mut Vec<NormalizerStep>,
) -> std::result::Result<(), String> {
    let part = |normalizer| serde_json::to_value(normalizer).map_err(|error| error.to_string());
    match normalizer {
        NormalizerWrapper::Sequence(inner) => {
            return inner.as_ref().iter().try_for_each(|one| add_normalizer(one, steps));
        }
        NormalizerWrapper::Replace(_) => {
            let part: Value = part(normalizer)?;
            let content = part["content"].as_str().unwrap_or_default().to_owned();
            match part["pattern"]["Regex"].as_str() {
                Some(pattern) => {
                    steps.push(NormalizerStep::Replace { regex: compiled(pattern)?, content })
                }
                None => {
                    let text = part["pattern"]["String"].as_str().unwrap_or_default();
                    steps.push(NormalizerStep::Replace {
                        regex: compiled(&regex::escape(text))?,
                        content,
                    });
                }
            }
        }
        other => steps.push(NormalizerStep::Plain(other.clone())),
    }
    check_steps(steps.len(), "normalizers")
}

fn check_steps(steps: usize, what: &str) -> std::result::Result<(), String> {
    if steps > STEPS_MAX {
        Err(format!("it has too many {what} (limit: {STEPS_MAX})"))
    } else {
        Ok(())
    }
}

/// Checks every character map in a normalizer's JSON before the crate parses it. The crate would
/// allocate as much memory as a map declares.
fn check_charsmaps(part: &Value) -> std::result::Result<(), String> {
    match part {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value.as_str() {
            Some(map) if name == "precompiled_charsmap" => check_charsmap(map),
            _ => check_charsmaps(value),
        }),
        Value::Array(parts) => parts.iter().try_for_each(check_charsmaps),
        _ => Ok(()),
    }
}

/// Checks a SentencePiece character map in base64. It contains the size of a trie, the trie, and
/// the replacement texts, each terminated by a zero byte.
fn check_charsmap(base64: &str) -> std::result::Result<(), String> {
    let failed = || "its character map is damaged".to_owned();
    let map = base64::engine::general_purpose::STANDARD.decode(base64).map_err(|_| failed())?;
    let (size, rest) = map.split_first_chunk::<4>().ok_or_else(failed)?;
    let written = rest.get(u32::from_le_bytes(*size) as usize..).ok_or_else(failed)?;
    let longest = written.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or_default();
    if longest <= CHARSMAP_BYTES_MAX {
        return Ok(());
    }
    Err(format!(
        "its character map replaces one character by {longest} bytes (limit: {CHARSMAP_BYTES_MAX})"
    ))
}

impl Normalizer for Normalizers {
    /// Unwinds if the text exceeds its limit, because the crate ignores errors of a normalizer and
    /// would continue with the unchanged text.
    fn normalize(&self, normalized: &mut NormalizedString) -> Result<()> {
        self.counted(normalized).map_err(|error| resume_unwind(Box::new(error.to_string())))
    }
}

impl Normalizers {
    fn counted(&self, normalized: &mut NormalizedString) -> Result<()> {
        let bytes = normalized.get().len();
        let room = (bytes * GROWTH_MAX + GROWTH_FREE).min(NORMAL_BYTES_MAX);
        let budget = Budget::default();
        budget.add(bytes);
        for step in &self.steps {
            match step {
                NormalizerStep::Plain(plain) => plain.normalize(normalized)?,
                NormalizerStep::Replace { regex, content } => {
                    let room = room.saturating_sub(normalized.get().len());
                    normalized.replace(
                        &Counted { regex, budget: &budget, written: content.len(), room },
                        content,
                    )?;
                }
            }
            if normalized.get().len() > room {
                return Err(grown(room));
            }
        }
        Ok(())
    }
}

impl Serialize for Normalizers {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.whole.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Normalizers {
    fn deserialize<D: Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<Normalizers, D::Error> {
        let part = Value::deserialize(deserializer)?;
        check_charsmaps(&part).map_err(D::Error::custom)?;
        let whole = NormalizerWrapper::deserialize(part).map_err(D::Error::custom)?;
        Normalizers::new(whole).map_err(D::Error::custom)
    }
}

/// A pre-tokenizer that counts.
#[derive(Debug)]
pub(super) struct PreTokenizers {
    whole: PreTokenizerWrapper,
    steps: Vec<PreTokenizerStep>,
}

#[derive(Debug)]
enum PreTokenizerStep {
    Plain(PreTokenizerWrapper),
    Split { regex: Regex, behavior: SplitDelimiterBehavior, invert: bool },
}

impl PreTokenizers {
    fn new(whole: PreTokenizerWrapper) -> std::result::Result<PreTokenizers, String> {
        let mut steps = Vec::new();
        add_pre_tokenizer(&whole, &mut steps)?;
        Ok(PreTokenizers { whole, steps })
    }
}

fn add_pre_tokenizer(
    pre_tokenizer: &PreTokenizerWrapper,
    steps: &mut Vec<PreTokenizerStep>,
) -> std::result::Result<(), String> {
    match pre_tokenizer {
        PreTokenizerWrapper::Sequence(inner) => {
            return inner.as_ref().iter().try_for_each(|one| add_pre_tokenizer(one, steps));
        }
        PreTokenizerWrapper::Split(split) => {
            let regex = match &split.pattern {
                SplitPattern::Regex(pattern) => compiled(pattern)?,
                SplitPattern::String(text) => compiled(&regex::escape(text))?,
            };
            steps.push(PreTokenizerStep::Split {
                regex,
                behavior: split.behavior,
                invert: split.invert,
            });
        }
        other => steps.push(PreTokenizerStep::Plain(other.clone())),
    }
    check_steps(steps.len(), "pre-tokenizers")
}

impl PreTokenizer for PreTokenizers {
    fn pre_tokenize(&self, pretokenized: &mut PreTokenizedString) -> Result<()> {
        for step in &self.steps {
            let (regex, behavior, invert) = match step {
                PreTokenizerStep::Plain(plain) => {
                    plain.pre_tokenize(pretokenized)?;
                    continue;
                }
                PreTokenizerStep::Split { regex, behavior, invert } => (regex, *behavior, *invert),
            };
            let budget = Budget::default();
            pretokenized.split(|_, text| {
                budget.add(text.get().len());
                let pattern = Counted { regex, budget: &budget, written: 0, room: usize::MAX };
                if invert {
                    text.split(Invert(&pattern), behavior)
                } else {
                    text.split(&pattern, behavior)
                }
            })?;
        }
        Ok(())
    }
}

impl Serialize for PreTokenizers {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.whole.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PreTokenizers {
    fn deserialize<D: Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<PreTokenizers, D::Error> {
        PreTokenizers::new(PreTokenizerWrapper::deserialize(deserializer)?)
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizers_that_grow_a_text_fail_before_they_do() {
        let replace = |content: &str| {
            let pattern = serde_json::json!({"String": "a"});
            serde_json::json!({"type": "Replace", "pattern": pattern, "content": content})
        };
        let tenfold = vec![replace("aaaaaaaaaa"); 9];
        let nothing = serde_json::json!({
            "type": "Replace", "pattern": {"Regex": ""}, "content": "b".repeat(1_000),
        });
        for steps in [tenfold, vec![replace(&"a".repeat(1_000)); 3], vec![nothing]] {
            let sequence = serde_json::json!({"type": "Sequence", "normalizers": steps});
            let normalizer: Normalizers = serde_json::from_value(sequence).expect("loads");
            let mut text = NormalizedString::from("a".repeat(100_000));
            let error = normalizer.counted(&mut text).expect_err("grows").to_string();
            assert!(error.contains("the normalizer's output exceeds"), "{error}");
        }
        let normalizer: Normalizers = serde_json::from_value(replace("▁")).expect("loads");
        let mut text = NormalizedString::from("banana");
        normalizer.normalize(&mut text).expect("three bytes for one");
        assert_eq!(text.get(), "b▁n▁n▁");
    }

    #[test]
    fn character_maps_and_step_counts_have_caps() {
        let map = |written: &str| {
            let bytes = [&4_u32.to_le_bytes()[..], &[0; 4], written.as_bytes()].concat();
            base64::engine::general_purpose::STANDARD.encode(bytes)
        };
        assert_eq!(check_charsmap(&map("a\0bc\0")), Ok(()));
        assert!(check_charsmap(&map(&"x".repeat(65))).is_err());
        assert!(check_charsmap("%").is_err());
        let steps = vec![serde_json::json!({"type": "NFC"}); 65];
        let many = serde_json::json!({"type": "Sequence", "normalizers": steps});
        let error = serde_json::from_value::<Normalizers>(many).expect_err("too many").to_string();
        assert!(error.contains("too many normalizers (limit: 64)"), "{error}");
    }
}
