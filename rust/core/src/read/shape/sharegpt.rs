//! ShareGPT and its kin: `{"conversations": [{"from": "human", "value": …}, {"from": "gpt", …}]}`,
//! with or without `system`. The list may be called `conversation`, and its fields `role` and
//! `content`. A list of texts alternates between user and assistant, as in LIMA.

use super::columns::Columns;
use super::deciding::is_flag;
use super::members::{Member, add};
use super::role_words::RoleWords;
use super::unread::Unread;
use super::unsupported::refused;
use super::{Cursor, Id, Level, List, check_count, not_of_shape, once, row_text, whole};
use crate::dialogue::{Dialogue, Extras, Replies, Role, Turn};
use crate::stage::Reason;

/// The names of the list.
pub(super) const LISTS: [&str; 3] = ["conversations", "conversation", "messages"];
const CHECKED: [List; 3] = [
    ("conversations", Level::Spoken),
    ("conversation", Level::Spoken),
    ("messages", Level::Spoken),
];
const SPEAKERS: [&str; 2] = ["from", "role"];
const TEXTS: [&str; 2] = ["value", "content"];

const USERS: [&str; 3] = ["user", "human", "prompter"];
const ASSISTANTS: [&str; 7] = ["assistant", "gpt", "bot", "model", "chatgpt", "bing", "bard"];
/// Roles of messages that are neither asked nor answered.
const TOOLS: [&str; 8] = [
    "tool",
    "function",
    "function_call",
    "function_response",
    "observation",
    "tool_call",
    "tool_response",
    "ipython",
];

/// The contents of a row of this shape, with its speakers as they are written.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: Option<String>,
    source: Option<String>,
    system: Option<String>,
    messages: Vec<Spoken>,
}

/// A message: its speaker, its text, and whether it is trained, if the source has a flag.
#[derive(Debug, Clone, PartialEq)]
struct Spoken {
    speaker: String,
    text: String,
    trained: Option<bool>,
}

impl Row {
    fn quick(cursor: &mut Cursor, unread: &mut Unread) -> Option<Row> {
        let (mut id, mut source, mut system, mut messages) = (None, None, None, None);
        cursor.object(|cursor, key| match key {
            "id" => once(&mut id, cursor.maybe(Id::quick)),
            "source" => once(&mut source, cursor.maybe(Cursor::text)),
            "system" => once(&mut system, cursor.maybe(Cursor::text)),
            "conversations" => once(&mut messages, cursor.list(message)),
            // Of several lists, the first in `LISTS` is meant.
            "prompt_id" | "conversation" | "messages" => None,
            _ => unread.pass(cursor, key),
        })?;
        Some(Row {
            id: id.flatten().map(String::from),
            source: source.flatten(),
            system: system.flatten(),
            messages: messages?,
        })
    }

    fn slowly(row: &[u8], unread: &mut Unread) -> Result<Row, Reason> {
        let columns = Columns::of(row)?;
        columns.check(&CHECKED, &["system"])?;
        let list = columns.first_of(&LISTS)?.unwrap_or(LISTS[0]);
        let row = Row {
            id: columns.id()?,
            source: columns.source()?,
            system: columns.maybe_text("system")?,
            messages: spoken(&columns, list)?,
        };
        unread.begin();
        unread.add_all(columns.unread());
        Ok(row)
    }
}

/// A message without a flag.
fn message(cursor: &mut Cursor) -> Option<Spoken> {
    let (mut speaker, mut text) = (None, None);
    cursor.object(|cursor, key| match key {
        "from" | "role" => once(&mut speaker, cursor.text()),
        "value" | "content" => once(&mut text, cursor.text()),
        _ => cursor.ignore_or_flag(key, Level::Message).filter(|is_flag| !is_flag).map(drop),
    })?;
    Some(Spoken { speaker: speaker?, text: text?, trained: None })
}

/// The messages of a list.
fn spoken(columns: &Columns<'_>, list: &str) -> Result<Vec<Spoken>, Reason> {
    if let Some(texts) = columns.texts(list)? {
        check_count(texts.len())?;
        let speakers = [USERS[0], ASSISTANTS[0]].into_iter().cycle();
        let messages = texts.into_iter().zip(speakers);
        return Ok(messages
            .map(|(text, speaker)| Spoken { speaker: speaker.to_owned(), text, trained: None })
            .collect());
    }
    let objects = columns.objects(list)?;
    check_count(objects.len())?;
    let read = |message: &Columns<'_>| {
        let (speaker, text) = (either(message, SPEAKERS)?, either(message, TEXTS)?);
        Ok(Spoken { trained: trained(message, &speaker)?, speaker, text })
    };
    objects.iter().map(read).collect()
}

/// Whether a message is trained, if it has a flag.
fn trained(message: &Columns<'_>, speaker: &str) -> Result<Option<bool>, Reason> {
    let mut extras = None;
    for (name, value) in message.members().filter(|(name, _)| is_flag(name, Level::Spoken)) {
        let place = format!("{}{name}", message.path());
        let value = serde_json::from_str(value).map_err(|_| refused(&place, "is not readable"))?;
        add(&mut extras, name, Member::Flag, value).map_err(|why| refused(&place, why))?;
        let is_trained = extras.as_ref().and_then(|extras| extras.trained);
        if is_trained == Some(true) && !ASSISTANTS.contains(&&*speaker.to_ascii_lowercase()) {
            return Err(refused(&place, "only assistant messages are trained; remove it"));
        }
    }
    Ok(extras.and_then(|extras| extras.trained))
}

/// The text of one of two fields; a message that has both says which one is meant nowhere.
fn either(message: &Columns<'_>, [first, second]: [&str; 2]) -> Result<String, Reason> {
    match (message.get(first)?, message.get(second)?) {
        (Some(_), Some(_)) => Err(message.wrong(first, &format!("and `{second}` are both there"))),
        (None, Some(_)) => message.text(second),
        (_, None) => message.text(first),
    }
}

pub(super) fn parse(row: &[u8], unread: &mut Unread) -> Result<Dialogue, Reason> {
    let quick = whole(row_text(row)?, |cursor| Row::quick(cursor, unread));
    let row = quick.map_or_else(|| Row::slowly(row, unread), Ok)?;
    check_count(row.messages.len())?;
    let turns = told(row.messages, &mut unread.role_words)?;
    let turns = with_system(row.system, turns)?;
    Ok(Dialogue {
        id: row.id,
        source: row.source,
        turns,
        replies: Replies::Inline,
        ..Dialogue::default()
    })
}

/// The messages of a list whose speakers may be `human` and `gpt`.
pub(super) fn turns(
    columns: &Columns<'_>,
    list: &str,
    words: &mut RoleWords,
) -> Result<Vec<Turn>, Reason> {
    told(spoken(columns, list)?, words)
}

fn told(messages: Vec<Spoken>, words: &mut RoleWords) -> Result<Vec<Turn>, Reason> {
    messages.into_iter().map(|message| turn(message, words)).collect()
}

fn turn(Spoken { speaker, text, trained }: Spoken, words: &mut RoleWords) -> Result<Turn, Reason> {
    let role = role(&speaker)?;
    words.note(&speaker, role.name());
    // Other messages are not trained in any case.
    let extras = trained
        .filter(|_| role == Role::Assistant)
        .map(|trained| Box::new(Extras { trained: Some(trained), ..Extras::default() }));
    Ok(Turn { role, text, extras })
}

fn role(speaker: &str) -> Result<Role, Reason> {
    let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(speaker));
    if is(&USERS) {
        Ok(Role::User)
    } else if is(&ASSISTANTS) {
        Ok(Role::Assistant)
    } else if is(&["system"]) {
        Ok(Role::System)
    } else if is(&TOOLS) {
        Err(refused(
            "from",
            &format!(
                "messages of `{}` are not read from this shape; write them as `messages` \
                 with `tool_calls`, or as text of the assistant and the user",
                speaker.to_ascii_lowercase()
            ),
        ))
    } else {
        Ok(Role::named(speaker.to_owned()))
    }
}

/// Puts a row's own system prompt before its messages.
pub(super) fn with_system(
    system: Option<String>,
    mut turns: Vec<Turn>,
) -> Result<Vec<Turn>, Reason> {
    let Some(text) = system.filter(|text| !text.is_empty()) else { return Ok(turns) };
    match turns.first() {
        Some(first) if first.role == Role::System && first.text == text => {}
        Some(first) if first.role == Role::System => {
            return Err(not_of_shape("`system` and the first message are two system prompts"));
        }
        _ => turns.insert(0, Turn::new(Role::System, text)),
    }
    Ok(turns)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROWS: [&str; 12] = [
        r#"{"id": "a", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}"#,
        r#"{"id": 7, "source": "s", "system": "be brief", "conversations": [{"role": "user", "content": "q"}]}"#,
        r#"{"system": "", "source": ["x"], "conversations": []}"#,
        r#"{"conversations": [{"from": "human", "value": "\u00e9\n\"", "weight": 1}]}"#,
        r#"{"conversations": [{"from": "human", "role": "user", "value": "q"}]}"#,
        r#"{"conversations": [{"value": "q"}, {"from": null, "role": "gpt", "value": "a"}]}"#,
        r#"{"conversations": [{"from": "gpt", "value": "a", "images": []}], "tools": "[]"}"#,
        r#"{"conversations": null, "conversation": [{"role": "user", "content": "q"}]}"#,
        r#"{"conversations": [], "conversations": [{"from": "gpt", "value": "a"}]}"#,
        r#"{"messages": [{"from": "human", "value": "q"}], "extra": {"deep": [1, {"a": null}]}}"#,
        r#"{"conversations": [{"from": "tool", "value": "a"}], "tools": ""}"#,
        r#"{"prompt_id": 3, "id": null, "conversations": [{"from": "GPT", "value": "a"}]}"#,
    ];
    const PIECES: [&str; 14] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        "\"",
        "null",
        "1",
        "\"system\": \"s\",",
        "\"from\": \"gpt\",",
        "\"value\": \"v\",",
        "\"tools\": [1],",
        "{\"from\": \"human\", \"value\": \"v\"},",
        "\\",
    ];

    /// What is read fast is what is read slowly.
    fn check(row: &str) {
        let [mut of_quick, mut of_slow] = [Unread::default(), Unread::default()];
        if let Some(quick) = whole(row, |cursor| Row::quick(cursor, &mut of_quick)) {
            let slow = Row::slowly(row.as_bytes(), &mut of_slow);
            assert_eq!(of_quick, of_slow, "{row}");
            assert_eq!(slow.map_err(|reason| reason.detail), Ok(quick), "{row}");
        }
    }

    #[test]
    fn plain_rows_are_read_fast() {
        for (row, is_quick) in ROWS.iter().zip([true, true, false, false, false]) {
            assert_eq!(
                whole(row, |cursor| Row::quick(cursor, &mut Unread::default())).is_some(),
                is_quick,
                "{row}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damaged_rows_are_read_fast_as_they_are_read_slowly(
            row in prop::sample::select(&ROWS[..]),
            damage in prop::collection::vec(
                (any::<prop::sample::Index>(), prop::sample::select(&PIECES[..]), 0..3_usize), 0..4,
            ),
        ) {
            let mut row = row.as_bytes().to_vec();
            for (place, piece, taken) in damage {
                let place = place.index(row.len() + 1);
                let end = (place + taken).min(row.len());
                row.splice(place..end, piece.bytes());
            }
            check(&String::from_utf8_lossy(&row));
        }
    }
}
