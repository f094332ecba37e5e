//! `[template]` and `[tokenize]`: how text becomes tokens and which of them are trained.

use serde::{Deserialize, Serialize, Serializer};

/// `[template]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Template {
    /// `auto` (the tokenizer's own, or `zephyr` if it has none), `tokenizer` (the tokenizer's own),
    /// a bundled name, or the path of a `.jinja` file.
    #[serde(serialize_with = "base_name")]
    pub name: String,
    /// The date, as `2024-07-26`, that `strftime_now` returns. Required by templates that call it,
    /// such as those of Llama 3.1 to 3.3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Further arguments of the template, such as `enable_thinking = false`.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub args: serde_json::Map<String, serde_json::Value>,
}

impl Default for Template {
    fn default() -> Template {
        Template { name: "auto".to_owned(), date: None, args: serde_json::Map::new() }
    }
}

/// The path of a file does not affect the output, so only its name is recorded.
fn base_name<S: Serializer>(name: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.rsplit(['/', '\\']).next().unwrap_or(name))
}

/// `[tokenize]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tokenize {
    /// The tokenizer to use without `--tokenizer`: an id on the Hugging Face Hub, or
    /// a directory.
    #[serde(skip_serializing)]
    pub tokenizer: Option<String>,
    /// Which tokens are trained.
    pub train_on: TrainOn,
    /// Action on a chat template that writes no token at the end of an assistant message.
    pub train_end: TrainEnd,
    /// Action on rows whose content contains the text of a control token.
    pub control_tokens: Policy,
}

impl Default for Tokenize {
    fn default() -> Tokenize {
        Tokenize {
            tokenizer: None,
            train_on: TrainOn::Assistant,
            train_end: TrainEnd::Require,
            control_tokens: Policy::Quarantine,
        }
    }
}

named! {
    /// Action on a row whose content contains one.
    pub enum Policy {
        /// Quarantine the row, unchanged.
        Quarantine "quarantine",
        /// Insert a space after the first character of each, `< /s>` for `</s>`, and keep the row.
        /// It reads the same to a person, but neither tokenizer nor template can read it as the
        /// token. Encoding it as text is not enough: Zephyr's role markers are text already.
        Neutralize "neutralize",
        /// Keep the row. The tokenizer reads the text as the control token.
        Allow "allow",
    }
}

named! {
    /// Which tokens carry a label.
    pub enum TrainOn {
        /// Every assistant message and the token that ends it.
        Assistant "assistant",
        /// The last assistant message and the token that ends it.
        Last "last",
        /// The assistant messages after the last user message, and the tokens that end them.
        Completion "completion",
        /// Every token, as the original Zephyr run did.
        All "all",
    }
}

named! {
    /// Action on a chat template that does not write a token at the end of every assistant message.
    /// A model that is not trained on one does not learn to stop.
    pub enum TrainEnd {
        /// Refuse the template.
        Require "require",
        /// Append the token that the template writes between messages, or EOS, to an assistant
        /// message that ends a dialogue without one, and train it. The text then differs from that
        /// of the template.
        Append "append",
        /// Train what the template writes, with or without an end.
        AsIs "as-is",
    }
}
