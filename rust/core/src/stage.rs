//! What a stage is: it visits one dialogue, may edit it, leaves typed notes, and says why the row
//! stops, if it does.
//!
//! Stages have no memory, so any thread may run them and row order cannot matter.

use crate::dialogue::Dialogue;

/// Where a row ends that is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is dropped: it is as it should be, and not wanted.
    Dropped,
    /// It is set aside: it must not be used as it is.
    Quarantined,
    /// It is set aside, and counts as bad: it could not be read.
    Unreadable,
}

/// The list of reasons: each with the word that manifest and ledger have for it, where its row
/// ends, and what it says.
macro_rules! codes {
    ($($name:ident $word:literal $ending:ident $says:literal)*) => {
        /// Why a row is not written: the words that the manifest counts by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $(#[doc = $says] $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// Its word in ledger, manifest and quarantine.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Code::$name => $word,)* }
            }

            /// Where its row ends.
            #[must_use]
            pub fn ending(self) -> Ending {
                match self { $(Code::$name => Ending::$ending,)* }
            }
        }
    };
}

codes! {
    LineTooLong "line_too_long" Unreadable "The row is longer than any row may be."
    InvalidUtf8 "invalid_utf8" Unreadable "The row is not UTF-8."
    InvalidJson "invalid_json" Unreadable "The row is not JSON."
    TooDeep "too_deep" Unreadable "Arrays and objects lie too deep within each other."
    InvalidRow "invalid_row" Unreadable "The row is JSON, but not of the shape of its input."
    UnsupportedField "unsupported_field" Quarantined
        "A field that decides what is trained is not supported."
    TooManyMessages "too_many_messages" Unreadable
        "The row has more messages than a dialogue may have."
    EmptyDialogue "empty_dialogue" Dropped "Nobody says anything."
    EmptyTurn "empty_turn" Dropped "A turn is empty."
    RolesOutOfOrder "roles_out_of_order" Dropped
        "User and assistant do not take turns, beginning with the user."
    EndsWithUser "ends_with_user" Dropped "The last turn is a question without an answer."
    EndsWithAssistant "ends_with_assistant" Dropped
        "The prompt that answers are compared for is answered already."
    TooFewTurns "too_few_turns" Dropped "It has fewer turns than the recipe asks for."
    TooManyTurns "too_many_turns" Dropped "It has more turns than the recipe allows."
    TooShort "too_short" Dropped "It has fewer characters than the recipe asks for."
    TooLong "too_long" Dropped "It has more characters than the recipe allows."
    Phrase "phrase" Dropped "An assistant's turn, or an answer, holds a phrase of the recipe."
    ExcludedSource "excluded_source" Dropped "The recipe drops rows of this source."
    TooFewCompletions "too_few_completions" Dropped "There are fewer than two answers to compare."
    NoScores "no_scores" Dropped "No answer has a score."
    Tie "tie" Dropped "No answer has a lower score than the best one."
    IdenticalCompletions "identical_completions" Dropped "Chosen and rejected would be the same text."
    ControlToken "control_token" Quarantined
        "The content spells a control token of tokenizer or template."
    Contaminated "contaminated" Dropped "It gives away an instance of an evaluation set."
    TemplateError "template_error" Quarantined "The chat template fails on it."
    MaskNotProvable "mask_not_provable" Quarantined "What is trained cannot be told from what the chat template writes."
    Tokenizer "tokenizer" Quarantined "The tokenizer fails on it."
    TooManyTokens "too_many_tokens" Quarantined "It has more tokens than any row may have."
    NoAssistantTokens "no_assistant_tokens" Dropped "No token of it would be trained."
    PromptTooLong "prompt_too_long" Dropped "The prompt leaves no room for an answer."
    PromptNotPrefix "prompt_not_prefix" Quarantined
        "The ids of prompt and answer do not begin with those of the prompt."
}

/// Why a row did not get through: a code that is counted, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The code that the manifest counts by.
    pub code: Code,
    /// What exactly was found, for the ledger.
    pub detail: Option<String>,
}

impl From<Code> for Reason {
    /// A reason that its code says in full.
    fn from(code: Code) -> Reason {
        Reason { code, detail: None }
    }
}

impl Reason {
    /// A reason with what was found.
    pub fn found(code: Code, detail: impl Into<String>) -> Reason {
        Reason { code, detail: Some(detail.into()) }
    }
}

/// What the stages did to one dialogue, for the ledger and the manifest's sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Letters the truecaser changed.
    pub letters_changed: u32,
    /// Phrases that matched, each once.
    pub phrases: Vec<String>,
    /// Instances of evaluation sets that were found.
    pub contamination: Found,
    /// Control tokens in content that were neutralized.
    pub control_tokens: u32,
}

/// What was found in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The instances that the ledger lists, in the order of the index.
    pub matches: Vec<Match>,
    /// Others that were found.
    pub unlisted: Vec<u32>,
    /// Classes of the index, and how many of their first members were found.
    pub classes: Vec<(u32, u32)>,
    /// Places in the index's `sayings` whose instances were found.
    pub sayings: Vec<u32>,
    /// The sets that instances were found of, ascending, and whether one was found exactly.
    pub sets: Vec<(u32, bool)>,
}

impl Found {
    /// Whether no instance was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }
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

/// One step of cleaning.
pub trait Stage: Send + Sync {
    /// Looks at a dialogue and edits it where that is the stage's work; a reason where the row
    /// stops here.
    fn visit(&self, dialogue: &mut Dialogue, notes: &mut Notes) -> Result<(), Reason>;
}
