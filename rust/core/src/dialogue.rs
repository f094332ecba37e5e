//! The one record that walks: a dialogue, its turns, and the replies that compete for its last
//! word.

/// Who speaks. Templates see the lower-case name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Instructions before the first user turn.
    System,
    /// The person.
    User,
    /// The model; only its words are trained.
    Assistant,
    /// Any other role a source uses (`tool`, `function`, …).
    Other(String),
}

impl Role {
    /// The role as sources and templates write it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Other(name) => name,
        }
    }

    /// The role a source wrote.
    #[must_use]
    pub fn named(name: String) -> Role {
        match name.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => Role::Other(name),
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said, as the source has it.
    pub text: String,
}

/// The aspects UltraFeedback rates, in the order of [`Reply::ratings`].
pub const ASPECTS: [&str; 4] = ["instruction_following", "honesty", "truthfulness", "helpfulness"];

/// One scored candidate for the assistant's answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    /// The answer, byte for byte as the source has it.
    pub text: String,
    /// The model that wrote it, where the source says so.
    pub model: Option<String>,
    /// The critique's overall score, 1 to 10.
    pub overall: Option<f64>,
    /// The four aspect ratings, 1 to 5; `None` where the source says `N/A` or nothing. Order:
    /// [`ASPECTS`].
    pub ratings: [Option<f64>; 4],
    /// The published mean of the ratings, where present.
    pub fine_grained: Option<f64>,
}

/// A preference: which of two answers is better.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The better answer.
    pub chosen: String,
    /// The other one.
    pub rejected: String,
    /// The better answer's score, on the source's scale.
    pub score_chosen: Option<f64>,
    /// The other one's score.
    pub score_rejected: Option<f64>,
}

/// Where the answer to the last user turn is found.
#[derive(Debug, Clone, PartialEq)]
pub enum Replies {
    /// In the turns themselves.
    Inline,
    /// In scored candidates, not yet ordered into pairs.
    Scored(Vec<Reply>),
    /// In a pair that the source has already made.
    Pair(Pair),
}

/// One row of any source, in one form.
#[derive(Debug, Clone, PartialEq)]
pub struct Dialogue {
    /// The row's own id, where the source has one.
    pub id: Option<String>,
    /// The data set it came from (`truthful_qa`, `sharegpt`, …), where the source says so.
    pub source: Option<String>,
    /// The messages, oldest first.
    pub turns: Vec<Turn>,
    /// Where the last answer is found.
    pub replies: Replies,
}

impl Dialogue {
    /// The first user turn: what `prompt` and `prompt_id` are made of. Empty where nobody asks.
    #[must_use]
    pub fn prompt(&self) -> &str {
        self.turns.iter().find(|turn| turn.role == Role::User).map_or("", |turn| turn.text.as_str())
    }

    /// The answers that compete for the last word, each an assistant's turn behind the others; none
    /// where the turns have the last word already.
    #[must_use]
    pub fn answers(&self) -> Vec<&str> {
        match &self.replies {
            Replies::Inline => Vec::new(),
            Replies::Scored(replies) => replies.iter().map(|reply| reply.text.as_str()).collect(),
            Replies::Pair(pair) => vec![&pair.chosen, &pair.rejected],
        }
    }

    /// All that the assistant says: its turns, then the answers.
    pub fn said_by_assistant(&self) -> impl Iterator<Item = &str> {
        let turns = self.turns.iter().filter(|turn| turn.role == Role::Assistant);
        turns.map(|turn| turn.text.as_str()).chain(self.answers())
    }

    /// All that anybody says, to be edited: the turns, then the answers.
    pub fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let answers = match &mut self.replies {
            Replies::Inline => Vec::new(),
            Replies::Scored(replies) => replies.iter_mut().map(|reply| &mut reply.text).collect(),
            Replies::Pair(pair) => vec![&mut pair.chosen, &mut pair.rejected],
        };
        self.turns.iter_mut().map(|turn| &mut turn.text).chain(answers)
    }
}
