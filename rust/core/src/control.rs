//! Finds control tokens that stand in the content itself: `</s>`, `<|user|>` and their like would become structure, not text.

use aho_corasick::AhoCorasick;
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What happens to a row whose content holds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The row goes to quarantine, whole and unchanged.
    Quarantine,
    /// The row goes on; the tokenizer reads the text as the control token it spells.
    Allow,
}

/// The control tokens of one tokenizer and one template.
#[derive(Debug)]
pub struct ControlTokens {
    tokens: Vec<String>,
    automaton: Option<AhoCorasick>,
}

impl ControlTokens {
    /// The tokenizer's special tokens and the role markers in what the template writes.
    pub fn new(special: &[String], written: &str, policy: Policy) -> Result<ControlTokens> {
        let mut tokens = special.to_vec();
        tokens.extend(markers(written));
        tokens.retain(|token| !token.trim().is_empty());
        tokens.sort();
        tokens.dedup();
        let automaton = match policy {
            Policy::Quarantine => Some(AhoCorasick::new(&tokens).map_err(|error| Error::Recipe(format!("control tokens: {error}")))?),
            Policy::Allow => None,
        };
        Ok(ControlTokens { tokens, automaton })
    }

    /// The first control token in the text, unless the policy allows them.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<&str> {
        let found = self.automaton.as_ref()?.find(text)?;
        Some(&self.tokens[found.pattern().as_usize()])
    }
}

/// Role markers as templates spell them: `<|user|>`, `<｜User｜>`, `<|turn>`, `<turn|>`, `[INST]`, `<start_of_turn>`, `</s>`.
pub(crate) fn markers(written: &str) -> Vec<String> {
    let pattern = r"<[|｜][^<>|｜\s]{1,40}[|｜]?>|<[/A-Za-z_][A-Za-z_0-9]{0,40}\|?>|\[/?[A-Z_]{2,40}\]";
    let marker = Regex::new(pattern).expect("the pattern is constant");
    marker.find_iter(written).map(|found| found.as_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_and_role_markers_are_found_in_content() {
        let template = "{{ '<|user|>\n' + message['content'] + eos_token }}[INST]";
        let control = ControlTokens::new(&["</s>".to_owned()], template, Policy::Quarantine).expect("builds");
        assert_eq!(control.find("a <|user|> b"), Some("<|user|>"));
        assert_eq!(control.find("the tag </s> ends"), Some("</s>"));
        assert_eq!(control.find("[INST] x"), Some("[INST]"));
        assert_eq!(control.find("<|usr|> [inst] a < b"), None);
        let control = ControlTokens::new(&["</s>".to_owned()], template, Policy::Allow).expect("builds");
        assert_eq!(control.find("</s>"), None);
    }
}
