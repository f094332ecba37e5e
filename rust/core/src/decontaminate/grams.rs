//! Indexes the grams of all instances, so checking a row takes time proportional to its words, no
//! matter how much the instances have in common.
//!
//! Instances of one benchmark often start with the same instruction. Following such a gram to each
//! of its instances would take time proportional to rows times instances. A gram with few instances
//! therefore leads to these, and a gram with many leads to classes: instances of one set that have
//! the same common grams at the same words, and that may match by these grams only. One check of a
//! class covers all its members.

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_128;

use super::{Instance, WORDS};

/// Grams in more instances than this are common.
const RARE_MAX: u32 = 64;

/// The target of a gram, and the number of words at which the gram starts there.
#[derive(Clone, Copy)]
pub(super) struct Posting {
    /// A rare gram's instance, or a common gram's class.
    pub(super) target: u32,
    pub(super) count: u32,
}

/// Instances of one set with the same common grams at the same words.
pub(super) struct Class {
    pub(super) set: u32,
    /// Sorted by number of words, in ascending order.
    pub(super) members: Vec<u32>,
}

/// The grams of all instances.
#[derive(Default)]
pub(super) struct Grams {
    /// For each gram's hash, its number.
    numbers: HashMap<u64, u32>,
    /// The gram numbers of all instances in order.
    sequence: Vec<u32>,
    /// For each instance, the end of its grams in `sequence`.
    ends: Vec<usize>,
    /// For each gram, the number of instances that contain it.
    instances: Vec<u32>,
    /// For each gram, the end of its postings.
    posting_ends: Vec<usize>,
    postings: Vec<Posting>,
    /// For each instance, the number of its words that common grams cover.
    common_words: Vec<u32>,
    pub(super) classes: Vec<Class>,
}

impl Grams {
    /// Appends the grams of the next instance.
    pub(super) fn add(&mut self, grams: impl Iterator<Item = u64>) {
        for gram in grams {
            let next = self.numbers.len() as u32;
            self.sequence.push(*self.numbers.entry(gram).or_insert(next));
        }
        self.ends.push(self.sequence.len());
    }

    /// Builds the index of all added instances. `instances` must be in the order in which they were
    /// added.
    pub(super) fn arrange(&mut self, instances: &[Instance], threshold: f64) {
        let mut entries = self.entries();
        self.instances = vec![0; self.numbers.len()];
        entries.iter().for_each(|(gram, _)| self.instances[*gram as usize] += 1);
        entries.retain(|(gram, _)| !self.is_common(*gram));
        self.common_words = (0..instances.len())
            .map(|number| self.cover(number as u32, |gram| self.is_common(gram)))
            .collect();
        self.classify(instances, threshold);
        for (class, Class { members, .. }) in (0..).zip(&self.classes) {
            let common = self.of(members[0]).iter().filter(|gram| self.is_common(**gram));
            entries.extend(
                count_each(common.copied())
                    .map(|(gram, count)| (gram, Posting { target: class, count })),
            );
        }
        entries.sort_unstable_by_key(|(gram, posting)| (*gram, posting.target));
        self.posting_ends = vec![0; self.numbers.len()];
        entries.iter().for_each(|(gram, _)| self.posting_ends[*gram as usize] += 1);
        let mut end = 0;
        for count in &mut self.posting_ends {
            end += *count;
            *count = end;
        }
        self.postings = entries.into_iter().map(|(_, posting)| posting).collect();
    }

    /// Every gram with each instance that contains it.
    fn entries(&self) -> Vec<(u32, Posting)> {
        let of = |number| {
            count_each(self.of(number).iter().copied())
                .map(move |(gram, count)| (gram, Posting { target: number, count }))
        };
        (0..self.ends.len() as u32).flat_map(of).collect()
    }

    /// Groups the instances that may match by their common grams only into classes.
    fn classify(&mut self, instances: &[Instance], threshold: f64) {
        let mut classes: HashMap<(u32, u128), Vec<u32>> = HashMap::new();
        let mut order = Vec::new();
        for (number, instance) in (0..).zip(instances) {
            if f64::from(self.common_words[number as usize]) > threshold * f64::from(instance.words)
            {
                let key = (instance.set, self.hash_common(number));
                let members = classes.entry(key).or_default();
                if members.is_empty() {
                    order.push(key);
                }
                members.push(number);
            }
        }
        self.classes = order
            .into_iter()
            .map(|key| {
                let mut members = classes.remove(&key).unwrap_or_default();
                members.sort_by_key(|number| instances[*number as usize].words);
                Class { set: key.0, members }
            })
            .collect();
    }

    /// A hash of the common grams of an instance and of the words that they start at.
    fn hash_common(&self, number: u32) -> u128 {
        let common = (0_u32..).zip(self.of(number)).filter(|(_, gram)| self.is_common(**gram));
        xxh3_128(
            &common
                .flat_map(|(word, gram)| [word.to_le_bytes(), gram.to_le_bytes()])
                .flatten()
                .collect::<Vec<u8>>(),
        )
    }

    /// The number of a gram, if any instance contains it.
    pub(super) fn number(&self, hash: u64) -> Option<u32> {
        self.numbers.get(&hash).copied()
    }

    pub(super) fn is_common(&self, gram: u32) -> bool {
        self.instances[gram as usize] > RARE_MAX
    }

    /// The grams of an instance, in order.
    pub(super) fn of(&self, number: u32) -> &[u32] {
        let number = number as usize;
        &self.sequence[if number == 0 { 0 } else { self.ends[number - 1] }..self.ends[number]]
    }

    /// The targets of a gram.
    pub(super) fn postings(&self, gram: u32) -> &[Posting] {
        let gram = gram as usize;
        &self.postings
            [if gram == 0 { 0 } else { self.posting_ends[gram - 1] }..self.posting_ends[gram]]
    }

    /// The words of an instance that its common grams cover.
    pub(super) fn common_words(&self, number: u32) -> u32 {
        self.common_words[number as usize]
    }

    /// The number of words of an instance that are covered by grams for which `is_shared` is true.
    pub(super) fn cover(&self, number: u32, is_shared: impl Fn(u32) -> bool) -> u32 {
        let (mut words, mut covered_to) = (0, 0);
        for (word, gram) in (0_u32..).zip(self.of(number)) {
            if is_shared(*gram) {
                let end = word + WORDS as u32;
                words += end - covered_to.max(word);
                covered_to = end;
            }
        }
        words
    }
}

/// Each distinct number, with its count.
fn count_each(numbers: impl Iterator<Item = u32>) -> impl Iterator<Item = (u32, u32)> {
    let mut sorted: Vec<u32> = numbers.collect();
    sorted.sort_unstable();
    let counts: Vec<_> =
        sorted.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect();
    counts.into_iter()
}
