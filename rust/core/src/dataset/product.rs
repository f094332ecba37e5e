//! What a run makes: windows of dialogues, or pairs of answers. All in which the products differ
//! stands here; whoever needs more asks by `match`, so that the compiler names every place that a
//! new one is missing from.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::dataset::manifest::Split;
use crate::error::{Error, Result};

/// What the rows of a data set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Product {
    /// Packed windows of dialogues, with labels.
    #[serde(rename = "sft")]
    Windows,
    /// Pairs of answers to one prompt.
    #[serde(rename = "preference")]
    Pairs,
}

impl Product {
    /// All products.
    pub const ALL: [Product; 2] = [Product::Windows, Product::Pairs];

    /// The manifest's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Product::Windows => "sft",
            Product::Pairs => "preference",
        }
    }

    /// The command that makes it.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Product::Windows => "prep",
            Product::Pairs => "binarize",
        }
    }

    /// What a command makes.
    pub fn of_command(command: &str) -> Result<Product> {
        let known = Product::ALL.into_iter().find(|product| product.command() == command);
        known.ok_or_else(|| Error::Internal(format!("unknown command `{command}`")))
    }

    /// The act of training that takes it.
    #[must_use]
    pub fn act(self) -> &'static str {
        match self {
            Product::Windows => "sft",
            Product::Pairs => "dpo",
        }
    }

    /// The columns of its shards that are trained on.
    #[must_use]
    pub fn trained_columns(self) -> &'static [&'static str] {
        match self {
            Product::Windows => &["input_ids", "labels", "seq_lengths"],
            Product::Pairs => &["prompt_ids", "chosen_ids", "rejected_ids"],
        }
    }

    /// What the data card calls it.
    #[must_use]
    pub fn described(self, has_tokens: bool) -> &'static str {
        match (self, has_tokens) {
            (Product::Windows, true) => "packed sequences for supervised fine-tuning",
            (Product::Windows, false) => "dialogues for supervised fine-tuning",
            (Product::Pairs, _) => "preference pairs",
        }
    }

    /// Rows of text that a split has.
    #[must_use]
    pub fn text_rows(self, split: &Split) -> u64 {
        match self {
            Product::Windows => split.rows,
            Product::Pairs => split.examples,
        }
    }

    /// The columns of its shards: names that TRL's collators want, and where a row is from.
    #[must_use]
    pub fn shard_schema(self) -> SchemaRef {
        let list = |kind| DataType::List(Arc::new(Field::new("item", kind, true)));
        let ids = |name: &str| Field::new(name, list(DataType::Int32), false);
        let score = |name: &str| Field::new(name, DataType::Float64, true);
        Arc::new(Schema::new(match self {
            Product::Windows => {
                vec![
                    ids("input_ids"),
                    ids("labels"),
                    ids("seq_lengths"),
                    Field::new("row_ids", list(DataType::Int64), false),
                ]
            }
            Product::Pairs => vec![
                ids("prompt_ids"),
                ids("chosen_ids"),
                ids("rejected_ids"),
                score("score_chosen"),
                score("score_rejected"),
                Field::new("row_id", DataType::Int64, false),
                Field::new("pair", DataType::Int32, false),
            ],
        }))
    }

    /// The columns of its text, as the published Zephyr sets have them.
    #[must_use]
    pub fn text_schema(self) -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let message = || Field::new("item", DataType::Struct(message_fields()), true);
        let messages = |name: &str| Field::new(name, DataType::List(Arc::new(message())), true);
        let score = |name: &str| Field::new(name, DataType::Float64, true);
        Arc::new(Schema::new(match self {
            Product::Windows => vec![text("prompt"), text("prompt_id"), messages("messages")],
            Product::Pairs => vec![
                text("prompt"),
                text("prompt_id"),
                messages("chosen"),
                messages("rejected"),
                messages("messages"),
                score("score_chosen"),
                score("score_rejected"),
            ],
        }))
    }
}

/// The fields of one message of a text.
#[must_use]
pub fn message_fields() -> Fields {
    Fields::from(vec![
        Field::new("content", DataType::Utf8, true),
        Field::new("role", DataType::Utf8, true),
    ])
}
