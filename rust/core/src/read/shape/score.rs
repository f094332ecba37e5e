//! Scores as sources write them, and the columns that have those of a pair.

use std::fmt;

use serde::Deserializer;
use serde::de::{Error, Visitor};

use super::Cursor;
use super::columns::Columns;
use crate::stage::Reason;

/// The columns that have the scores of a pair, chosen first. The first two that are not both missing
/// count.
pub(super) const COLUMNS: [[&str; 2]; 8] = [
    ["score_chosen", "score_rejected"],
    ["chosen_score", "rejected_score"],
    ["chosen_rating", "rejected_rating"],
    ["chosen-rating", "rejected-rating"],
    ["chosen_avg_rating", "rejected_avg_rating"],
    ["chosen-avg-rating", "rejected-avg-rating"],
    ["rating_chosen", "rating_rejected"],
    ["reward_chosen", "reward_rejected"],
];

/// Texts that say that there is no score, in small letters.
const NO_SCORE: [&str; 7] = ["", "-", "n/a", "na", "nan", "none", "null"];

/// Characters of a wrong score in a message.
const SHOWN_CHARS_MAX: usize = 40;

/// The scores of a pair, chosen first.
pub(super) type Scores = [Option<f64>; 2];

/// The scores of a pair in each of [`COLUMNS`], where they were found.
pub(super) type Found = [[Option<Option<f64>>; 2]; COLUMNS.len()];

/// Which of [`COLUMNS`] a key is.
pub(super) fn column(key: &str) -> Option<(usize, usize)> {
    COLUMNS.iter().enumerate().find_map(|(index, columns)| {
        columns.iter().position(|column| *column == key).map(|side| (index, side))
    })
}

/// The scores that count.
pub(super) fn first(found: Found) -> Scores {
    let scores = found.into_iter().map(|pair| pair.map(Option::flatten));
    scores.into_iter().find(|pair| pair.iter().any(Option::is_some)).unwrap_or_default()
}

/// The scores of a row's pair.
pub(super) fn of(columns: &Columns<'_>) -> Result<Scores, Reason> {
    for [chosen, rejected] in COLUMNS {
        let scores = [columns.maybe_number(chosen)?, columns.maybe_number(rejected)?];
        if scores.iter().any(Option::is_some) {
            return Ok(scores);
        }
    }
    Ok(Scores::default())
}

/// A score as the sources write it: `4`, `4.5`, `"4"`; null and the texts of [`NO_SCORE`] are no
/// score, and any other text is an error.
pub(super) fn score<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    deserializer.deserialize_any(Score)
}

struct Score;

impl Visitor<'_> for Score {
    type Value = Option<f64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number")
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number as f64))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        written(text).map_err(E::custom)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// The score that a text says, or what is wrong with it.
pub(super) fn written(text: &str) -> Result<Option<f64>, String> {
    let text = text.trim();
    match text.parse().ok().filter(|number: &f64| number.is_finite()) {
        Some(number) => Ok(Some(number)),
        None if NO_SCORE.iter().any(|none| none.eq_ignore_ascii_case(text)) => Ok(None),
        None => {
            let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            Err(format!("is the text `{shown}`, expected a number or `N/A`"))
        }
    }
}

/// A score, or `Some(None)` where the source says that there is none.
pub(super) fn quick(cursor: &mut Cursor) -> Option<Option<f64>> {
    match cursor.peek()? {
        b'"' => cursor.borrowed_text().and_then(|text| written(&text).ok()),
        _ => cursor.maybe(Cursor::float),
    }
}
