//! The forms of a dialogue: rendered text with the ranges that contribute to the loss, then token
//! ids with the same ranges, and the ids of a prompt with its completions.

use std::ops::Range;

/// The label of a token that does not contribute to the loss. PyTorch's cross-entropy ignores it.
pub const UNTRAINED: i32 = -100;

/// A dialogue as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text that the model reads.
    pub text: String,
    /// Byte ranges of `text` that contribute to the loss, one for each assistant message: its
    /// content and the token that ends it.
    pub trained: Vec<Range<usize>>,
    /// For each assistant message in order, the number of these ranges that start before its content
    /// ends. Empty if a template with its own tags changes the contents, so that they cannot be
    /// located.
    pub answers: Vec<usize>,
}

impl Rendered {
    /// The trained ranges without those of the first `skipped` assistant messages, or `None` if it
    /// is not known to which message a range belongs.
    #[must_use]
    pub fn trained_after(&self, skipped: usize) -> Option<&[Range<usize>]> {
        if skipped == 0 {
            return Some(&self.trained);
        }
        // A range belongs to the first message whose content does not end before it.
        self.trained.get(*self.answers.get(skipped - 1)?..)
    }
}

/// Token ids and which of them carry a label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Token ids, BOS included.
    pub ids: Vec<u32>,
    /// Ranges of `ids` that contribute to the loss, ascending and disjoint.
    pub trained: Vec<Range<u32>>,
}

impl Sample {
    /// How many tokens carry a label.
    #[must_use]
    pub fn label_tokens(&self) -> usize {
        self.trained.iter().map(|range| (range.end - range.start) as usize).sum()
    }

    /// Keeps the first `tokens` tokens.
    pub fn truncate(&mut self, tokens: usize) {
        self.ids.truncate(tokens);
        let end = self.ids.len() as u32;
        self.trained.retain(|range| range.start < end);
        for range in &mut self.trained {
            range.end = range.end.min(end);
        }
    }

    /// The labels: the id if the token contributes to the loss, else [`UNTRAINED`].
    #[must_use]
    pub fn labels(&self) -> Vec<i32> {
        let mut labels = Vec::new();
        append_labels(&self.ids, &self.trained, &mut labels);
        labels
    }

    /// The sample as a spool record of little-endian u32: the number of ranges, the ranges, and the
    /// ids.
    #[must_use]
    pub fn to_record(&self) -> Vec<u8> {
        let ranges = self.trained.iter().flat_map(|range| [range.start, range.end]);
        let head = std::iter::once(self.trained.len() as u32).chain(ranges);
        let head_numbers = 1 + 2 * self.trained.len();
        let mut record = vec![0; 4 * (head_numbers + self.ids.len())];
        let (numbers, _) = record.as_chunks_mut();
        numbers.iter_mut().zip(head).for_each(|(bytes, number)| *bytes = number.to_le_bytes());
        // A separate loop, which the compiler turns into a copy.
        numbers[head_numbers..]
            .iter_mut()
            .zip(&self.ids)
            .for_each(|(bytes, id)| *bytes = id.to_le_bytes());
        record
    }

    /// The sample of a spool record.
    #[must_use]
    pub fn from_record(record: &[u8]) -> Sample {
        let mut numbers = record.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let ranges = numbers.next().unwrap_or(0);
        let trained = (0..ranges).filter_map(|_| Some(numbers.next()?..numbers.next()?)).collect();
        Sample { trained, ids: numbers.collect() }
    }
}

/// A prompt and the completions of its examples as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// BOS to generation prompt.
    pub prompt_ids: Vec<u32>,
    /// By example, the ids of each of its completions, including EOS.
    pub examples: Vec<Vec<Vec<u32>>>,
}

impl Answered {
    /// All tokens. Each example has the prompt once.
    #[must_use]
    pub fn token_count(&self) -> usize {
        self.prompt_ids.len() * self.examples.len() + self.label_tokens()
    }

    /// Those of the completions.
    #[must_use]
    pub fn label_tokens(&self) -> usize {
        self.examples.iter().flatten().map(Vec::len).sum()
    }
}

/// Appends a document's labels.
pub fn append_labels(ids: &[u32], trained: &[Range<u32>], labels: &mut Vec<i32>) {
    let start = labels.len();
    labels.resize(start + ids.len(), UNTRAINED);
    for range in trained {
        let range = range.start as usize..range.end as usize;
        for (label, id) in labels[start..][range.clone()].iter_mut().zip(&ids[range]) {
            *label = *id as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_survives_the_spool_and_a_cut_keeps_its_labels() {
        let mut sample = Sample { ids: vec![1, 10, 11, 12, 13, 14], trained: vec![1..3, 4..6] };
        assert_eq!(Sample::from_record(&sample.to_record()), sample);
        assert_eq!(sample.labels(), [-100, 10, 11, -100, 13, 14]);
        sample.truncate(5);
        assert_eq!(sample.labels(), [-100, 10, 11, -100, 13]);
        sample.truncate(4);
        assert_eq!(sample.trained, vec![1..3]);
        assert_eq!(sample.label_tokens(), 2);
    }
}
