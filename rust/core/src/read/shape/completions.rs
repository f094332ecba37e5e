//! Raw UltraFeedback: one instruction, up to four completions with aspect ratings and an overall score.

use serde::{Deserialize, Deserializer};

use super::{Id, Malformed, check_count, fields};
use crate::dialogue::{ASPECTS, Dialogue, Replies, Reply, Role, Turn};

#[derive(Deserialize)]
struct Row {
    id: Option<Id>,
    source: Option<String>,
    instruction: String,
    completions: Vec<Completion>,
}

#[derive(Deserialize)]
struct Completion {
    model: Option<String>,
    response: Option<String>,
    annotations: Option<Annotations>,
    #[serde(default, deserialize_with = "score")]
    overall_score: Option<f64>,
    #[serde(default, rename = "fine-grained_score", alias = "fine_grained_score", deserialize_with = "score")]
    fine_grained_score: Option<f64>,
}

#[derive(Default, Deserialize)]
struct Annotations {
    instruction_following: Option<Annotation>,
    honesty: Option<Annotation>,
    truthfulness: Option<Annotation>,
    helpfulness: Option<Annotation>,
}

/// Rationales are skipped unread: they are two thirds of the file.
#[derive(Deserialize)]
struct Annotation {
    #[serde(default, rename = "Rating", deserialize_with = "score")]
    rating: Option<f64>,
}

/// A score as the sources write it: `4`, `4.5`, `"4"`; `"N/A"`, `""` and null are no score.
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
        Written::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Written::Nothing(()) => None,
    })
}

pub(super) fn parse(row: &[u8]) -> Result<Dialogue, Malformed> {
    let row: Row = fields(row)?;
    check_count(row.completions.len())?;
    Ok(Dialogue {
        id: row.id.map(String::from),
        source: row.source,
        turns: vec![Turn { role: Role::User, text: row.instruction }],
        replies: Replies::Scored(row.completions.into_iter().map(reply).collect()),
    })
}

fn reply(completion: Completion) -> Reply {
    let annotations = completion.annotations.unwrap_or_default();
    let aspects: [Option<Annotation>; ASPECTS.len()] =
        [annotations.instruction_following, annotations.honesty, annotations.truthfulness, annotations.helpfulness];
    Reply {
        text: completion.response.unwrap_or_default(),
        model: completion.model,
        overall: completion.overall_score,
        ratings: aspects.map(|annotation| annotation.and_then(|annotation| annotation.rating)),
        fine_grained: completion.fine_grained_score,
    }
}
