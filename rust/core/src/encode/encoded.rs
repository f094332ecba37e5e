//! The tokens of a row, and their counts.

use crate::sample::{Answered, Sample};

/// The tokens of a row, and the number of truncated ones.
#[derive(Debug)]
pub struct Encoded {
    /// The tokens.
    pub tokens: Tokens,
    /// Tokens cut off.
    pub tokens_truncated: usize,
    /// The number of those that contribute to the loss.
    pub label_tokens_truncated: usize,
    /// Characters of a dialogue's text.
    pub chars: usize,
    /// For each example, whether its completions are equal once they are truncated.
    pub identical: Vec<bool>,
}

impl Encoded {
    /// The result for a row whose text is written without tokens.
    #[must_use]
    pub fn of_text() -> Encoded {
        Encoded {
            tokens: Tokens::None,
            tokens_truncated: 0,
            label_tokens_truncated: 0,
            chars: 0,
            identical: Vec::new(),
        }
    }

    /// Tokens that go into shards.
    #[must_use]
    pub fn token_count(&self) -> usize {
        match &self.tokens {
            Tokens::None => 0,
            Tokens::Sample(sample) => sample.ids.len(),
            Tokens::Answered(answered) => answered.token_count(),
        }
    }

    /// Those that contribute to the loss.
    #[must_use]
    pub fn label_tokens(&self) -> usize {
        match &self.tokens {
            Tokens::None => 0,
            Tokens::Sample(sample) => sample.label_tokens(),
            Tokens::Answered(answered) => answered.label_tokens(),
        }
    }
}

/// The tokens of a dialogue or of a prompt with completions.
#[derive(Debug)]
pub enum Tokens {
    /// No tokens, because only text is written.
    None,
    /// A dialogue.
    Sample(Sample),
    /// A prompt with the completions of its examples.
    Answered(Answered),
}
