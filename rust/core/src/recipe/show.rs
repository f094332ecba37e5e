//! Prints a recipe for a person: every key with its value, sources and paths too.

use super::Recipe;
use crate::error::{Error, Result};

impl Recipe {
    /// Returns the recipe as TOML that reads back as the same recipe.
    ///
    /// [`Recipe::print`] omits the keys that do not change the output, such as `source.hub`. They
    /// are included here, and paths are printed in full.
    pub fn show(&self) -> Result<String> {
        let internal = |error: &dyn std::fmt::Display| {
            Error::Internal(format!("cannot print the recipe: {error}"))
        };
        let mut table = toml::Table::try_from(self).map_err(|error| internal(&error))?;
        let texts = [
            ("source", "hub", self.source.hub.as_deref()),
            ("source", "files", self.source.files.as_deref()),
            ("source", "revision", self.source.revision.as_deref()),
            ("template", "name", Some(self.template.name.as_str())),
            ("tokenize", "tokenizer", self.tokenize.tokenizer.as_deref()),
        ];
        for (section, key, text) in texts {
            put(table.get_mut(section), key, text);
        }
        let sets = table
            .get_mut("decontaminate")
            .and_then(|section| section.get_mut("against"))
            .and_then(toml::Value::as_array_mut);
        for (printed, set) in sets.into_iter().flatten().zip(&self.decontaminate.against) {
            put(Some(printed), "path", set.path.as_deref());
        }
        toml::to_string_pretty(&table).map_err(|error| internal(&error))
    }
}

fn put(section: Option<&mut toml::Value>, key: &str, text: Option<&str>) {
    if let (Some(toml::Value::Table(section)), Some(text)) = (section, text) {
        section.insert(key.to_owned(), text.into());
    }
}
