//! Finds messages that a template leaves out. Nothing says so in the rendered text, and a model would
//! be trained without the rule, the tool result or the question that an answer depends on.

use std::ops::Range;

use super::python::is_space;
use crate::dialogue::{Role, Turn};

/// Fails if a message of anyone but the assistant is not in the text. `others` are the contents that
/// were located by marks. If the template changes them, so that they have no marks, each message is
/// searched as it is, and as JSON writes it.
pub(super) fn check(turns: &[Turn], text: &str, others: &[Range<usize>]) -> Result<(), String> {
    let wanted = || turns.iter().enumerate().filter(|(_, turn)| turn.role != Role::Assistant);
    let count = wanted().count();
    if others.len() == count {
        return Ok(());
    }
    let named = |(index, turn): (usize, &Turn)| {
        format!("the template leaves out or changes message {index} of role `{}`", turn.role.name())
    };
    match wanted().find(|(_, turn)| !is_in(text, &turn.text)).map(named) {
        Some(why) => Err(why),
        None if !others.is_empty() && others.len() < count => {
            Err("the template leaves out a message that is not the assistant's".to_owned())
        }
        None => Ok(()),
    }
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
    use super::*;

    #[test]
    fn a_message_that_is_not_in_the_text_is_named() {
        let turns = [
            Turn::new(Role::Developer, "Be brief."),
            Turn::new(Role::User, " say \"x\" "),
            Turn::new(Role::Assistant, "x"),
        ];
        let one = std::slice::from_ref(&(0..1));
        assert_eq!(check(&turns, "anything", &[0..1, 2..3]), Ok(()));
        assert_eq!(check(&turns, "Be brief. say \"x\"", &[]), Ok(()));
        assert_eq!(check(&turns, r#"Be brief. {"q":"say \"x\""}"#, &[]), Ok(()));
        let why = check(&turns, "say \"x\" x", one).expect_err("leaves one out");
        assert_eq!(why, "the template leaves out or changes message 0 of role `developer`");
        assert!(check(&turns, "Be brief. say \"x\"", one).is_err());
    }
}
