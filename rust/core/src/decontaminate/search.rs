//! Searches one dialogue for instances of the evaluation sets. The time is proportional to the
//! dialogue's words and to the few instances that are checked one by one: those that share a rare
//! gram, and those listed in the ledger.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::{Index, SPANS_MAX, WORDS, hash_whole};
use crate::dialogue::{Dialogue, Role};
use crate::stage::{Found, Match, Span};
use crate::words::{each_word, runs};

/// A gram of a user message that an instance also contains.
struct Occurrence {
    gram: u32,
    turn: u32,
    /// The index of the gram's first word in the message.
    word: u32,
    /// The offset of its first byte in the message.
    start: u32,
    /// The byte after its last one.
    end: u32,
}

/// The grams and texts that user messages share with the index.
#[derive(Default)]
struct Shared {
    /// In the order of messages and words.
    occurrences: Vec<Occurrence>,
    grams: HashSet<u32>,
    /// Indices in `sayings`, each with the first message that has this text.
    sayings: Vec<(u32, Span)>,
}

/// An instance to list: its shared words, and the message with exactly this text if it is too short
/// for grams.
type Listed = BTreeMap<u32, (u32, Option<Span>)>;

impl Index {
    /// Returns the instances that a dialogue's user messages match.
    #[must_use]
    pub fn find(&self, dialogue: &Dialogue) -> Found {
        let shared = self.shared(dialogue);
        let mut found = Found {
            sayings: shared.sayings.iter().map(|(saying, _)| *saying).collect(),
            ..Found::default()
        };
        let mut listed = Listed::new();
        self.match_by_rare_grams(&shared, &mut listed);
        found
            .sets
            .extend(listed.keys().map(|instance| (self.instances[*instance as usize].set, false)));
        self.match_classes(&shared, &mut listed, &mut found);
        for (saying, span) in &shared.sayings {
            self.match_saying(&self.sayings[*saying as usize], *span, &mut listed, &mut found);
        }
        // If a set has two entries, the exact one comes first and is kept.
        found.sets.sort_unstable_by_key(|(set, exact)| (*set, !exact));
        found.sets.dedup_by_key(|(set, _)| *set);
        self.list(&shared, dialogue, &listed, &mut found);
        found
    }

    /// Reads the user messages.
    fn shared(&self, dialogue: &Dialogue) -> Shared {
        let mut shared = Shared::default();
        for (turn, said) in (0..).zip(&dialogue.turns).filter(|(_, said)| said.role == Role::User) {
            self.add_occurrences(turn, &said.text, &mut shared.occurrences);
            if let Some(saying) = self.whole.get(&hash_whole(&said.text))
                && shared.sayings.iter().all(|(known, _)| known != saying)
            {
                shared.sayings.push((
                    *saying,
                    Span { turn, start: 0, end: said.text.chars().count() as u32 },
                ));
            }
        }
        shared.grams.extend(shared.occurrences.iter().map(|occurrence| occurrence.gram));
        shared
    }

    /// Adds the grams of one message that any instance contains.
    fn add_occurrences(&self, turn: u32, text: &str, occurrences: &mut Vec<Occurrence>) {
        let (mut hashes, mut ranges) = (Vec::new(), Vec::new());
        each_word(text, |hash, range| {
            hashes.push(hash);
            ranges.push(range);
        });
        for (word, gram) in (0_u32..).zip(runs::<WORDS>(&hashes)) {
            if let Some(gram) = self.grams.number(gram) {
                let (start, end) = (
                    ranges[word as usize].start as u32,
                    ranges[word as usize + WORDS - 1].end as u32,
                );
                occurrences.push(Occurrence { gram, turn, word, start, end });
            }
        }
    }

    /// Checks each instance that shares a rare gram with the dialogue.
    fn match_by_rare_grams(&self, shared: &Shared, listed: &mut Listed) {
        for (instance, count) in self.followed(shared, |gram| !self.grams.is_common(gram)) {
            let most =
                (count * WORDS as u64).saturating_add(u64::from(self.grams.common_words(instance)));
            if self.is_match(instance, u32::try_from(most).unwrap_or(u32::MAX)) {
                let words = self.grams.cover(instance, |gram| shared.grams.contains(&gram));
                if self.is_match(instance, words) {
                    listed.insert(instance, (words, None));
                }
            }
        }
    }

    /// Checks classes by the common grams only. A member that also shares rare grams was checked
    /// separately, because it shares more words.
    fn match_classes(&self, shared: &Shared, listed: &mut Listed, found: &mut Found) {
        for (number, count) in self.followed(shared, |gram| self.grams.is_common(gram)) {
            let class = &self.grams.classes[number as usize];
            let most = u32::try_from(count * WORDS as u64).unwrap_or(u32::MAX);
            if !self.is_match(class.members[0], most) {
                continue;
            }
            let words = self.grams.cover(class.members[0], |gram| {
                self.grams.is_common(gram) && shared.grams.contains(&gram)
            });
            let members = class.members.partition_point(|instance| self.is_match(*instance, words));
            if members > 0 {
                found.classes.push((number, members as u32));
                found.sets.push((class.set, false));
                for instance in class.members[..members].iter().take(SPANS_MAX) {
                    listed.entry(*instance).or_insert((words, None));
                }
            }
        }
        found.classes.sort_unstable();
    }

    /// The targets of the dialogue's grams of one kind, each with the number of positions that
    /// these grams have there.
    fn followed(&self, shared: &Shared, is_kind: impl Fn(u32) -> bool) -> HashMap<u32, u64> {
        let mut count = HashMap::new();
        for gram in shared.grams.iter().filter(|gram| is_kind(**gram)) {
            for posting in self.grams.postings(*gram) {
                *count.entry(posting.target).or_default() += u64::from(posting.count);
            }
        }
        count
    }

    /// Adds the instances whose text equals that of a message.
    fn match_saying(&self, same: &[u32], span: Span, listed: &mut Listed, found: &mut Found) {
        let mut last_set = None;
        for instance in same.iter().take(SPANS_MAX) {
            let words = self.instances[*instance as usize].words;
            // One with grams lists the runs of its words, as if it were found by them.
            listed.entry(*instance).or_insert((words, (words < WORDS as u32).then_some(span)));
        }
        // They are in the order of the index, so their sets are in order, too.
        let mut rest = same;
        while let Some(first) = rest.first() {
            let set = self.instances[*first as usize].set;
            if last_set.replace(set) != Some(set) {
                found.sets.push((set, true));
            }
            rest = &rest
                [rest.partition_point(|instance| self.instances[*instance as usize].set == set)..];
        }
    }

    /// Lists where the first instances were found.
    fn list(&self, shared: &Shared, dialogue: &Dialogue, listed: &Listed, found: &mut Found) {
        let mut room = SPANS_MAX;
        for (instance, (shared_words, whole)) in listed {
            if room == 0 {
                found.unlisted.push(*instance);
                continue;
            }
            let spans = whole
                .map_or_else(|| self.spans(*instance, shared, dialogue, room), |span| vec![span]);
            room -= spans.len();
            let saying = self.instances[*instance as usize].saying;
            let exact = found.sayings.contains(&saying);
            found.matches.push(Match {
                instance: *instance,
                shared_words: *shared_words,
                exact,
                spans,
            });
        }
    }

    /// Returns at most `room` of the longest runs of shared words in each message.
    fn spans(&self, instance: u32, shared: &Shared, dialogue: &Dialogue, room: usize) -> Vec<Span> {
        let grams: HashSet<u32> = self.grams.of(instance).iter().copied().collect();
        let mut spans: Vec<Span> = Vec::new();
        let mut next_word = 0;
        for occurrence in
            shared.occurrences.iter().filter(|occurrence| grams.contains(&occurrence.gram))
        {
            let is_full = spans.len() == room;
            match spans.last_mut() {
                Some(span) if span.turn == occurrence.turn && occurrence.word <= next_word => {
                    span.end = occurrence.end
                }
                _ if is_full => break,
                _ => spans.push(Span {
                    turn: occurrence.turn,
                    start: occurrence.start,
                    end: occurrence.end,
                }),
            }
            next_word = occurrence.word + WORDS as u32;
        }
        count_characters(&mut spans, dialogue);
        spans
    }
}

/// Converts ascending byte offsets into character offsets.
fn count_characters(spans: &mut [Span], dialogue: &Dialogue) {
    let (mut turn, mut bytes, mut characters) = (0, 0, 0);
    for span in spans {
        if span.turn != turn {
            (turn, bytes, characters) = (span.turn, 0, 0);
        }
        for offset in [&mut span.start, &mut span.end] {
            let end = *offset as usize;
            characters += dialogue.turns[turn as usize].text[bytes..end].chars().count() as u32;
            (bytes, *offset) = (end, characters);
        }
    }
}
