//! Reads rows with serde_json only. The fast reader must return the same results, including errors.

use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use zephyr_core::dialogue::{Dialogue, Pair, Replies, Reply, Role, Turn};

use super::fields::{OF_ANSWER, OF_MESSAGE, flag_of_last, lost_field, raw, says};
use super::message::{Column, Message, inputs};

/// A dialogue, or the code and the words of the refusal.
pub type Read = Result<Dialogue, (&'static str, String)>;

/// Reads a row of the shape of that name, if there is a slow reader of it.
pub fn parse(shape: &str, row: &[u8]) -> Option<Read> {
    Some(match shape {
        "alternating" => alternating(row),
        "messages" => messages(row),
        "pair" => pair(row),
        "completions" => completions(row),
        _ => return None,
    })
}

fn lost(field: &str) -> (&'static str, String) {
    ("unsupported_field", format!("`{field}`"))
}

fn fields<'row, T: Deserialize<'row>>(
    row: &'row [u8],
    lists: &[&str],
    of_element: &str,
    has_inputs: bool,
) -> Result<T, (&'static str, String)> {
    let text = std::str::from_utf8(row).map_err(|error| {
        ("invalid_utf8", format!("not UTF-8 at byte {} of the row", error.valid_up_to()))
    })?;
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for letter in text.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            '[' | '{' if !in_text => depth += 1,
            ']' | '}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > 64 {
        return Err(("too_deep", format!("arrays and objects {deepest} deep; at most 64")));
    }
    let malformed = |error: serde_json::Error| {
        (if error.is_data() { "invalid_row" } else { "invalid_json" }, error.to_string())
    };
    if !text.trim_ascii_start().starts_with('{') {
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(malformed)?;
        let is_list = text.trim_ascii_start().starts_with('[');
        let told = if is_list {
            "is a list, not an object (in a table, the row has more or fewer cells than the header)"
        } else {
            "not a JSON object"
        };
        return Err(("invalid_row", told.to_owned()));
    }
    if let Some(field) = lost_field(text, lists, of_element, has_inputs) {
        return Err(lost(&field));
    }
    serde_json::from_str(text).map_err(|error| {
        let broken = serde_json::from_str::<serde_json::Value>(text).err();
        broken.map_or_else(
            || ("invalid_row", error.to_string()),
            |broken| ("invalid_json", broken.to_string()),
        )
    })
}

fn check_count(messages: usize) -> Result<(), (&'static str, String)> {
    if messages > 1024 {
        Err(("too_many_messages", format!("{messages} messages in one row; at most 1024")))
    } else {
        Ok(())
    }
}

/// A value that must be an object. An array of its fields is rejected.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Only<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Only<T> {
            type Value = Object<T>;
            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Only(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(serde_json::Number),
}

impl Id {
    fn text(self) -> String {
        match self {
            Id::Text(text) => text,
            Id::Number(number) => number.to_string(),
        }
    }
}

fn turns(messages: Vec<Object<Message>>) -> Result<Vec<Turn>, (&'static str, String)> {
    check_count(messages.len())?;
    Ok(messages.into_iter().map(|message| message.0.turn()).collect())
}

fn alternating(row: &[u8]) -> Read {
    #[derive(Deserialize)]
    struct Row {
        id: Option<Id>,
        data: Vec<String>,
    }
    let row: Row = fields(row, &[], "", false)?;
    check_count(row.data.len())?;
    let speakers = [Role::User, Role::Assistant].into_iter().cycle();
    let turns =
        row.data.into_iter().zip(speakers).map(|(text, role)| Turn::new(role, text)).collect();
    Ok(Dialogue { id: row.id.map(Id::text), turns, ..Dialogue::default() })
}

fn messages(row: &[u8]) -> Read {
    #[derive(Deserialize)]
    struct Row<'row> {
        id: Option<Id>,
        prompt_id: Option<Id>,
        source: Option<String>,
        #[serde(borrow)]
        prompt: Option<&'row RawValue>,
        messages: Vec<Object<Message>>,
        #[serde(default, borrow)]
        tools: Column<'row>,
        #[serde(default, borrow)]
        chat_template_kwargs: Column<'row>,
    }
    let row: Row = fields(row, &["messages", "prompt"], OF_MESSAGE, true)?;
    let turns = turns(row.messages)?;
    let prompt = row.prompt.filter(|prompt| prompt.get().starts_with('[') && says(prompt));
    if let Some(prompt) = prompt {
        let asked = raw::<Vec<Object<Message>>>(prompt).ok_or_else(|| lost("prompt"))?;
        if !turns.starts_with(&self::turns(asked)?) {
            return Err(lost("prompt"));
        }
    }
    let id = row.id.or(row.prompt_id).map(Id::text);
    let inputs = inputs(row.tools, row.chat_template_kwargs);
    Ok(Dialogue { id, source: row.source, turns, inputs, ..Dialogue::default() })
}

fn pair(bytes: &[u8]) -> Read {
    #[derive(Deserialize)]
    struct Row<'row> {
        id: Option<Id>,
        prompt_id: Option<Id>,
        source: Option<String>,
        #[serde(borrow)]
        prompt: Option<&'row RawValue>,
        chosen: Vec<Object<Message>>,
        rejected: Vec<Object<Message>>,
        #[serde(default, deserialize_with = "score")]
        score_chosen: Option<f64>,
        #[serde(default, deserialize_with = "score")]
        score_rejected: Option<f64>,
        #[serde(default, deserialize_with = "score")]
        chosen_rating: Option<f64>,
        #[serde(default, deserialize_with = "score")]
        rejected_rating: Option<f64>,
        #[serde(default, borrow)]
        tools: Column<'row>,
        #[serde(default, borrow)]
        chat_template_kwargs: Column<'row>,
    }
    let split = |messages: Vec<Object<Message>>, field: &str| {
        let mut turns = turns(messages)?;
        let last = turns.last().filter(|turn| turn.role == Role::Assistant);
        let place = turns.len().saturating_sub(1);
        if let Some(extras) = last.and_then(|last| last.extras.as_deref()) {
            if extras.trained == Some(false) {
                let text = std::str::from_utf8(bytes).unwrap_or_default();
                let key = flag_of_last(text, field).unwrap_or_default();
                return Err(lost(&format!("{field}[{place}].{key}")));
            }
            let key = extras.members.keys().next().map_or("content", String::as_str);
            if extras.says_more() {
                return Err(lost(&format!("{field}[{place}].{key}")));
            }
        }
        match turns.pop() {
            Some(Turn { role: Role::Assistant, text, .. }) => Ok((turns, text)),
            Some(turn) => Err((
                "invalid_row",
                format!(
                    "`{field}` ends with a message of role `{}`, not `assistant`",
                    turn.role.name()
                ),
            )),
            None => Err(("invalid_row", format!("`{field}` has no messages"))),
        }
    };
    let row: Row = fields(bytes, &["prompt", "chosen", "rejected"], OF_MESSAGE, true)?;
    let (turns, chosen) = split(row.chosen, "chosen")?;
    let (others, rejected) = split(row.rejected, "rejected")?;
    if turns != others {
        return Err((
            "multi_message_completion",
            "`chosen` and `rejected` differ before their last message".to_owned(),
        ));
    }
    let turns = match row.prompt.filter(|prompt| says(prompt)) {
        Some(prompt) if prompt.get().starts_with('[') => {
            let asked: Vec<Object<Message>> = serde_json::from_str(prompt.get())
                .map_err(|error| ("invalid_row", format!("`prompt`: {error}")))?;
            let asked = self::turns(asked)?;
            match turns.is_empty() {
                true => asked,
                false if turns.starts_with(&asked) => turns,
                false => return Err(lost("prompt")),
            }
        }
        Some(prompt) => {
            let asked = raw::<String>(prompt).ok_or_else(|| lost("prompt"))?;
            let mut questions = turns.iter().filter(|turn| turn.role == Role::User);
            if !questions.any(|question| question.text.trim() == asked.trim()) {
                return Err(lost("prompt"));
            }
            turns
        }
        None => turns,
    };
    let (score_chosen, score_rejected) = match (row.score_chosen, row.score_rejected) {
        (None, None) => (row.chosen_rating, row.rejected_rating),
        scores => scores,
    };
    let pair = Pair { chosen, rejected, score_chosen, score_rejected };
    Ok(Dialogue {
        id: row.id.or(row.prompt_id).map(Id::text),
        source: row.source,
        turns,
        replies: Replies::Pair(pair),
        inputs: inputs(row.tools, row.chat_template_kwargs),
    })
}

fn completions(row: &[u8]) -> Read {
    #[derive(Deserialize)]
    struct Row {
        id: Option<Id>,
        source: Option<String>,
        instruction: String,
        completions: Vec<Object<Completion>>,
    }
    let row: Row = fields(row, &["completions"], OF_ANSWER, false)?;
    check_count(row.completions.len())?;
    Ok(Dialogue {
        id: row.id.map(Id::text),
        source: row.source,
        turns: vec![Turn::new(Role::User, row.instruction)],
        replies: Replies::Scored(
            row.completions.into_iter().map(|completion| reply(completion.0)).collect(),
        ),
        ..Dialogue::default()
    })
}

#[derive(Deserialize)]
struct Completion {
    model: Option<String>,
    response: Option<String>,
    annotations: Option<Object<Annotations>>,
    #[serde(default, deserialize_with = "score")]
    overall_score: Option<f64>,
    #[serde(
        default,
        rename = "fine-grained_score",
        alias = "fine_grained_score",
        deserialize_with = "score"
    )]
    fine_grained_score: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    instruction_following: Option<Object<Annotation>>,
    honesty: Option<Object<Annotation>>,
    truthfulness: Option<Object<Annotation>>,
    helpfulness: Option<Object<Annotation>>,
}

#[derive(Deserialize)]
struct Annotation {
    #[serde(default, rename = "Rating", deserialize_with = "score")]
    rating: Option<f64>,
}

fn score<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(f64),
        Text(String),
        Nothing(()),
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Number(number) => Some(number),
        Written::Text(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Some(number),
            _ => match text.trim().to_lowercase().as_str() {
                "" | "-" | "n/a" | "na" | "nan" | "none" | "null" => None,
                _ => return Err(serde::de::Error::custom("neither a score nor none")),
            },
        },
        Written::Nothing(()) => None,
    })
}

fn reply(completion: Completion) -> Reply {
    let annotations = completion.annotations.map(|annotations| annotations.0).unwrap_or_default();
    let aspects = [
        annotations.instruction_following,
        annotations.honesty,
        annotations.truthfulness,
        annotations.helpfulness,
    ];
    Reply {
        text: completion.response.unwrap_or_default(),
        model: completion.model,
        overall: completion.overall_score,
        ratings: aspects.map(|annotation| annotation.and_then(|annotation| annotation.0.rating)),
        fine_grained: completion.fine_grained_score,
    }
}
