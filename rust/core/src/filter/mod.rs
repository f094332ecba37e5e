//! Filters: stages that keep or drop dialogues. To add one, add a file here, and its lines in
//! [`FILTERS`] and, in the same order, in `schemas`.
//!
//! Filters run before pairs are formed. For rows with completions, a filter treats each completion
//! as the assistant message that ends the dialogue: see [`Dialogue::said_by_assistant`] and
//! [`Dialogue::answers`].
//!
//! [`Dialogue::answers`]: crate::dialogue::Dialogue::answers
//! [`Dialogue::said_by_assistant`]: crate::dialogue::Dialogue::said_by_assistant

mod length;
mod phrases;
mod structure;

use crate::error::{Error, Result};
use crate::stage::Stage;

/// The version of all filters' rules.
pub const VERSION: u32 = 4;

/// Builds a filter from its table in the recipe.
type Build = fn(toml::Table) -> std::result::Result<Box<dyn Stage>, toml::de::Error>;

/// All filters, by the `kind` they have in recipes.
pub const FILTERS: [(&str, Build); 3] =
    [("structure", structure::build), ("length", length::build), ("phrases", phrases::build)];

/// The keys of each filter as JSON Schema, in the order of [`FILTERS`].
#[cfg(test)]
pub(crate) fn schemas() -> Vec<schemars::Schema> {
    vec![
        schemars::schema_for!(structure::Structure),
        schemars::schema_for!(length::Length),
        schemars::schema_for!(phrases::Keys),
    ]
}

/// The names of all filters.
#[must_use]
pub fn names() -> Vec<&'static str> {
    FILTERS.iter().map(|(name, _)| *name).collect()
}

/// Whether a `[[filter]]` table truncates dialogues. Completions could then follow a removed
/// question.
#[must_use]
pub fn cuts_turns(table: &toml::Table) -> bool {
    phrases::cuts_turns(table)
}

/// The filter that a recipe's `[[filter]]` table describes.
pub fn build(mut table: toml::Table) -> Result<Box<dyn Stage>> {
    let kind = match table.remove("kind") {
        Some(toml::Value::String(kind)) => kind,
        _ => return Err(Error::Config("every [[filter]] needs a `kind`".to_owned())),
    };
    let (_, build) = FILTERS.into_iter().find(|(name, _)| *name == kind).ok_or_else(|| {
        Error::Config(format!("unknown filter `{kind}`; expected one of: {}", names().join(", ")))
    })?;
    build(table).map_err(|error| Error::Config(format!("filter `{kind}`: {}", error.message())))
}
