//! Every list of names that a user may type or read, for those who ask by its kind: no other place keeps a copy.

use crate::dataset::product::Product;
use crate::dedup::Repeat;
use crate::encode;
use crate::error::{Error, Result};
use crate::filter;
use crate::read::{self, shape};
use crate::recipe::{Action, Compared, IdFrom, Policy, Preset, ScoreBy, Strategy, TrainOn};
use crate::stage::Code;

/// Gives a list.
type List = fn() -> Vec<&'static str>;

/// The lists, by kind.
const LISTS: [(&str, List); 16] = [
    ("actions", || Action::NAMES.to_vec()),
    ("commands", || Product::ALL.map(Product::command).to_vec()),
    ("compared", || Compared::NAMES.to_vec()),
    ("control_tokens", || Policy::NAMES.to_vec()),
    ("endings", read::endings),
    ("filters", filter::names),
    ("id_from", || IdFrom::NAMES.to_vec()),
    ("presets", || Preset::NAMES.to_vec()),
    ("products", || Product::ALL.map(Product::word).to_vec()),
    ("reasons", || Code::ALL.iter().map(|code| code.word()).collect()),
    ("repeats", || Repeat::KINDS.to_vec()),
    ("scores", || ScoreBy::NAMES.to_vec()),
    ("shapes", shape::names),
    ("strategies", || Strategy::NAMES.to_vec()),
    ("templates", encode::template_names),
    ("train_on", || TrainOn::NAMES.to_vec()),
];

/// The names of one kind.
pub fn names(kind: &str) -> Result<Vec<&'static str>> {
    let list = LISTS.iter().find(|(known, _)| *known == kind);
    let kinds = || LISTS.map(|(kind, _)| kind).join(", ");
    list.map(|(_, names)| names()).ok_or_else(|| Error::Recipe(format!("no list of `{kind}`; there are: {}", kinds())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_has_names_and_none_twice() {
        for (kind, list) in LISTS {
            let mut names = list();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert!(count > 0 && names.len() == count, "{kind}");
        }
        assert!(names("colours").is_err());
    }
}
