//! Drops malformed dialogues: no messages, an empty message, roles out of order, or no final
//! assistant message. With `order = "any"`, it keeps every dialogue that has an answer to train on.

use serde::Deserialize;
use serde_json::Value;

use crate::dialogue::{CALLS, Dialogue, Replies, Role, Turn};
use crate::stage::{Code, Notes, Reason, Stage};

/// Characters of a role's name that a reason repeats: a row may contain a name of any length.
const ROLE_CHARS_MAX: usize = 40;

/// Which orders of messages are accepted.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
enum Order {
    /// After an optional system message, user and assistant alternate, starting with the user.
    /// Dialogues end with the assistant.
    Strict,
    /// Messages of known roles in any order. Messages after the last answer are removed, because
    /// nothing answers them.
    Any,
}

/// Drops dialogues that are empty, have an empty message, have roles out of order, or end with the
/// wrong role.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Structure {
    /// Which orders of messages are accepted.
    #[serde(default = "strict")]
    order: Order,
}

fn strict() -> Order {
    Order::Strict
}

pub(super) fn build(table: toml::Table) -> Result<Box<dyn Stage>, toml::de::Error> {
    Ok(Box::new(table.try_into::<Structure>()?))
}

impl Stage for Structure {
    fn visit(&self, dialogue: &mut Dialogue, notes: &mut Notes) -> Result<(), Reason> {
        match self.order {
            Order::Strict => check_strictly(dialogue),
            Order::Any => {
                cut_unanswered(dialogue, notes);
                check_in_any_order(dialogue)?;
                note_order(dialogue, notes);
                Ok(())
            }
        }
    }
}

fn check_strictly(dialogue: &Dialogue) -> Result<(), Reason> {
    let turns = &dialogue.turns;
    let first = usize::from(turns.first().is_some_and(is_instruction));
    let ends_with_user = turns.last().is_some_and(|turn| turn.role != Role::Assistant);
    let code = if turns.len() == first {
        Code::EmptyDialogue
    } else if turns.iter().any(is_blank) {
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

/// Whether a message says nothing. Calls are enough, and a tool may return nothing.
fn is_blank(turn: &Turn) -> bool {
    let has_calls =
        || turn.member(CALLS).and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
    turn.text.trim().is_empty() && turn.role != Role::Tool && !has_calls()
}

/// Whether a message only instructs the assistant.
fn is_instruction(turn: &Turn) -> bool {
    matches!(turn.role, Role::System | Role::Developer)
}

/// Removes the messages after the last answer. A dialogue without an answer is not changed.
fn cut_unanswered(dialogue: &mut Dialogue, notes: &mut Notes) {
    let turns = &mut dialogue.turns;
    let last = turns.iter().rposition(|turn| turn.role == Role::Assistant);
    if let (Replies::Inline, Some(last)) = (&dialogue.replies, last) {
        notes.messages_cut = turns.drain(last + 1..).count() as u32;
    }
}

fn check_in_any_order(dialogue: &Dialogue) -> Result<(), Reason> {
    let turns = &dialogue.turns;
    let code = if turns.iter().all(is_instruction) {
        Code::EmptyDialogue
    } else if turns.iter().any(is_blank) {
        Code::EmptyTurn
    } else if let Some(detail) = unknown_role(turns) {
        return Err(Reason::found(Code::RolesOutOfOrder, detail));
    } else {
        let ends_with_assistant = turns.last().is_some_and(|turn| turn.role == Role::Assistant);
        match (&dialogue.replies, ends_with_assistant) {
            (Replies::Inline, false) => Code::EndsWithUser,
            (Replies::Scored(_) | Replies::Pair(_), true) => Code::EndsWithAssistant,
            (Replies::Inline, true) | (Replies::Scored(_) | Replies::Pair(_), false) => {
                return Ok(());
            }
        }
    };
    Err(code.into())
}

/// Records the unusual orders of a dialogue that is kept.
fn note_order(dialogue: &Dialogue, notes: &mut Notes) {
    let mut spoken = dialogue.turns.iter().filter(|turn| !is_instruction(turn)).peekable();
    notes.starts_with_assistant = spoken.peek().is_some_and(|turn| turn.role == Role::Assistant);
    notes.has_repeated_role = dialogue.turns.windows(2).any(|turns| turns[0].role == turns[1].role);
}

/// Describes the first message whose role is unknown.
fn unknown_role(turns: &[Turn]) -> Option<String> {
    let index = turns.iter().position(|turn| matches!(turn.role, Role::Other(_)))?;
    let role = shown(&turns[index].role);
    Some(format!("message {index} has the unknown role `{role}`"))
}

/// Describes the first message from index `first` on whose role breaks the alternation of user and
/// assistant. Between them, the results of tools may follow an assistant's calls, and its next
/// message follows the results.
fn out_of_order(turns: &[Turn], first: usize) -> Option<String> {
    let mut expected = Role::User;
    let mut may_be_tool = false;
    for (index, turn) in turns.iter().enumerate().skip(first) {
        if may_be_tool && turn.role == Role::Tool {
            expected = Role::Assistant;
            continue;
        }
        if turn.role != expected {
            let role = shown(&turn.role);
            let expected = expected.name();
            return Some(format!("message {index} has role `{role}`, expected `{expected}`"));
        }
        may_be_tool = turn.role == Role::Assistant && turn.member(CALLS).is_some();
        expected = if turn.role == Role::Assistant { Role::User } else { Role::Assistant };
    }
    None
}

fn shown(role: &Role) -> String {
    role.name().chars().take(ROLE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(turns: &[(Role, &str)]) -> Option<&'static str> {
        let turns = turns.iter().map(|(role, text)| Turn::new(role.clone(), *text)).collect();
        let mut dialogue = Dialogue { turns, ..Dialogue::default() };
        let judged =
            (Structure { order: Order::Strict }).visit(&mut dialogue, &mut Notes::default());
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
    fn results_follow_calls_and_an_answer_follows_results() {
        use Role::{Assistant, System, Tool, User};
        let judged = |roles: &[(Role, &str)], calls: bool| {
            let mut turns: Vec<Turn> =
                roles.iter().map(|(role, text)| Turn::new(role.clone(), *text)).collect();
            let callers = turns.iter_mut().filter(|turn| turn.text == "call");
            callers.for_each(|turn| {
                let mut extras = crate::dialogue::Extras::default();
                let call = serde_json::json!([{"name": "f"}]);
                extras.members.insert(CALLS.to_owned(), call);
                turn.extras = calls.then(|| Box::new(extras));
                turn.text.clear();
            });
            let mut dialogue = Dialogue { turns, ..Dialogue::default() };
            let stage = Structure { order: Order::Strict };
            let judged = stage.visit(&mut dialogue, &mut Notes::default());
            judged.err().map(|reason| reason.code.word())
        };
        let called = [(User, "a"), (Assistant, "call"), (Tool, ""), (Tool, "r"), (Assistant, "b")];
        assert_eq!(judged(&called, true), None);
        assert_eq!(judged(&called, false), Some("empty_turn"));
        assert_eq!(judged(&called[..2], true), None);
        assert_eq!(judged(&called[..4], true), Some("ends_with_user"));
        assert_eq!(judged(&[(Role::Developer, "d"), (User, "a"), (Assistant, "b")], false), None);
        for roles in [
            [(User, "a"), (Tool, "r"), (Assistant, "b")],
            [(User, "a"), (Assistant, "b"), (Tool, "r")],
            [(System, "s"), (Tool, "r"), (Assistant, "b")],
        ] {
            assert_eq!(judged(&roles, true), Some("roles_out_of_order"));
        }
    }

    #[test]
    fn roles_out_of_order_names_the_first_offending_message() {
        let detail = |roles: &[&str]| {
            let turn = |role: &&str| Turn::new(Role::named((*role).to_owned()), "a");
            let turns = roles.iter().map(turn).collect();
            let mut dialogue = Dialogue { turns, ..Dialogue::default() };
            let visited =
                (Structure { order: Order::Strict }).visit(&mut dialogue, &mut Notes::default());
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

    /// Roles by their first letters: system, user, assistant, and `x` for an unknown one.
    fn in_any_order(roles: &str, replies: Replies) -> (Option<&'static str>, usize, Notes) {
        let turn = |letter: char| {
            let role = match letter {
                's' => Role::System,
                'u' => Role::User,
                'a' => Role::Assistant,
                _ => Role::Other(letter.to_string()),
            };
            Turn::new(role, "t")
        };
        let turns = roles.chars().map(turn).collect();
        let mut dialogue = Dialogue { turns, replies, ..Dialogue::default() };
        let mut notes = Notes::default();
        let visited = (Structure { order: Order::Any }).visit(&mut dialogue, &mut notes);
        (visited.err().map(|reason| reason.code.word()), dialogue.turns.len(), notes)
    }

    #[test]
    fn in_any_order_a_dialogue_ends_with_its_last_answer() {
        for (roles, left, starts, repeated) in [
            ("ua", 2, false, false),
            ("uau", 2, false, false),
            ("suauu", 3, false, false),
            ("au", 1, true, false),
            ("saua", 4, true, false),
            ("uaa", 3, false, true),
            ("uua", 3, false, true),
            ("usaua", 5, false, false),
        ] {
            let (code, turns, notes) = in_any_order(roles, Replies::Inline);
            assert_eq!((code, turns), (None, left), "{roles}");
            assert_eq!(notes.messages_cut as usize, roles.len() - left, "{roles}");
            assert_eq!(notes.starts_with_assistant, starts, "{roles}");
            assert_eq!(notes.has_repeated_role, repeated, "{roles}");
        }
        for (roles, code) in [
            ("", "empty_dialogue"),
            ("ss", "empty_dialogue"),
            ("u", "ends_with_user"),
            ("suu", "ends_with_user"),
            ("uxa", "roles_out_of_order"),
        ] {
            assert_eq!(in_any_order(roles, Replies::Inline).0, Some(code), "{roles}");
        }
    }

    #[test]
    fn in_any_order_no_message_of_a_prompt_is_cut() {
        let prompt = |roles: &str| {
            let (code, turns, notes) = in_any_order(roles, Replies::Scored(Vec::new()));
            assert_eq!((turns, notes.messages_cut), (roles.len(), 0), "{roles}");
            code
        };
        for roles in ["u", "su", "au", "uau", "uus"] {
            assert_eq!(prompt(roles), None, "{roles}");
        }
        assert_eq!(prompt("ua"), Some("ends_with_assistant"));
        assert_eq!(prompt("s"), Some("empty_dialogue"));
        assert_eq!(prompt("ux"), Some("roles_out_of_order"));
    }
}
