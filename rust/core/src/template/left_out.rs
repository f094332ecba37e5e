//! Finds messages that a template leaves out. Nothing says so in the rendered text, and a model would
//! be trained without the rule, the tool result or the question that an answer depends on.

use std::ops::Range;

use super::jinja::Jinja;
use super::python::is_space;
use super::usage::{is_same, with};
use crate::dialogue::{Role, Script};

/// What a content is replaced by, to see whether it is used.
const OTHER_CONTENT: &str = "another content";

/// Fails if a message of anyone but the assistant is not in the text. `others` are the contents that
/// were located by marks. If the template changes them, so that they have no marks, each message is
/// searched as it is, and as JSON writes it. Another message may say the same, so the text must also
/// change with the message.
pub(super) fn check(
    jinja: &Jinja,
    script: Script<'_>,
    text: &str,
    others: &[Range<usize>],
) -> Result<(), String> {
    let wanted =
        || script.turns.iter().enumerate().filter(|(_, turn)| turn.role != Role::Assistant);
    if others.len() == wanted().count() {
        return Ok(());
    }
    for (index, turn) in wanted() {
        let is_blank = turn.text.trim_matches(is_space).is_empty();
        let changed = with(script, index, |turn| turn.text = OTHER_CONTENT.to_owned());
        if !is_in(text, &turn.text) || !is_blank && is_same(jinja, script, &changed, text) {
            let role = turn.role.name();
            return Err(format!(
                "the template leaves out or changes message {index} of role `{role}`"
            ));
        }
    }
    Ok(())
}

/// Refuses the first message with a role that a template has no header for.
pub(super) fn of_role(index: usize, role: &Role) -> String {
    format!("the template has no messages of role `{}`, which message {index} has", role.name())
}

fn is_in(text: &str, content: &str) -> bool {
    let core = content.trim_matches(is_space);
    let escaped = || serde_json::Value::from(core).to_string();
    text.contains(core) || text.contains(escaped().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::super::TemplateSource;
    use super::*;
    use crate::dialogue::Turn;
    use crate::tokenize::SpecialTokens;

    /// Checks a dialogue that a template renders with one expression for each question.
    fn checked(question: &str, texts: &[&str]) -> Result<(), String> {
        let template = format!(
            "{{% for m in messages %}}<{{{{ m.role }}}}>{{{{ m.content if m.role == 'assistant' \
            else {question} }}}}<e>{{% endfor %}}"
        );
        let special = SpecialTokens::default();
        let source = TemplateSource::plain("t", &template, &special, &["<e>".to_owned()]);
        let jinja = Jinja::new(&source).expect("compiles");
        let roles = [Role::Developer, Role::User, Role::Assistant];
        let turns: Vec<Turn> =
            roles.into_iter().zip(texts).map(|(role, text)| Turn::new(role, *text)).collect();
        let text = jinja.render_text((&turns).into()).expect("renders");
        check(&jinja, (&turns).into(), &text, &[])
    }

    #[test]
    fn a_message_that_is_not_in_the_text_is_named() {
        let texts = ["Be brief.", " say \"x\" ", "x"];
        for whole in ["m.content", "m.content | trim", "m.content | tojson"] {
            assert_eq!(checked(whole, &texts), Ok(()), "{whole}");
        }
        for part in ["m.content | upper", "m.content[:4]", "''"] {
            let why = checked(part, &texts).expect_err("leaves one out");
            assert_eq!(why, "the template leaves out or changes message 0 of role `developer`");
        }
        let first = "messages[0].content";
        let why = checked(first, &["the same", "the same", "x"]).expect_err("leaves one out");
        assert_eq!(why, "the template leaves out or changes message 1 of role `user`");
        assert_eq!(checked(first, &["x", " ", "x"]), Ok(()));
    }
}
