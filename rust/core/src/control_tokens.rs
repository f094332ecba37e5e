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
pub const VERSION: u32 = 2;

/// Maximum number of passes over a text. An inserted space may complete another token that contains
/// a space.
const PASSES_MAX: usize = 4;

impl ControlTokens {
    /// Collects the tokenizer's special tokens and the template's markers.
    pub fn new(special: &[String], markers: &[String], policy: Policy) -> Result<ControlTokens> {
        let mut tokens = [special, markers].concat();
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

/// The markers that a template uses for structure, from its source and from texts that it rendered.
/// `encloses` is true if a part of such a text contains a message.
///
/// Templates also mention plain tags, such as `<name>` in their instructions for tools, or write
/// them around reasoning (`<think>`). Both are ordinary text in a message. A plain tag is structure
/// only if the template writes it and it has no counterpart, or has a message inside.
pub(crate) fn structure(
    source: &str,
    rendered: &[String],
    encloses: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut found: Vec<String> =
        markers(source).into_iter().filter(|marker| plain_tag(marker).is_none()).collect();
    for text in rendered {
        found.extend(markers(text).into_iter().filter(|marker| {
            plain_tag(marker).is_none_or(|name| {
                let (open, close) = (format!("<{name}>"), format!("</{name}>"));
                let is_pair = [source, text].iter().any(|text| text.contains(&open))
                    && [source, text].iter().any(|text| text.contains(&close));
                let mut inside = text.split(open.as_str()).skip(1);
                !is_pair
                    || inside.any(|rest| {
                        rest.split_once(&close).is_some_and(|(in_it, _)| encloses(in_it))
                    })
            })
        }));
    }
    found.sort();
    found.dedup();
    found
}

/// The name of a tag like `<name>` or `</name>`.
fn plain_tag(marker: &str) -> Option<&str> {
    let name = marker.strip_prefix('<')?.strip_suffix('>')?;
    (!name.starts_with(['|', '｜']) && !name.ends_with('|')).then(|| name.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::{Role, Turn};

    #[test]
    fn special_tokens_and_role_markers_are_found_in_content() {
        let template = "{{ '<|user|>\n' + message['content'] + eos_token }}[INST]";
        let control =
            ControlTokens::new(&["</s>".to_owned()], &markers(template), Policy::Quarantine)
                .expect("builds");
        assert_eq!(control.find("a <|user|> b"), Some("<|user|>"));
        assert_eq!(control.find("the tag </s> ends"), Some("</s>"));
        assert_eq!(control.find("[INST] x"), Some("[INST]"));
        assert_eq!(control.find("<|usr|> [inst] a < b"), None);
        let control = ControlTokens::new(&["</s>".to_owned()], &markers(template), Policy::Allow)
            .expect("builds");
        assert_eq!(control.find("</s>"), None);
    }

    #[test]
    fn tags_in_prose_and_around_reasoning_are_no_structure() {
        let source = "Reply with <name>. {{ '<|im_start|>' }}<think></think>[TOOLS]";
        let rendered = ["<|im_start|><user>q</user><bot>\n<think>\n</think>a<end>".to_owned()];
        let found = structure(source, &rendered, |text| text.contains('q'));
        assert_eq!(found, ["</user>", "<bot>", "<end>", "<user>", "<|im_start|>", "[TOOLS]"]);
    }

    #[test]
    fn neutralized_text_reads_the_same_and_holds_no_control_token() {
        let tokens = ["</s>", "<s>", "< /s>", "<|user|>", "[INST]"].map(str::to_owned);
        let control = ControlTokens::new(&tokens, &[], Policy::Neutralize).expect("builds");
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
