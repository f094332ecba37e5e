//! The data that passes through the pipeline: a dialogue, its turns, and the completions for its
//! last turn.

use serde_json::{Map, Value};

/// The role of a message. Templates see its name in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Instructions before the first user turn.
    System,
    /// Instructions in the spelling of newer OpenAI models.
    Developer,
    /// The person.
    User,
    /// The model. Only its messages are trained on.
    Assistant,
    /// The result of a tool call.
    Tool,
    /// Any other role a source uses (`function`, `ipython`, …).
    Other(String),
}

impl Role {
    /// The role as sources and templates write it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Other(name) => name,
        }
    }

    /// The role with the name that a source uses.
    #[must_use]
    pub fn named(name: String) -> Role {
        match name.as_str() {
            "system" => Role::System,
            "developer" => Role::Developer,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            _ => Role::Other(name),
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Its role.
    pub role: Role,
    /// The content as in the source. Empty if it is null or missing.
    pub text: String,
    /// Further members besides role and content. Most messages have no others.
    pub extras: Option<Box<Extras>>,
}

impl Turn {
    /// Creates a message that only has a role and a content.
    #[must_use]
    pub fn new(role: Role, text: impl Into<String>) -> Turn {
        Turn { role, text: text.into(), extras: None }
    }

    /// Returns a member of the message other than role and content.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.extras.as_ref()?.members.get(name)
    }

    /// How the source wrote the content.
    #[must_use]
    pub fn content(&self) -> Content {
        self.extras.as_ref().map_or(Content::Text, |extras| extras.content)
    }

    /// Whether the turn contributes to the loss: an assistant's, unless the source excludes it.
    #[must_use]
    pub fn is_trained(&self) -> bool {
        self.role == Role::Assistant
            && self.extras.as_ref().is_none_or(|extras| extras.trained != Some(false))
    }
}

/// How a source wrote the content of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Content {
    /// As text.
    #[default]
    Text,
    /// As null.
    Null,
    /// Not at all.
    Missing,
    /// As a list with one part, which is text.
    Part,
}

/// The members of a message other than role and content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// The members that a template may read, such as `tool_calls`, `reasoning_content` or `name`,
    /// under the names and in the order of the source. Null members are omitted.
    pub members: Map<String, Value>,
    /// How the content was written.
    pub content: Content,
    /// Whether the message contributes to the loss, if the source says so.
    pub trained: Option<bool>,
}

impl Extras {
    /// Whether the message cannot be written as role and text alone.
    #[must_use]
    pub fn says_more(&self) -> bool {
        !self.members.is_empty() || self.content != Content::Text
    }
}

/// Members in which an assistant thinks. Templates may leave them out of earlier messages.
pub const REASONING: [&str; 5] =
    ["reasoning_content", "reasoning", "thinking", "thought", "tool_plan"];
/// The member with an assistant's calls.
pub const CALLS: &str = "tool_calls";

/// What a template renders: messages, and what else a row passes to it.
#[derive(Debug, Clone, Copy)]
pub struct Script<'row> {
    /// The messages.
    pub turns: &'row [Turn],
    /// Tools and arguments.
    pub inputs: Option<&'row TemplateInputs>,
}

impl<'row> Script<'row> {
    /// The same for the first messages only.
    #[must_use]
    pub fn until(self, end: usize) -> Script<'row> {
        Script { turns: &self.turns[..end], ..self }
    }
}

impl<'row> From<&'row [Turn]> for Script<'row> {
    fn from(turns: &'row [Turn]) -> Self {
        Script { turns, inputs: None }
    }
}

impl<'row> From<&'row Vec<Turn>> for Script<'row> {
    fn from(turns: &'row Vec<Turn>) -> Self {
        Script { turns, inputs: None }
    }
}

impl<'row, const N: usize> From<&'row [Turn; N]> for Script<'row> {
    fn from(turns: &'row [Turn; N]) -> Self {
        Script { turns, inputs: None }
    }
}

impl<'row> From<&'row Dialogue> for Script<'row> {
    fn from(dialogue: &'row Dialogue) -> Self {
        Script { turns: &dialogue.turns, inputs: dialogue.inputs.as_deref() }
    }
}

/// The parts of a row that are passed to the template in addition to its messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateInputs {
    /// The definitions of the tools that the assistant may call.
    pub tools: Option<Value>,
    /// Further arguments by name, from `chat_template_kwargs`.
    pub args: Map<String, Value>,
}

impl TemplateInputs {
    /// Both as one line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(&(&self.tools, &self.args)).expect("JSON can be written")
    }
}

/// The aspects UltraFeedback rates, in the order of [`Reply::ratings`].
pub const ASPECTS: [&str; 4] = ["instruction_following", "honesty", "truthfulness", "helpfulness"];

/// One scored candidate for the assistant's answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    /// The answer, byte for byte as the source has it.
    pub text: String,
    /// The model that wrote it, if known.
    pub model: Option<String>,
    /// The critique's overall score, 1 to 10.
    pub overall: Option<f64>,
    /// The four aspect ratings from 1 to 5, in the order of [`ASPECTS`]. `None` for `N/A` or a
    /// missing rating.
    pub ratings: [Option<f64>; 4],
    /// The published mean of the ratings, if present.
    pub fine_grained: Option<f64>,
}

/// A preference between two answers.
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

/// An example of a product that is not packed: completions of the prompt, and numbers. The product
/// names both.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The completions.
    pub completions: Vec<String>,
    /// The numbers.
    pub numbers: Vec<Option<f64>>,
}

impl From<Pair> for Example {
    fn from(pair: Pair) -> Example {
        Example {
            completions: vec![pair.chosen, pair.rejected],
            numbers: vec![pair.score_chosen, pair.score_rejected],
        }
    }
}

/// The form of the answer to the last user turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Replies {
    /// The last turn is the answer.
    #[default]
    Inline,
    /// Scored completions, not yet formed into pairs.
    Scored(Vec<Reply>),
    /// A pair that the source formed.
    Pair(Pair),
}

/// One row of any source, in a common form.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dialogue {
    /// The row's ID in the source, if it has one.
    pub id: Option<String>,
    /// The dataset it came from (`truthful_qa`, `sharegpt`, …), if known.
    pub source: Option<String>,
    /// The messages, oldest first.
    pub turns: Vec<Turn>,
    /// The answers to the last user turn.
    pub replies: Replies,
    /// Tools and template arguments. Most rows have neither.
    pub inputs: Option<Box<TemplateInputs>>,
}

impl Dialogue {
    /// The first user turn, from which `prompt` and `prompt_id` are derived. Empty if there is no
    /// user turn.
    #[must_use]
    pub fn prompt(&self) -> &str {
        self.turns.iter().find(|turn| turn.role == Role::User).map_or("", |turn| turn.text.as_str())
    }

    /// The completions for the last turn, each of which would be an assistant message after the
    /// turns. Empty if the turns already contain the answer.
    #[must_use]
    pub fn answers(&self) -> Vec<&str> {
        match &self.replies {
            Replies::Inline => Vec::new(),
            Replies::Scored(replies) => replies.iter().map(|reply| reply.text.as_str()).collect(),
            Replies::Pair(pair) => vec![&pair.chosen, &pair.rejected],
        }
    }

    /// Every text of the assistant: its turns, then the completions.
    pub fn said_by_assistant(&self) -> impl Iterator<Item = &str> {
        let turns = self.turns.iter().filter(|turn| turn.role == Role::Assistant);
        turns.map(|turn| turn.text.as_str()).chain(self.answers())
    }

    /// All other texts that may reach the template: those in members of messages, in tools and in
    /// arguments, the keys of objects included.
    pub fn other_texts(&self) -> impl Iterator<Item = &str> {
        let members = self.turns.iter().filter_map(|turn| turn.extras.as_deref());
        let members = members.flat_map(|extras| extras.members.values());
        let inputs = self.inputs.as_deref();
        let tools = inputs.and_then(|inputs| inputs.tools.as_ref());
        let args = inputs.into_iter().flat_map(|inputs| inputs.args.values());
        let mut texts = Vec::new();
        members.chain(tools).chain(args).for_each(|value| gather(value, &mut texts));
        texts.into_iter()
    }

    /// Every text, for editing: the turns, then the completions.
    pub fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        let answers = match &mut self.replies {
            Replies::Inline => Vec::new(),
            Replies::Scored(replies) => replies.iter_mut().map(|reply| &mut reply.text).collect(),
            Replies::Pair(pair) => vec![&mut pair.chosen, &mut pair.rejected],
        };
        self.turns.iter_mut().map(|turn| &mut turn.text).chain(answers)
    }
}

/// Adds every text within a value.
fn gather<'row>(value: &'row Value, texts: &mut Vec<&'row str>) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| gather(value, texts)),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            texts.push(name);
            gather(value, texts);
        }),
    }
}
