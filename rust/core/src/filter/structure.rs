//! Drops dialogues that are no dialogue: nothing said, an empty turn, speakers out of order, or a
//! question left open.

use serde::Deserialize;

use crate::dialogue::{Dialogue, Replies, Role};
use crate::stage::{Code, Notes, Reason, Stage};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Structure {}

pub(super) fn build(table: toml::Table) -> Result<Box<dyn Stage>, toml::de::Error> {
    Ok(Box::new(table.try_into::<Structure>()?))
}

impl Stage for Structure {
    fn visit(&self, dialogue: &mut Dialogue, _: &mut Notes) -> Result<(), Reason> {
        let turns = &dialogue.turns;
        let spoken =
            &turns[usize::from(turns.first().is_some_and(|turn| turn.role == Role::System))..];
        let in_order = spoken
            .iter()
            .zip([Role::User, Role::Assistant].iter().cycle())
            .all(|(turn, role)| turn.role == *role);
        let asks_last = spoken.len() % 2 == 1;
        let code = if spoken.is_empty() {
            Code::EmptyDialogue
        } else if turns.iter().any(|turn| turn.text.trim().is_empty()) {
            Code::EmptyTurn
        } else if !in_order {
            Code::RolesOutOfOrder
        } else if dialogue.replies == Replies::Inline && asks_last {
            Code::EndsWithUser
        } else if dialogue.replies != Replies::Inline && !asks_last {
            Code::EndsWithAssistant
        } else {
            return Ok(());
        };
        Err(code.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::Turn;

    fn judged(turns: &[(Role, &str)]) -> Option<&'static str> {
        let turns = turns
            .iter()
            .map(|(role, text)| Turn { role: role.clone(), text: (*text).to_owned() })
            .collect();
        let mut dialogue = Dialogue { id: None, source: None, turns, replies: Replies::Inline };
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
}
