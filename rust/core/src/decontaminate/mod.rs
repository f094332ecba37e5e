//! Finds dialogues that overlap evaluation sets: user messages that share most of an instance's
//! 8-grams with it.
//!
//! The rule is that of Tulu 3 (arXiv 2411.15124 §3.2): an instance matches a row if more than half
//! of its words are in 8-grams that it shares with the row's user messages. An instance with fewer
//! than eight words has no 8-gram. It matches a user message with the same text, ignoring case and
//! white space. A row that matches any instance of any set is contaminated.
//!
//! The index contains only the evaluation sets and is read-only, so any thread can search it. Rows
//! are checked before deduplication: a contaminated row must not replace its clean near duplicates,
//! and the result for a row must not depend on the rows before it.

mod grams;
mod search;
mod sets;
mod sums;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128;

use crate::dataset::ledger::Contamination;
use crate::error::Result;
use crate::normal::normalised;
use crate::progress::Watch;
use crate::recipe::Decontaminate;
use crate::stage::{Found, Match, Span};
use crate::words::{each_word, runs};
use grams::Grams;

pub use sets::EvaluationSet;
pub use sums::Sums;

/// The version of the rule.
pub const VERSION: u32 = 1;
/// Words of an n-gram.
pub const WORDS: usize = 8;
/// Tulu 3 calls an evaluation set contaminated if at least this share of its instances matches.
pub const SHARE_MAX: f64 = 0.02;
/// Maximum number of spans of a row that the ledger lists. All matches are counted.
pub const SPANS_MAX: usize = 64;

/// All evaluation sets, ready for searching. Grams are compared by 64-bit hashes. With a billion
/// words and an index of a million grams, one false hit is expected in 18,000 runs, and it covers
/// only eight words.
pub struct Index {
    sets: Vec<EvaluationSet>,
    instances: Vec<Instance>,
    grams: Grams,
    /// By the hash of the normal form, the index in `sayings` of the instances with this text.
    whole: HashMap<u128, u32>,
    sayings: Vec<Vec<u32>>,
    threshold: f64,
}

/// One text of a set.
struct Instance {
    set: u32,
    row: i32,
    part: i32,
    words: u32,
    /// Its index in `sayings`.
    saying: u32,
}

impl Index {
    /// Reads the evaluation sets of a recipe. Returns `None` if it has none.
    pub fn load(recipe: &Decontaminate, watch: &Watch) -> Result<Option<Index>> {
        if recipe.against.is_empty() {
            return Ok(None);
        }
        let mut index = Index {
            sets: Vec::new(),
            instances: Vec::new(),
            grams: Grams::default(),
            whole: HashMap::new(),
            sayings: Vec::new(),
            threshold: recipe.threshold,
        };
        let mut room = sets::Room::default();
        for against in &recipe.against {
            let (set, texts) = sets::read(against, &mut room, watch)?;
            for text in texts {
                index.add(&text);
            }
            index.sets.push(set);
            watch.check()?;
        }
        index.grams.arrange(&index.instances, recipe.threshold);
        Ok(Some(index))
    }

    /// Adds an instance of the current set.
    fn add(&mut self, text: &sets::Text) {
        let number = self.instances.len() as u32;
        let mut hashes = Vec::new();
        each_word(&text.text, |hash, _| hashes.push(hash));
        self.grams.add(runs::<WORDS>(&hashes));
        let next = self.sayings.len() as u32;
        let saying = *self.whole.entry(hash_whole(&text.text)).or_insert(next);
        if saying == next {
            self.sayings.push(Vec::new());
        }
        self.sayings[saying as usize].push(number);
        let (set, words) = (self.sets.len() as u32, hashes.len() as u32);
        self.instances.push(Instance {
            set,
            row: text.row as i32,
            part: text.part as i32,
            words,
            saying,
        });
    }

    /// The sets, in the recipe's order.
    #[must_use]
    pub fn sets(&self) -> &[EvaluationSet] {
        &self.sets
    }

    /// The names of the sets in which instances were found.
    #[must_use]
    pub fn names(&self, found: &Found) -> String {
        found
            .sets
            .iter()
            .map(|(set, _)| self.sets[*set as usize].name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Returns matches in the ledger's format, one entry per span.
    #[must_use]
    pub fn lines(&self, found: &Found) -> Vec<Contamination> {
        let line = |found: &Match, span: &Span| {
            let instance = &self.instances[found.instance as usize];
            Contamination {
                set: self.sets[instance.set as usize].name.clone(),
                instance: instance.row,
                part: instance.part,
                // A text without a word can only be matched whole.
                overlap: if instance.words == 0 {
                    1.0
                } else {
                    f64::from(found.shared_words) / f64::from(instance.words)
                },
                turn: span.turn as i32,
                start: span.start as i32,
                end: span.end as i32,
            }
        };
        found
            .matches
            .iter()
            .flat_map(|found| found.spans.iter().map(move |span| line(found, span)))
            .collect()
    }

    /// Whether this number of an instance's words exceeds the threshold.
    fn is_match(&self, instance: u32, words: u32) -> bool {
        f64::from(words) > self.threshold * f64::from(self.instances[instance as usize].words)
    }
}

fn hash_whole(text: &str) -> u128 {
    xxh3_128(normalised(text).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::{Dialogue, Role, Turn};
    use crate::recipe::Against;

    fn index(texts: &[&str], threshold: f64) -> Index {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("set.json");
        std::fs::write(&path, serde_json::json!([{ "q": texts }]).to_string()).expect("writes");
        let against = Against {
            name: "set".to_owned(),
            path: Some(path.to_string_lossy().into_owned()),
            field: "q".to_owned(),
        };
        let recipe =
            Decontaminate { threshold, against: vec![against], ..Decontaminate::default() };
        Index::load(&recipe, &Watch::default()).expect("reads").expect("has a set")
    }

    fn dialogue(turns: &[&str]) -> Dialogue {
        let roles = [Role::User, Role::Assistant].into_iter().cycle();
        let turns = turns.iter().zip(roles).map(|(text, role)| Turn::new(role, *text)).collect();
        Dialogue { turns, ..Dialogue::default() }
    }

    fn numbers(from: u32, to: u32) -> String {
        (from..to).map(|number| format!("w{number} ")).collect()
    }

    #[test]
    fn an_instance_matches_from_more_than_half_of_its_words_in_shared_grams() {
        let index = index(&[&numbers(0, 20)], 0.5);
        assert!(
            index.find(&dialogue(&[&numbers(0, 10)])).is_empty(),
            "ten of twenty are not more than half"
        );
        let matches =
            index.find(&dialogue(&[&format!("so: {}!", numbers(5, 16).to_uppercase())])).matches;
        assert_eq!((matches[0].shared_words, matches[0].exact), (11, false));
        assert!(
            index.find(&dialogue(&[&numbers(0, 7), &numbers(0, 20), &numbers(7, 14)])).is_empty(),
            "no gram spans turns; answers do not count"
        );
    }

    #[test]
    fn shared_words_of_several_turns_add_up_and_each_run_is_a_span() {
        let index = index(&[&numbers(0, 20)], 0.5);
        let row = dialogue(&[
            &format!("é {}", numbers(0, 8)),
            "yes",
            &format!("{}and {}", numbers(0, 8), numbers(12, 20)),
        ]);
        let found = index.find(&row);
        assert_eq!(found.matches[0].shared_words, 16);
        let lines = index.lines(&found);
        let spans: Vec<_> = lines.iter().map(|line| (line.turn, line.start, line.end)).collect();
        assert_eq!(spans, [(0, 2, 25), (2, 0, 23), (2, 28, 59)]);
        assert!((lines[0].overlap - 0.8).abs() < 1e-12);
    }

    #[test]
    fn a_short_instance_matches_only_a_turn_that_says_the_same() {
        let index = index(&["Who are  you?", "¿?"], 0.5);
        assert!(index.find(&dialogue(&["Who are you, stranger?"])).is_empty());
        let matches = index.find(&dialogue(&["hello", "yes", "who are\nyou?"])).matches;
        assert_eq!(
            matches,
            [Match {
                instance: 0,
                shared_words: 3,
                exact: true,
                spans: vec![Span { turn: 2, start: 0, end: 12 }]
            }]
        );
        assert_eq!(index.find(&dialogue(&["¿?"])).matches.len(), 1);
    }

    #[test]
    fn a_gram_that_an_instance_repeats_counts_at_each_of_its_places() {
        let twice = format!("{}then {}", numbers(0, 9), numbers(0, 9));
        let matches = index(&[&twice], 0.5).find(&dialogue(&[&numbers(0, 9)])).matches;
        assert_eq!(matches[0].shared_words, 18);
    }
}
