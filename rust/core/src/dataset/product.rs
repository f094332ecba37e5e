//! The products of a run: packed sequences of dialogues, or pairs of completions. Everything in
//! which they differ is here. Other code uses `match`, so the compiler lists every spot that a new
//! product needs.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::dataset::manifest::Split;
use crate::error::{Error, Result};

/// The kind of dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Product {
    /// Packed sequences of dialogues, with labels.
    #[serde(rename = "sft")]
    Windows,
    /// Pairs of completions to a prompt.
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

    /// The command that builds it.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Product::Windows => "prep",
            Product::Pairs => "binarize",
        }
    }

    /// Returns the product of a command.
    pub fn of_command(command: &str) -> Result<Product> {
        let known = Product::ALL.into_iter().find(|product| product.command() == command);
        known.ok_or_else(|| Error::Internal(format!("unknown command `{command}`")))
    }

    /// The training method that uses it.
    #[must_use]
    pub fn act(self) -> &'static str {
        match self {
            Product::Windows => "sft",
            Product::Pairs => "dpo",
        }
    }

    /// The columns of its shards that training reads.
    #[must_use]
    pub fn trained_columns(self) -> &'static [&'static str] {
        match self {
            Product::Windows => &["input_ids", "labels", "seq_lengths"],
            Product::Pairs => &["prompt_ids", "chosen_ids", "rejected_ids"],
        }
    }

    /// Its description in the dataset card.
    #[must_use]
    pub fn described(self, has_tokens: bool) -> &'static str {
        match (self, has_tokens) {
            (Product::Windows, true) => "packed sequences for supervised fine-tuning",
            (Product::Windows, false) => "dialogues for supervised fine-tuning",
            (Product::Pairs, _) => "preference pairs",
        }
    }

    /// Number of text rows of a split.
    #[must_use]
    pub fn text_rows(self, split: &Split) -> u64 {
        match self {
            Product::Windows => split.rows,
            Product::Pairs => split.examples,
        }
    }

    /// The columns of its shards: the names that TRL's collators expect, and the origin of each
    /// row.
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

    /// The columns of its text, as in the published Zephyr datasets.
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

/// The fields of a message in the text.
#[must_use]
pub fn message_fields() -> Fields {
    Fields::from(vec![
        Field::new("content", DataType::Utf8, true),
        Field::new("role", DataType::Utf8, true),
    ])
}
