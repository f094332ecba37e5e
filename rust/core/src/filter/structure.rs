//! Drops malformed dialogues: no messages, an empty message, roles out of order, or no final
//! assistant message.

use serde::Deserialize;

use crate::dialogue::{Dialogue, Replies, Role, Turn};
use crate::stage::{Code, Notes, Reason, Stage};

/// Characters of a role's name that a reason repeats: a row may contain a name of any length.
const ROLE_CHARS_MAX: usize = 40;

/// Drops dialogues that are empty, have an empty message, have roles out of order, or end with the
/// wrong role.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Structure {}

pub(super) fn build(table: toml::Table) -> Result<Box<dyn Stage>, toml::de::Error> {
    Ok(Box::new(table.try_into::<Structure>()?))
}

impl Stage for Structure {
    fn visit(&self, dialogue: &mut Dialogue, _: &mut Notes) -> Result<(), Reason> {
        let turns = &dialogue.turns;
        let first = usize::from(turns.first().is_some_and(|turn| turn.role == Role::System));
        let ends_with_user = (turns.len() - first) % 2 == 1;
        let code = if turns.len() == first {
            Code::EmptyDialogue
        } else if turns.iter().any(|turn| turn.text.trim().is_empty()) {
            Code::EmptyTurn
        } else if let Some(detail) = out_of_order(turns, first) {
            return Err(Reason::found(Code::RolesOutOfOrder, detail));
        } else if dialogue.replies == Replies::Inline && ends_with_user {
            Code::EndsWithUser
        } else if dialogue.replies != Replies::Inline && !ends_with_user {
            Code::EndsWithAssistant
        } else {
            return Ok(());
        };
        Err(code.into())
    }
}

/// Describes the first message from index `first` on whose role breaks the alternation of user and
/// assistant.
fn out_of_order(turns: &[Turn], first: usize) -> Option<String> {
    let mut expected = turns[first..].iter().zip([Role::User, Role::Assistant].iter().cycle());
    let index = expected.position(|(turn, role)| turn.role != *role)?;
    let expected = if index % 2 == 0 { Role::User } else { Role::Assistant };
    let role: String = turns[first + index].role.name().chars().take(ROLE_CHARS_MAX).collect();
    let index = first + index;
    Some(format!("message {index} has role `{role}`, expected `{}`", expected.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(turns: &[(Role, &str)]) -> Option<&'static str> {
        let turns = turns.iter().map(|(role, text)| Turn::new(role.clone(), *text)).collect();
        let mut dialogue = Dialogue { turns, ..Dialogue::default() };
        let judged = (Structure {}).visit(&mut dialogue, &mut Notes::default());
        judged.err().map(|reason| reason.code.word())
    }

    #[test]
    fn each_fault_has_its_name() {
        use Role::{Assistant, System, User};
        assert_eq!(judged(&[(User, "a"), (Assistant, "b")]), None);
        assert_eq!(judged(&[(System, "s"), (User, "a"), (Assistant, "b")]), None);
        assert_eq!(judged(&[]), Some("empty_dialogue"));
        assert_eq!(judged(&[(System, "s")]), Some("empty_dialogue"));
        assert_eq!(judged(&[(User, " \n"), (Assistant, "b")]), Some("empty_turn"));
        assert_eq!(judged(&[(Assistant, "a"), (User, "b")]), Some("roles_out_of_order"));
        assert_eq!(judged(&[(User, "a"), (Assistant, "b"), (User, "c")]), Some("ends_with_user"));
    }

    #[test]
    fn roles_out_of_order_names_the_first_offending_message() {
        let detail = |roles: &[&str]| {
            let turn = |role: &&str| Turn::new(Role::named((*role).to_owned()), "a");
            let turns = roles.iter().map(turn).collect();
            let mut dialogue = Dialogue { turns, ..Dialogue::default() };
            let visited = (Structure {}).visit(&mut dialogue, &mut Notes::default());
            visited.expect_err("out of order").detail.expect("has a detail")
        };
        assert_eq!(
            detail(&["system", "user", "user", "tool"]),
            "message 2 has role `user`, expected `assistant`"
        );
        assert_eq!(detail(&["assistant"]), "message 0 has role `assistant`, expected `user`");
        let long = "x".repeat(100);
        assert_eq!(
            detail(&["user", &long]),
            format!("message 1 has role `{}`, expected `assistant`", &long[..ROLE_CHARS_MAX])
        );
    }
}
