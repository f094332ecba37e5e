//! What was read by each shape: its rows, and the words in them that stand for roles.

use std::collections::BTreeMap;

use crate::dataset::manifest::RoleWordsEntry;
use crate::read::shape::Shape;
use crate::read::shape::role_words::{RoleWord, WORDS_MAX};

/// The shapes, by name. The words that are listed are the first ones in the order of the rows, so
/// they do not depend on threads.
#[derive(Default)]
pub(super) struct ShapesRead {
    /// Rows by shape.
    pub rows: BTreeMap<String, u64>,
    /// Words by shape.
    pub role_words: BTreeMap<String, RoleWordsEntry>,
}

impl ShapesRead {
    /// Adds the next row, and words for roles that it has.
    pub(super) fn add(&mut self, shape: Option<&Shape>, role_words: Vec<RoleWord>) {
        if let Some(shape) = shape {
            match self.rows.get_mut(shape.name) {
                Some(rows) => *rows += 1,
                None => drop(self.rows.insert(shape.name.to_owned(), 1)),
            }
        }
        for RoleWord { shape, word, role } in role_words {
            let entry = self.role_words.entry(shape.to_owned()).or_default();
            if entry.roles.contains_key(&word) {
                continue;
            }
            if entry.roles.len() == WORDS_MAX {
                entry.has_more = true;
            } else {
                entry.roles.insert(word, role);
            }
        }
    }
}
