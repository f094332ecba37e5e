//! The products of a run: packed sequences of dialogues, or completions of prompts such as pairs.
//! Everything in which their files differ is an entry of [`Facts`] here. How their examples are made
//! of rows is in `pipeline/product`.

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

/// The properties of a product.
#[derive(Debug)]
pub struct Facts {
    /// The manifest's word for it.
    pub word: &'static str,
    /// The command that builds it. If a table of the recipe is for this product alone, it has this
    /// name.
    pub command: &'static str,
    /// The training method that uses it.
    pub act: &'static str,
    /// Its description in the dataset card.
    pub described: &'static str,
    /// That of a dataset without tokens.
    pub described_text: &'static str,
    /// The completions of an example, or `None` if its examples are packed dialogues.
    pub completions: Option<Completions>,
}

/// What an example of a product has that is not packed.
#[derive(Debug)]
pub struct Completions {
    /// The plural name of its examples.
    pub unit: &'static str,
    /// Its completions of the prompt.
    pub each: &'static [Completion],
    /// Its numbers: the names of their columns, with descriptions.
    pub numbers: &'static [(&'static str, &'static str)],
    /// The column with its index among the examples of its row, with a description.
    pub index: (&'static str, &'static str),
    /// A column of the text that repeats that of the first completion.
    pub text_copy: Option<&'static str>,
}

/// A completion of an example.
#[derive(Debug)]
pub struct Completion {
    /// The column with its messages in the text.
    pub text: &'static str,
    /// The column with its token ids in the shards.
    pub ids: &'static str,
    /// Which completion it is, for descriptions.
    pub described: &'static str,
}

const WINDOWS: Facts = Facts {
    word: "sft",
    command: "prep",
    act: "sft",
    described: "packed sequences for supervised fine-tuning",
    described_text: "dialogues for supervised fine-tuning",
    completions: None,
};

const PAIRS: Facts = Facts {
    word: "preference",
    command: "binarize",
    act: "dpo",
    described: "preference pairs",
    described_text: "preference pairs",
    completions: Some(Completions {
        unit: "pairs",
        each: &[
            Completion { text: "chosen", ids: "chosen_ids", described: "the chosen completion" },
            Completion {
                text: "rejected",
                ids: "rejected_ids",
                described: "the rejected completion",
            },
        ],
        numbers: &[
            ("score_chosen", "Score of the chosen completion, if the source has scores."),
            ("score_rejected", "Score of the rejected completion, if the source has scores."),
        ],
        index: ("pair", "Index of the pair among those of its row, from 0."),
        // As in the published datasets.
        text_copy: Some("messages"),
    }),
};

/// A column with its description.
type Column = (Field, String);

impl Product {
    /// All products.
    pub const ALL: [Product; 2] = [Product::Windows, Product::Pairs];

    /// Its properties.
    #[must_use]
    pub fn facts(self) -> &'static Facts {
        match self {
            Product::Windows => &WINDOWS,
            Product::Pairs => &PAIRS,
        }
    }

    /// The command that builds it.
    #[must_use]
    pub fn command(self) -> &'static str {
        self.facts().command
    }

    /// Returns the product of a command.
    pub fn of_command(command: &str) -> Result<Product> {
        let known = Product::ALL.into_iter().find(|product| product.command() == command);
        known.ok_or_else(|| Error::Internal(format!("unknown command `{command}`")))
    }

    /// The completions of an example, or `None` if its examples are packed dialogues.
    #[must_use]
    pub fn completions(self) -> Option<&'static Completions> {
        self.facts().completions.as_ref()
    }

    /// Whether its examples are packed dialogues.
    #[must_use]
    pub fn is_packed(self) -> bool {
        self.completions().is_none()
    }

    /// The columns of its shards that training reads.
    #[must_use]
    pub fn trained_columns(self) -> Vec<&'static str> {
        match self.completions() {
            None => vec!["input_ids", "labels", "seq_lengths"],
            Some(completions) => {
                let ids = completions.each.iter().map(|completion| completion.ids);
                std::iter::once("prompt_ids").chain(ids).collect()
            }
        }
    }

    /// Its description in the dataset card.
    #[must_use]
    pub fn described(self, has_tokens: bool) -> &'static str {
        if has_tokens { self.facts().described } else { self.facts().described_text }
    }

    /// Number of text rows of a split.
    #[must_use]
    pub fn text_rows(self, split: &Split) -> u64 {
        if self.is_packed() { split.rows } else { split.examples }
    }

    /// The columns of its shards: the names that TRL's collators expect, and the origin of each
    /// row.
    #[must_use]
    pub fn shard_schema(self) -> SchemaRef {
        schema(self.shard_columns())
    }

    /// The columns of its text, as in the published Zephyr datasets.
    #[must_use]
    pub fn text_schema(self) -> SchemaRef {
        schema(self.text_columns())
    }

    /// The columns of its shards, with descriptions.
    pub(super) fn shard_columns(self) -> Vec<Column> {
        let ids = |name: &str, described: &str| {
            (Field::new(name, list(DataType::Int32), false), described.to_owned())
        };
        let Some(completions) = self.completions() else {
            let row_ids = Field::new("row_ids", list(DataType::Int64), false);
            return vec![
                ids("input_ids", "Token ids of the documents in this sequence, in a row."),
                ids(
                    "labels",
                    "Label of each token: its id, or -100 if no loss is computed for it.",
                ),
                ids("seq_lengths", "Number of tokens of each document."),
                (row_ids, "`row_id` of the input row of each document.".to_owned()),
            ];
        };
        let mut columns = vec![ids("prompt_ids", "Token ids of the prompt.")];
        columns.extend(completions.each.iter().map(|completion| {
            ids(completion.ids, &format!("Token ids of {}.", completion.described))
        }));
        columns.extend(completions.number_columns());
        let row_id = Field::new("row_id", DataType::Int64, false);
        columns.push((row_id, "`row_id` of the input row.".to_owned()));
        let (name, described) = completions.index;
        columns.push((Field::new(name, DataType::Int32, false), described.to_owned()));
        columns
    }

    /// The columns of its text, with descriptions.
    pub(super) fn text_columns(self) -> Vec<Column> {
        let text = |name: &str, described: &str| {
            (Field::new(name, DataType::Utf8, true), described.to_owned())
        };
        let messages = |name: &str, described: String| {
            let message = Field::new("item", DataType::Struct(message_fields()), true);
            (Field::new(name, DataType::List(Arc::new(message)), true), described)
        };
        let mut columns = vec![
            text("prompt", "First user message."),
            text("prompt_id", "SHA-256 of the prompt."),
        ];
        let Some(completions) = self.completions() else {
            columns.push(messages("messages", "Messages of the dialogue.".to_owned()));
            return columns;
        };
        columns.extend(completions.each.iter().map(|completion| {
            let described = format!("Messages of the prompt and {}.", completion.described);
            messages(completion.text, described)
        }));
        columns.extend(
            completions
                .text_copy
                .map(|name| messages(name, format!("The same as `{}`.", completions.each[0].text))),
        );
        columns.extend(completions.number_columns());
        columns
    }
}

impl Completions {
    fn number_columns(&self) -> impl Iterator<Item = Column> {
        let column = |(name, described): &(&str, &str)| {
            (Field::new(*name, DataType::Float64, true), (*described).to_owned())
        };
        self.numbers.iter().map(column)
    }
}

fn schema(columns: Vec<Column>) -> SchemaRef {
    let fields: Vec<Field> = columns.into_iter().map(|(field, _)| field).collect();
    Arc::new(Schema::new(fields))
}

fn list(kind: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", kind, true)))
}

/// The fields of a message in the text.
#[must_use]
pub fn message_fields() -> Fields {
    Fields::from(vec![
        Field::new("content", DataType::Utf8, true),
        Field::new("role", DataType::Utf8, true),
    ])
}
