//! Truecasing: capitals at the start of sentences, and for the pronoun `i`. There are two rules.
//! `careful` changes only messages that lack capitals, and never code. `h4` repeats the processing
//! by the authors of ultrachat_200k.
//!
//! Both depend only on the original text, so the order of the edits does not matter.

mod careful;
mod h4;
mod pronoun;
mod prose;
mod protect;
mod scan;

use crate::dialogue::Dialogue;
use crate::recipe::TruecaseRules;
use crate::stage::{Notes, Reason, Stage};

/// The version of these rules. Every manifest contains it, and it increases when any letter would
/// change.
pub const VERSION: u32 = 4;

/// The truecasing stage. It treats every message of a dialogue, including prompts, and every
/// completion.
#[derive(Debug)]
pub struct Truecase(pub TruecaseRules);

impl Stage for Truecase {
    fn visit(&self, dialogue: &mut Dialogue, notes: &mut Notes) -> Result<(), Reason> {
        for text in dialogue.texts_mut() {
            if let Some((capitalized, letters_changed)) = truecase(text, self.0) {
                *text = capitalized;
                notes.letters_changed += letters_changed;
            }
        }
        Ok(())
    }
}

/// Returns the truecased text and the number of changed letters, or `None` if no letter changed.
#[must_use]
pub fn truecase(text: &str, rules: TruecaseRules) -> Option<(String, u32)> {
    let offsets = match rules {
        TruecaseRules::Careful => careful::offsets(text),
        TruecaseRules::H4 => h4::offsets(text),
    };
    if offsets.is_empty() { None } else { capitalized(text, &offsets) }
}

/// Returns the text with the letters at these ascending offsets in upper case.
fn capitalized(text: &str, offsets: &[usize]) -> Option<(String, u32)> {
    let mut edited = String::with_capacity(text.len() + 4);
    let (mut copied, mut letters_changed) = (0, 0);
    for &offset in offsets {
        let letter = text[offset..].chars().next()?;
        if let Some(capital) = upper(letter) {
            edited.push_str(&text[copied..offset]);
            edited.push(capital);
            copied = offset + letter.len_utf8();
            letters_changed += 1;
        }
    }
    edited.push_str(&text[copied..]);
    (letters_changed > 0).then_some((edited, letters_changed))
}

/// The capital of a lowercase letter that has exactly one (`ß` has no single one).
fn upper(letter: char) -> Option<char> {
    let mut capitals = letter.to_uppercase();
    match (letter.is_lowercase(), capitals.next(), capitals.next()) {
        (true, Some(capital), None) if capital != letter => Some(capital),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
