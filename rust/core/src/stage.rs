//! The trait of pipeline stages, and the one list of reasons for which a row is not written.
//!
//! A stage checks a dialogue and may edit it. It records its changes, and returns a reason if the
//! row must not continue. Stages have no state, so any thread may run them and the order of rows
//! does not matter.

use crate::dialogue::Dialogue;

/// How a row that is not written ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Dropped: the row is valid, but the recipe excludes it.
    Dropped,
    /// Quarantined: the row must not be used unchanged.
    Quarantined,
    /// Quarantined, and counted as bad: the row could not be read.
    Unreadable,
}

impl Ending {
    /// The word for it in the list of reasons.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Ending::Dropped => "dropped",
            Ending::Quarantined => "quarantined",
            Ending::Unreadable => "unreadable",
        }
    }
}

/// Declares the reasons. Each has its word in manifest and ledger, how its row ends, its cause, and
/// its remedy.
macro_rules! codes {
    ($($name:ident $word:literal $ending:ident $cause:literal $remedy:literal)*) => {
        /// Why a row is not written. The manifest counts rows by these codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $(#[doc = $cause] $name,)* }

        impl Code {
            /// All codes.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The code as ledger, manifest and quarantine spell it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Code::$name => $word,)* }
            }

            /// How its row ends.
            #[must_use]
            pub fn ending(self) -> Ending {
                match self { $(Code::$name => Ending::$ending,)* }
            }

            /// Whether the row ends because of its form or of a limit, not because a filter excludes
            /// what it says.
            #[must_use]
            pub fn is_structural(self) -> bool {
                self.ending() != Ending::Dropped || STRUCTURAL.contains(&self)
            }

            /// The cause, in a sentence.
            #[must_use]
            pub fn cause(self) -> &'static str {
                match self { $(Code::$name => $cause,)* }
            }

            /// The remedy, in a sentence.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Code::$name => $remedy,)* }
            }
        }
    };
}

codes! {
    LineTooLong "line_too_long" Unreadable
        "The row is longer than 16 MiB."
        "Check that the file has one row per line."
    InvalidUtf8 "invalid_utf8" Unreadable
        "The row is not valid UTF-8."
        "Re-encode the file as UTF-8."
    InvalidJson "invalid_json" Unreadable
        "The row is not valid JSON."
        "Fix or remove the row. The usual cause is a truncated file."
    TooDeep "too_deep" Unreadable
        "Arrays and objects are nested more than 64 levels deep."
        "Remove the row: such nesting is usually damage or an attack."
    InvalidRow "invalid_row" Unreadable
        "The row is valid JSON, but does not have the expected shape: a field is missing or has the \
         wrong type."
        "Fix the field that the detail names. `docs/rows.md` lists the known shapes. If \
         your columns have other names, use `--map`."
    UnsupportedField "unsupported_field" Quarantined
        "The row has a field that decides what is trained and that zephyr-fast does not support \
         yet, such as tool calls, images or a message weight of 0."
        "List the column in `source.ignore`, or remove the row. The detail names the field; that of a \
         message is listed as `messages.weight`."
    MultiMessageCompletion "multi_message_completion" Quarantined
        "After the messages that they have in common, `chosen` and `rejected` have more than one \
         message, so they cannot be compared as completions."
        "Cut both after the first assistant message in which they differ, or remove the row."
    TooManyMessages "too_many_messages" Unreadable
        "The row has more than 1,024 messages."
        "Split the dialogue."
    EmptyDialogue "empty_dialogue" Dropped
        "The row has no messages, or only a system message."
        "Remove the filter `structure` from the recipe to keep such rows."
    EmptyTurn "empty_turn" Dropped
        "A message is empty or only white space."
        "Remove the filter `structure` from the recipe to keep such rows."
    RolesOutOfOrder "roles_out_of_order" Dropped
        "After an optional system message, the roles do not alternate between user and assistant, \
         starting with the user. With `order = \"any\"`: a message has an unknown role."
        "Set `order = \"any\"` of the filter `structure`, as the recipes `chat` and `pairs` do. Say \
         what an unknown role is with `--map`, e.g. `--map role.bot=assistant`."
    EndsWithUser "ends_with_user" Dropped
        "The last message is the user's, so it has no answer to train on. With `order = \"any\"`: \
         there is no answer at all."
        "Set `order = \"any\"` of the filter `structure`, as the recipe `chat` does, to end such \
         dialogues with their last answer."
    EndsWithAssistant "ends_with_assistant" Dropped
        "The prompt ends with an assistant message, so a completion would be the second in a row."
        "Remove the last message of the prompt, or the filter `structure` from the recipe."
    TooFewTurns "too_few_turns" Dropped
        "The dialogue has fewer messages than `turns_min` of the filter `length`."
        "Lower `turns_min` of the filter `length`."
    TooManyTurns "too_many_turns" Dropped
        "The dialogue has more messages than `turns_max` of the filter `length`."
        "Raise `turns_max` of the filter `length`."
    TooShort "too_short" Dropped
        "The dialogue has fewer characters than `chars_min` of the filter `length`."
        "Lower `chars_min` of the filter `length`."
    TooLong "too_long" Dropped
        "The dialogue has more characters than `chars_max` of the filter `length`."
        "Raise `chars_max` of the filter `length`."
    Phrase "phrase" Dropped
        "An assistant message or a completion contains a phrase that the recipe lists."
        "Edit `phrases` of the filter `phrases`. With `drop = \"tail\"`, it only removes the \
         messages from that exchange on."
    ExcludedSource "excluded_source" Dropped
        "The row's `source` is listed in `binarize.drop_sources`."
        "Set `binarize.drop_sources = []`, or remove that source from it."
    TooFewCompletions "too_few_completions" Dropped
        "There are fewer than two completions to compare."
        "Add completions, or choose another score with `--score-by` if only their scores are \
         missing."
    NoScores "no_scores" Dropped
        "No completion has the score that decides."
        "Choose another score with `--score-by`."
    Tie "tie" Dropped
        "No completion scores lower than the best one, or the two of a pair have the same score."
        "Choose a strategy that accepts ties, such as `--strategy best-vs-random`, and set \
         `binarize.doubtful_pairs = \"keep\"`."
    EmptyChosen "empty_chosen" Dropped
        "The chosen completion is empty or only white space."
        "Fix or remove the row. `binarize.doubtful_pairs = \"keep\"` keeps such pairs."
    RejectedScoresHigher "rejected_scores_higher" Dropped
        "The rejected completion has a higher score than the chosen one."
        "Swap the two, or fix the scores. `binarize.doubtful_pairs = \"keep\"` keeps such pairs."
    ContradictsRow "contradicts_row" Dropped
        "An earlier row with the same prompt prefers the completion that this one rejects. The \
         detail has the number of that row."
        "Decide which row is right, and remove the other. `binarize.doubtful_pairs = \"keep\"` keeps \
         both."
    IdenticalWhenTruncated "identical_when_truncated" Dropped
        "The chosen and the rejected completion are equal within `binarize.max_length` tokens."
        "Raise `--max-length`. `binarize.doubtful_pairs = \"keep\"` keeps such pairs."
    IdenticalCompletions "identical_completions" Dropped
        "The chosen and the rejected completion would be the same text."
        "No change is needed: such a pair teaches nothing."
    ControlToken "control_token" Quarantined
        "A message contains the text of a special token or of a role marker of the chat template."
        "Set `tokenize.control_tokens = \"neutralize\"` to insert a space into each and keep the \
         row, or \"allow\" to let the tokenizer read it as that token."
    Contaminated "contaminated" Dropped
        "A user message overlaps an instance of an evaluation set."
        "Set `decontaminate.action = \"flag\"` to keep and mark such rows, or raise \
         `decontaminate.threshold`."
    TemplateError "template_error" Quarantined
        "The chat template fails on the row, or exceeds its limits."
        "Fix the template, or filter such rows. A common cause is a template that rejects system \
         messages."
    MaskNotProvable "mask_not_provable" Quarantined
        "The chat template changes, moves, merges or leaves out messages, so that the assistant's \
         tokens cannot be located, or a message would be lost."
        "Use a template that writes each message as it is, with `{% generation %}` tags if needed. \
         The detail names the message."
    Tokenizer "tokenizer" Quarantined
        "The tokenizer fails on the row."
        "Fix the row or the tokenizer; the detail has the tokenizer's own error."
    TooManyTokens "too_many_tokens" Quarantined
        "The row has more than 1,000,000 tokens."
        "Split the row."
    NoAssistantTokens "no_assistant_tokens" Dropped
        "No assistant token is left within `pack.seq_len` tokens."
        "Raise `--seq-len`."
    PromptTooLong "prompt_too_long" Dropped
        "The prompt leaves no room for a completion within `binarize.max_length` tokens."
        "Raise `--max-length`."
    PromptNotPrefix "prompt_not_prefix" Quarantined
        "The tokens of prompt and completion do not start with the tokens of the prompt, so the \
         pair cannot be split."
        "Use a template whose generation prompt is a prefix of the full text, such as `zephyr`."
}

/// Reasons that drop a row because of its form or of a limit.
const STRUCTURAL: [Code; 14] = [
    Code::EmptyDialogue,
    Code::EmptyTurn,
    Code::RolesOutOfOrder,
    Code::EndsWithUser,
    Code::EndsWithAssistant,
    Code::TooFewCompletions,
    Code::NoScores,
    Code::Tie,
    Code::EmptyChosen,
    Code::RejectedScoresHigher,
    Code::ContradictsRow,
    Code::IdenticalWhenTruncated,
    Code::NoAssistantTokens,
    Code::PromptTooLong,
];

/// The reason for which a row is not written: a code that is counted, and details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The code that the manifest counts by.
    pub code: Code,
    /// Details for the ledger.
    pub detail: Option<String>,
}

impl From<Code> for Reason {
    /// A reason without details.
    fn from(code: Code) -> Reason {
        Reason { code, detail: None }
    }
}

impl Reason {
    /// A reason with details.
    pub fn found(code: Code, detail: impl Into<String>) -> Reason {
        Reason { code, detail: Some(detail.into()) }
    }
}

/// The stages' changes to a dialogue, for the ledger and the manifest's counts.
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
    /// Messages after the last answer that were removed.
    pub messages_cut: u32,
    /// Whether the dialogue was kept although the assistant speaks first.
    pub starts_with_assistant: bool,
    /// Whether the dialogue was kept although two neighbouring messages have the same role.
    pub has_repeated_role: bool,
}

/// Matches with evaluation sets in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The instances that the ledger lists, in the order of the index.
    pub matches: Vec<Match>,
    /// Others that were found.
    pub unlisted: Vec<u32>,
    /// Classes of the index, and how many of their first members were found.
    pub classes: Vec<(u32, u32)>,
    /// Indices in `sayings` of the index whose instances were found.
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
    /// Number of its words that are in shared grams. All its words if it is short.
    pub shared_words: u32,
    /// Whether a user turn equals the instance, ignoring case and white space.
    pub exact: bool,
    /// Where: the longest runs of shared words.
    pub spans: Vec<Span>,
}

/// A part of a user turn, in characters, as Python counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The turn's index in the dialogue.
    pub turn: u32,
    /// Its first character.
    pub start: u32,
    /// The end: one past its last character.
    pub end: u32,
}

/// One step of cleaning.
pub trait Stage: Send + Sync {
    /// Checks a dialogue, and edits it if that is the stage's purpose. Returns a reason if the row
    /// must not continue.
    fn visit(&self, dialogue: &mut Dialogue, notes: &mut Notes) -> Result<(), Reason>;
}
