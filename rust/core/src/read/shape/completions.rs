//! Raw UltraFeedback: one instruction, up to four completions with aspect ratings and an overall
//! score.

use serde::Deserialize;

use super::unread::Unread;
use super::{Cursor, Id, Kind, Level, Wanted, check_count, fields, object, once, score};
use crate::dialogue::{ASPECTS, Dialogue, Replies, Reply, Role, Turn};
use crate::stage::Reason;

#[derive(Deserialize)]
struct Row {
    id: Option<Id>,
    source: Option<String>,
    instruction: String,
    #[serde(deserialize_with = "object::list")]
    completions: Vec<Completion>,
}

#[derive(Deserialize)]
struct Completion {
    model: Option<String>,
    response: Option<String>,
    #[serde(default, deserialize_with = "object::maybe")]
    annotations: Option<Annotations>,
    #[serde(default, deserialize_with = "score::score")]
    overall_score: Option<f64>,
    #[serde(
        default,
        rename = "fine-grained_score",
        alias = "fine_grained_score",
        deserialize_with = "score::score"
    )]
    fine_grained_score: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    #[serde(default, deserialize_with = "object::maybe")]
    instruction_following: Option<Annotation>,
    #[serde(default, deserialize_with = "object::maybe")]
    honesty: Option<Annotation>,
    #[serde(default, deserialize_with = "object::maybe")]
    truthfulness: Option<Annotation>,
    #[serde(default, deserialize_with = "object::maybe")]
    helpfulness: Option<Annotation>,
}

/// Rationales are skipped unread: they are two thirds of the file.
#[derive(Deserialize)]
struct Annotation {
    #[serde(default, rename = "Rating", deserialize_with = "score::score")]
    rating: Option<f64>,
}

impl Row {
    fn quick(cursor: &mut Cursor, unread: &mut Unread) -> Option<Row> {
        let (mut id, mut source, mut instruction, mut completions) = (None, None, None, None);
        cursor.object(|cursor, key| match key {
            "id" => once(&mut id, cursor.maybe(Id::quick)),
            "source" => once(&mut source, cursor.maybe(Cursor::text)),
            "instruction" => once(&mut instruction, cursor.text()),
            "completions" => once(&mut completions, cursor.list(Completion::quick)),
            _ => unread.pass(cursor, key),
        })?;
        Some(Row {
            id: id.flatten(),
            source: source.flatten(),
            instruction: instruction?,
            completions: completions?,
        })
    }
}

impl Completion {
    fn quick(cursor: &mut Cursor) -> Option<Completion> {
        let (mut model, mut response, mut annotations, mut overall, mut fine_grained) =
            (None, None, None, None, None);
        cursor.object(|cursor, key| match key {
            "model" => once(&mut model, cursor.maybe(Cursor::text)),
            "response" => once(&mut response, cursor.maybe(Cursor::text)),
            "annotations" => once(&mut annotations, cursor.maybe(Annotations::quick)),
            "overall_score" => once(&mut overall, score::quick(cursor)),
            "fine-grained_score" | "fine_grained_score" => {
                once(&mut fine_grained, score::quick(cursor))
            }
            _ => cursor.ignore(key, Level::Answer),
        })?;
        Some(Completion {
            model: model.flatten(),
            response: response.flatten(),
            annotations: annotations.flatten(),
            overall_score: overall.flatten(),
            fine_grained_score: fine_grained.flatten(),
        })
    }
}

impl Annotations {
    fn quick(cursor: &mut Cursor) -> Option<Annotations> {
        let mut aspects = ASPECTS.map(|_| None);
        cursor.object(|cursor, key| match ASPECTS.iter().position(|aspect| *aspect == key) {
            Some(aspect) => once(&mut aspects[aspect], cursor.maybe(Annotation::quick)),
            None => cursor.skip(),
        })?;
        let [instruction_following, honesty, truthfulness, helpfulness] =
            aspects.map(Option::flatten);
        Some(Annotations { instruction_following, honesty, truthfulness, helpfulness })
    }
}

impl Annotation {
    fn quick(cursor: &mut Cursor) -> Option<Annotation> {
        let mut rating = None;
        cursor.object(|cursor, key| {
            if key == "Rating" { once(&mut rating, score::quick(cursor)) } else { cursor.skip() }
        })?;
        Some(Annotation { rating: rating.flatten() })
    }
}

const WANTED: Wanted = Wanted {
    kind: Kind::WithoutInputs,
    lists: &[("completions", Level::Answer)],
    is_read: |name, _| matches!(name, "id" | "source" | "instruction" | "completions"),
};

pub(super) fn parse(row: &[u8], unread: &mut Unread) -> Result<Dialogue, Reason> {
    let row: Row = fields(row, &WANTED, unread, Row::quick)?;
    check_count(row.completions.len())?;
    Ok(Dialogue {
        id: row.id.map(String::from),
        source: row.source,
        turns: vec![Turn::new(Role::User, row.instruction)],
        replies: Replies::Scored(row.completions.into_iter().map(reply).collect()),
        ..Dialogue::default()
    })
}

fn reply(completion: Completion) -> Reply {
    let annotations = completion.annotations.unwrap_or_default();
    let aspects: [Option<Annotation>; ASPECTS.len()] = [
        annotations.instruction_following,
        annotations.honesty,
        annotations.truthfulness,
        annotations.helpfulness,
    ];
    Reply {
        text: completion.response.unwrap_or_default(),
        model: completion.model,
        overall: completion.overall_score,
        ratings: aspects.map(|annotation| annotation.and_then(|annotation| annotation.rating)),
        fine_grained: completion.fine_grained_score,
    }
}
