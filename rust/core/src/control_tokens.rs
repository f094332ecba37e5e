//! Finds control tokens in content: the model would read `</s>`, `<|user|>` and similar texts as
//! structure.

use aho_corasick::{AhoCorasick, MatchKind};
use regex::Regex;

use crate::dialogue::Dialogue;
use crate::error::{Error, Result};
use crate::recipe::Policy;

/// The control tokens of a tokenizer and a template.
#[derive(Debug)]
pub struct ControlTokens {
    tokens: Vec<String>,
    policy: Policy,
    automaton: AhoCorasick,
}

/// The version of these rules.
pub const VERSION: u32 = 1;

/// Maximum number of passes over a text. An inserted space may complete another token that contains
/// a space.
const PASSES_MAX: usize = 4;

impl ControlTokens {
    /// Collects the tokenizer's special tokens and the role markers in the template's output.
    pub fn new(special: &[String], written: &str, policy: Policy) -> Result<ControlTokens> {
        let mut tokens = special.to_vec();
        tokens.extend(markers(written));
        tokens.retain(|token| !token.trim().is_empty());
        tokens.sort();
        tokens.dedup();
        let automaton =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&tokens);
        let automaton = automaton
            .map_err(|error| Error::Config(format!("cannot index the control tokens: {error}")))?;
        Ok(ControlTokens { tokens, policy, automaton })
    }

    /// The first control token in the text, unless the policy allows them.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<&str> {
        if self.policy == Policy::Allow {
            return None;
        }
        let found = self.automaton.find(text)?;
        Some(&self.tokens[found.pattern().as_usize()])
    }

    /// Breaks every control token in a dialogue if the policy says so, and returns their number. A
    /// token of a single character cannot be broken and remains for `find`.
    pub fn neutralize(&self, dialogue: &mut Dialogue) -> u32 {
        if self.policy != Policy::Neutralize {
            return 0;
        }
        dialogue.texts_mut().map(|text| self.broken(text)).sum()
    }

    fn broken(&self, text: &mut String) -> u32 {
        let mut count = 0;
        for _ in 0..PASSES_MAX {
            let (mut broken, mut last, before) = (String::new(), 0, count);
            for found in self.automaton.find_iter(text.as_str()) {
                let first = text[found.range()].chars().next().map_or(0, char::len_utf8);
                broken.push_str(&text[last..found.start() + first]);
                broken.push(' ');
                last = found.start() + first;
                count += 1;
            }
            if count == before {
                break;
            }
            broken.push_str(&text[last..]);
            *text = broken;
        }
        count
    }
}

/// Role markers as templates spell them: `<|user|>`, `<｜User｜>`, `<|turn>`, `<turn|>`, `[INST]`,
/// `<start_of_turn>`, `</s>`.
pub(crate) fn markers(written: &str) -> Vec<String> {
    let pattern =
        r"<[|｜][^<>|｜\s]{1,40}[|｜]?>|<[/A-Za-z_][A-Za-z_0-9]{0,40}\|?>|\[/?[A-Z_]{2,40}\]";
    let marker = Regex::new(pattern).expect("the constant pattern is valid");
    marker.find_iter(written).map(|found| found.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::{Role, Turn};

    #[test]
    fn special_tokens_and_role_markers_are_found_in_content() {
        let template = "{{ '<|user|>\n' + message['content'] + eos_token }}[INST]";
        let control =
            ControlTokens::new(&["</s>".to_owned()], template, Policy::Quarantine).expect("builds");
        assert_eq!(control.find("a <|user|> b"), Some("<|user|>"));
        assert_eq!(control.find("the tag </s> ends"), Some("</s>"));
        assert_eq!(control.find("[INST] x"), Some("[INST]"));
        assert_eq!(control.find("<|usr|> [inst] a < b"), None);
        let control =
            ControlTokens::new(&["</s>".to_owned()], template, Policy::Allow).expect("builds");
        assert_eq!(control.find("</s>"), None);
    }

    #[test]
    fn neutralized_text_reads_the_same_and_holds_no_control_token() {
        let tokens = ["</s>", "<s>", "< /s>", "<|user|>", "[INST]"].map(str::to_owned);
        let control = ControlTokens::new(&tokens, "", Policy::Neutralize).expect("builds");
        let turn = |text: &str| Turn::new(Role::User, text);
        let turns = vec![turn("a</s>b<|user|>"), turn("plain"), turn("<<s>>[INST]"), turn("< /s>")];
        let mut dialogue = Dialogue { turns, ..Dialogue::default() };
        let count = control.neutralize(&mut dialogue);
        let texts: Vec<&str> = dialogue.turns.iter().map(|turn| turn.text.as_str()).collect();
        assert_eq!(texts, ["a<  /s>b< |user|>", "plain", "<< s>>[ INST]", "<  /s>"]);
        assert_eq!(count, 6);
        assert!(texts.iter().all(|text| control.find(text).is_none()));
    }
}
