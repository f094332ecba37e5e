//! The characters of marks: Unicode's non-characters, as far as neither the row nor the
//! template contains them.

use super::jinja::Jinja;
use crate::dialogue::Script;

/// The kinds of marks, an opening and a closing mark each.
pub(super) const KINDS: usize = 5;
pub(super) const TAGS: usize = 0;
pub(super) const ANSWERS: usize = 1;
pub(super) const OTHERS: usize = 2;
pub(super) const PARTS: usize = 3;
pub(super) const REASONING_BEFORE: usize = 4;
/// The first of Unicode's non-characters that follow each other, and their number.
const FIRST: char = '\u{FDD0}';
const NON_CHARACTERS: usize = 32;
/// The first byte of each of them in UTF-8. Few other letters begin with it.
const LEAD: u8 = 0xEF;

/// Records which non-characters a text contains.
fn add_used(text: &str, used: &mut [bool; NON_CHARACTERS]) {
    for offset in memchr::memchr_iter(LEAD, text.as_bytes()) {
        let letter = text[offset..].chars().next().unwrap_or_default();
        let number = (letter as usize).checked_sub(FIRST as usize);
        if let Some(is_used) = number.and_then(|number| used.get_mut(number)) {
            *is_used = true;
        }
    }
}

/// Whether a character may be a mark.
pub(super) fn is_mark(letter: char) -> bool {
    (letter as usize).checked_sub(FIRST as usize).is_some_and(|number| number < NON_CHARACTERS)
}

/// Whether a text contains such a character.
pub(super) fn has_mark(text: &str) -> bool {
    memchr::memchr_iter(LEAD, text.as_bytes())
        .any(|offset| text[offset..].chars().next().is_some_and(is_mark))
}

/// Characters that neither row nor template contains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Letters {
    pub(super) marks: [char; 2 * KINDS],
    pub(super) digits: [char; 16],
}

impl Letters {
    /// Unicode's non-characters, if enough of them are unused.
    pub(super) fn unused(jinja: &Jinja, script: Script<'_>) -> Option<Letters> {
        let mut used = [false; NON_CHARACTERS];
        add_used(&jinja.written, &mut used);
        for turn in script.turns {
            add_used(&turn.text, &mut used);
            for (name, value) in turn.extras.iter().flat_map(|extras| &extras.members) {
                add_used(name, &mut used);
                add_used(&value.to_string(), &mut used);
            }
        }
        if let Some(inputs) = script.inputs {
            for (name, value) in &inputs.args {
                add_used(name, &mut used);
                add_used(&value.to_string(), &mut used);
            }
            inputs.tools.iter().for_each(|tools| add_used(&tools.to_string(), &mut used));
        }
        let mut unused =
            (FIRST..).zip(used).filter(|(_, is_used)| !is_used).map(|(letter, _)| letter);
        let mut letters = Letters { marks: ['\0'; 2 * KINDS], digits: ['\0'; 16] };
        for letter in letters.marks.iter_mut().chain(&mut letters.digits) {
            *letter = unused.next()?;
        }
        Some(letters)
    }

    #[cfg(test)]
    pub(super) fn of(marks: [char; 6]) -> Letters {
        let [a, b, c, d, e, f] = marks;
        let marks = [a, b, c, d, e, f, '\u{1}', '\u{2}', '\u{4}', '\u{5}'];
        Letters { marks, digits: ['\u{3}'; 16] }
    }

    /// Whether a byte is the first of a mark in UTF-8.
    pub(super) fn leads(&self) -> [bool; 256] {
        let mut leads = [false; 256];
        for mark in self.marks {
            leads[usize::from(mark.encode_utf8(&mut [0; 4]).as_bytes()[0])] = true;
        }
        leads
    }

    pub(super) fn pair(&self, kind: usize) -> [char; 2] {
        [self.marks[2 * kind], self.marks[2 * kind + 1]]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value as Json};

    use super::*;
    use crate::dialogue::{Extras, Role, TemplateInputs, Turn};
    use crate::template::{SpecialTokens, TemplateSource};

    #[test]
    fn no_letter_of_a_row_is_a_mark() {
        let source = "{% for m in messages %}{{ m.role + m.content }}\u{FDD0}{% endfor %}";
        let special = SpecialTokens::default();
        let source = TemplateSource::plain("t", source, &special, &[]);
        let source = TemplateSource { train_end: crate::recipe::TrainEnd::AsIs, ..source };
        let jinja = Jinja::new(&source).expect("compiles");
        let object = |name: &str, value: Json| Map::from_iter([(name.to_owned(), value)]);
        let members = object("\u{FDD3}", serde_json::json!(["\u{FDD5}", {"a": "\u{FDD7}"}]));
        let extras = Extras { members, ..Extras::default() };
        let turns = [
            Turn::new(Role::User, "\u{FDCF}\u{FDD1}\u{FDF0}\u{FF21}\u{10FFFF}"),
            Turn { extras: Some(Box::new(extras)), ..Turn::new(Role::Assistant, "a") },
        ];
        let args = object("\u{FDD9}", "\u{FDDB}".into());
        let inputs = TemplateInputs { tools: Some("\u{FDDD}".into()), args };
        let script = Script { turns: &turns, inputs: Some(&inputs) };
        assert!(Letters::unused(&jinja, script).is_none(), "24 of 32 are left, and 26 are needed");
        let script = Script { inputs: None, ..script };
        let letters = Letters::unused(&jinja, script).expect("27 are left");
        let all = || letters.marks.into_iter().chain(letters.digits);
        for used in ['\u{FDD0}', '\u{FDD1}', '\u{FDD3}', '\u{FDD5}', '\u{FDD7}'] {
            assert!(all().all(|letter| letter != used), "{used:?}");
        }
        assert!(all().all(|letter| ('\u{FDD0}'..='\u{FDEF}').contains(&letter)));
    }
}
