//! Finds dialogues that give away evaluation sets: user turns that share most of an instance's 8-grams with it.
//!
//! The rule is Tulu 3's (arXiv 2411.15124 §3.2): an instance matches a row if more than half of its words lie in 8-grams that it
//! shares with that one row's user turns. An instance shorter than eight words has no 8-gram; it matches a user turn that says
//! the same, case and white space folded. A row that matches any instance of any set is contaminated.
//!
//! The index holds the evaluation sets alone and is read-only, so any thread may ask it. Rows are checked before they are signed
//! for dedup: a row dropped here must not stand for its clean near-duplicates, and what is found in a row must not depend on the
//! rows before it.

mod sets;
mod sums;

use std::ops::Range;

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128;

use crate::dialogue::{Dialogue, Role};
use crate::error::Result;
use crate::ledger::Contamination;
use crate::recipe::Decontaminate;
use crate::text::normalised;
use crate::words::{each_word, runs};

pub use sets::EvaluationSet;
pub use sums::Sums;

/// The version of the rule.
pub const VERSION: u32 = 1;
/// Words of an n-gram.
pub const WORDS: usize = 8;
/// From this share of matched instances on, Tulu 3 calls a whole evaluation set contaminated.
pub const SHARE_MAX: f64 = 0.02;

/// All evaluation sets, ready to be searched for. Grams are compared by 64-bit hashes: among a billion words and an index of a
/// million grams, one false hit is to be expected in 18,000 runs, and it alone covers eight words.
pub struct Index {
    sets: Vec<EvaluationSet>,
    instances: Vec<Instance>,
    /// By a gram's hash: its run of `places`.
    grams: HashMap<u64, Range<u32>>,
    places: Vec<Place>,
    /// By the hash of the normal form: the instances that say this.
    whole: HashMap<u128, Vec<u32>>,
    threshold: f64,
}

/// One text of a set.
struct Instance {
    set: u32,
    row: i32,
    part: i32,
    words: u32,
}

/// Where a gram stands: in which instance, at which word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    instance: u32,
    word: u32,
}

/// An instance that was found in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Its number in the index.
    pub instance: u32,
    /// Its words that lie in shared grams; all, where it is short.
    pub shared_words: u32,
    /// Whether one user turn says just this, case and white space folded.
    pub exact: bool,
    /// Where: the longest runs of shared words.
    pub spans: Vec<Span>,
}

/// A part of a user turn, in characters, as Python counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The turn's place in the dialogue.
    pub turn: u32,
    /// Its first character.
    pub start: u32,
    /// The character behind its last.
    pub end: u32,
}

/// A gram of a user turn that an instance has too; sorted by instance and the instance's word first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    place: Place,
    turn: u32,
    /// The turn's word that starts the gram.
    word: u32,
    /// Its first byte in the turn.
    start: u32,
    /// The byte behind its last.
    end: u32,
}

impl Index {
    /// Reads the evaluation sets of a recipe; `None` where it names none.
    pub fn load(recipe: &Decontaminate) -> Result<Option<Index>> {
        if recipe.against.is_empty() {
            return Ok(None);
        }
        let mut index = Index {
            sets: Vec::new(),
            instances: Vec::new(),
            grams: HashMap::new(),
            places: Vec::new(),
            whole: HashMap::new(),
            threshold: recipe.threshold,
        };
        let mut grams: Vec<(u64, Place)> = Vec::new();
        for against in &recipe.against {
            let (set, texts) = sets::read(against)?;
            for text in texts {
                index.add(text, &mut grams);
            }
            index.sets.push(set);
        }
        grams.sort_unstable();
        for run in grams.chunk_by(|a, b| a.0 == b.0) {
            let start = index.places.len() as u32;
            index.places.extend(run.iter().map(|(_, place)| *place));
            index.grams.insert(run[0].0, start..index.places.len() as u32);
        }
        Ok(Some(index))
    }

    /// Adds an instance of the set that is being read.
    fn add(&mut self, text: sets::Text, grams: &mut Vec<(u64, Place)>) {
        let number = self.instances.len() as u32;
        let mut hashes = Vec::new();
        each_word(&text.text, |hash, _| hashes.push(hash));
        let at = |word| Place { instance: number, word };
        grams.extend(runs::<WORDS>(&hashes).zip(0..).map(|(gram, word)| (gram, at(word))));
        self.whole.entry(hash_whole(&text.text)).or_default().push(number);
        self.instances.push(Instance {
            set: self.sets.len() as u32,
            row: text.row as i32,
            part: text.part as i32,
            words: hashes.len() as u32,
        });
    }

    /// The sets, in the recipe's order.
    #[must_use]
    pub fn sets(&self) -> &[EvaluationSet] {
        &self.sets
    }

    /// The place, among [`Index::sets`], of the set that an instance is of.
    fn set_of(&self, found: &Match) -> usize {
        self.instances[found.instance as usize].set as usize
    }

    /// The names of the sets in which instances were found.
    #[must_use]
    pub fn names(&self, matches: &[Match]) -> String {
        let of_sets = matches.chunk_by(|a, b| self.set_of(a) == self.set_of(b));
        of_sets.map(|of_set| self.sets[self.set_of(&of_set[0])].name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// All instances that a dialogue's user turns match, in the order of the index.
    #[must_use]
    pub fn find(&self, dialogue: &Dialogue) -> Vec<Match> {
        let (mut hits, mut wholes) = (Vec::new(), Vec::new());
        for (turn, said) in (0..).zip(&dialogue.turns).filter(|(_, said)| said.role == Role::User) {
            self.hits(turn, &said.text, &mut hits);
            let span = Span { turn, start: 0, end: said.text.chars().count() as u32 };
            let same = self.whole.get(&hash_whole(&said.text));
            wholes.extend(same.into_iter().flatten().map(|instance| (*instance, span)));
        }
        hits.sort_unstable();
        let mut matches: Vec<Match> =
            hits.chunk_by(|a, b| a.place.instance == b.place.instance).filter_map(|hits| self.judge(hits, dialogue)).collect();
        for (instance, span) in wholes {
            match matches.iter_mut().find(|found| found.instance == instance) {
                Some(found) => found.exact = true,
                None => {
                    matches.push(Match { instance, shared_words: self.instances[instance as usize].words, exact: true, spans: vec![span] })
                }
            }
        }
        matches.sort_unstable_by_key(|found| found.instance);
        matches
    }

    /// The grams of one turn that any instance has.
    fn hits(&self, turn: u32, text: &str, hits: &mut Vec<Hit>) {
        let (mut hashes, mut ends) = (Vec::new(), Vec::new());
        each_word(text, |hash, place| {
            hashes.push(hash);
            ends.push(place);
        });
        for (word, gram) in (0_u32..).zip(runs::<WORDS>(&hashes)) {
            if let Some(places) = self.grams.get(&gram) {
                let (start, end) = (ends[word as usize].start as u32, ends[word as usize + WORDS - 1].end as u32);
                let places = &self.places[places.start as usize..places.end as usize];
                hits.extend(places.iter().map(|place| Hit { place: *place, turn, word, start, end }));
            }
        }
    }

    /// Whether one instance's hits cover enough of it.
    fn judge(&self, hits: &[Hit], dialogue: &Dialogue) -> Option<Match> {
        let instance = hits[0].place.instance;
        let (mut shared_words, mut covered_to) = (0, 0);
        for Hit { place, .. } in hits {
            let end = place.word + WORDS as u32;
            shared_words += end - covered_to.max(place.word);
            covered_to = end;
        }
        let words = self.instances[instance as usize].words;
        let is_match = f64::from(shared_words) > self.threshold * f64::from(words);
        is_match.then(|| Match { instance, shared_words, exact: false, spans: spans(hits, dialogue) })
    }

    /// Matches as the ledger holds them: a line for every span.
    #[must_use]
    pub fn lines(&self, matches: &[Match]) -> Vec<Contamination> {
        let line = |found: &Match, span: &Span| {
            let instance = &self.instances[found.instance as usize];
            Contamination {
                set: self.sets[instance.set as usize].name.clone(),
                instance: instance.row,
                part: instance.part,
                // A text without a word can only be matched whole.
                overlap: if instance.words == 0 { 1.0 } else { f64::from(found.shared_words) / f64::from(instance.words) },
                turn: span.turn as i32,
                start: span.start as i32,
                end: span.end as i32,
            }
        };
        matches.iter().flat_map(|found| found.spans.iter().map(move |span| line(found, span))).collect()
    }
}

/// The longest runs of shared words in each turn.
fn spans(hits: &[Hit], dialogue: &Dialogue) -> Vec<Span> {
    let mut hits: Vec<&Hit> = hits.iter().collect();
    hits.sort_unstable_by_key(|hit| (hit.turn, hit.word));
    let mut spans: Vec<Span> = Vec::new();
    let mut next_word = 0;
    for hit in hits {
        match spans.last_mut() {
            Some(span) if span.turn == hit.turn && hit.word <= next_word => span.end = hit.end,
            _ => spans.push(Span { turn: hit.turn, start: hit.start, end: hit.end }),
        }
        next_word = hit.word + WORDS as u32;
    }
    for Span { turn, start, end } in &mut spans {
        let characters = |bytes: u32| dialogue.turns[*turn as usize].text[..bytes as usize].chars().count() as u32;
        (*start, *end) = (characters(*start), characters(*end));
    }
    spans
}

fn hash_whole(text: &str) -> u128 {
    xxh3_128(normalised(text).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::{Replies, Turn};
    use crate::recipe::Against;

    fn index(texts: &[&str], threshold: f64) -> Index {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("set.json");
        std::fs::write(&path, serde_json::json!([{ "q": texts }]).to_string()).expect("writes");
        let against = Against { name: "set".to_owned(), path: Some(path.to_string_lossy().into_owned()), field: "q".to_owned() };
        let recipe = Decontaminate { threshold, against: vec![against], ..Decontaminate::default() };
        Index::load(&recipe).expect("reads").expect("has a set")
    }

    fn dialogue(turns: &[&str]) -> Dialogue {
        let roles = [Role::User, Role::Assistant].into_iter().cycle();
        let turns = turns.iter().zip(roles).map(|(text, role)| Turn { role, text: (*text).to_owned() }).collect();
        Dialogue { id: None, source: None, turns, replies: Replies::Inline }
    }

    fn numbers(from: u32, to: u32) -> String {
        (from..to).map(|number| format!("w{number} ")).collect()
    }

    #[test]
    fn an_instance_matches_from_more_than_half_of_its_words_in_shared_grams() {
        let index = index(&[&numbers(0, 20)], 0.5);
        assert!(index.find(&dialogue(&[&numbers(0, 10)])).is_empty(), "ten of twenty are not more than half");
        let matches = index.find(&dialogue(&[&format!("so: {}!", numbers(5, 16).to_uppercase())]));
        assert_eq!((matches[0].shared_words, matches[0].exact), (11, false));
        assert!(
            index.find(&dialogue(&[&numbers(0, 7), &numbers(0, 20), &numbers(7, 14)])).is_empty(),
            "no gram spans turns; answers do not count"
        );
    }

    #[test]
    fn shared_words_of_several_turns_add_up_and_each_run_is_a_span() {
        let index = index(&[&numbers(0, 20)], 0.5);
        let row = dialogue(&[&format!("é {}", numbers(0, 8)), "yes", &format!("{}and {}", numbers(0, 8), numbers(12, 20))]);
        let matches = index.find(&row);
        assert_eq!(matches[0].shared_words, 16);
        let lines = index.lines(&matches);
        let spans: Vec<_> = lines.iter().map(|line| (line.turn, line.start, line.end)).collect();
        assert_eq!(spans, [(0, 2, 25), (2, 0, 23), (2, 28, 59)]);
        assert!((lines[0].overlap - 0.8).abs() < 1e-12);
    }

    #[test]
    fn a_short_instance_matches_only_a_turn_that_says_the_same() {
        let index = index(&["Who are  you?", "¿?"], 0.5);
        assert!(index.find(&dialogue(&["Who are you, stranger?"])).is_empty());
        let matches = index.find(&dialogue(&["hello", "yes", "who are\nyou?"]));
        assert_eq!(matches, [Match { instance: 0, shared_words: 3, exact: true, spans: vec![Span { turn: 2, start: 0, end: 12 }] }]);
        assert_eq!(index.find(&dialogue(&["¿?"])).len(), 1);
    }

    #[test]
    fn a_gram_that_an_instance_repeats_counts_at_each_of_its_places() {
        let twice = format!("{}then {}", numbers(0, 9), numbers(0, 9));
        let matches = index(&[&twice], 0.5).find(&dialogue(&[&numbers(0, 9)]));
        assert_eq!(matches[0].shared_words, 18);
    }
}
