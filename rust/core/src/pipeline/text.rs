//! The cleaned text of one split beside its tokens, as Parquet, in the schema of the published Zephyr sets.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::manifest::TextCard;
use crate::out_folder::OutFolder;
use crate::recipe::Command;
use crate::table::Table;
use crate::walk::{Alive, with_answer};

/// Rows gathered before they go to the file.
const BATCH_ROWS: usize = 1_024;

/// The file on its way.
pub(super) struct Text {
    file: String,
    command: Command,
    schema: SchemaRef,
    table: Table,
    prompts: Vec<String>,
    prompt_ids: Vec<String>,
    messages: Vec<ListBuilder<StructBuilder>>,
    scores: [Vec<Option<f64>>; 2],
}

impl Text {
    /// A new file.
    pub(super) fn create(folder: &OutFolder, split: &str, command: Command) -> Result<Text> {
        let file = format!("text/{split}-00000.parquet");
        let schema = schema_of(command);
        let table = Table::create(&folder.path().join(&file), Arc::clone(&schema))?;
        let messages = (0..if command == Command::Prep { 1 } else { 2 }).map(|_| messages_builder()).collect();
        Ok(Text { file, command, schema, table, prompts: Vec::new(), prompt_ids: Vec::new(), messages, scores: [Vec::new(), Vec::new()] })
    }

    /// Appends the text of a row that is written.
    pub(super) fn push(&mut self, prompt_id: &str, alive: &Alive) -> Result<()> {
        let dialogue = &alive.dialogue;
        let mut push = |answers: &[Option<&str>], scores: [Option<f64>; 2]| {
            self.prompts.push(dialogue.prompt().to_owned());
            self.prompt_ids.push(prompt_id.to_owned());
            for (builder, answer) in self.messages.iter_mut().zip(answers) {
                append_messages(builder, &with_answer(dialogue, *answer));
            }
            for (column, score) in self.scores.iter_mut().zip(scores) {
                column.push(score);
            }
        };
        match self.command {
            Command::Prep => push(&[None], [None, None]),
            Command::Binarize => {
                for pair in &alive.pairs {
                    push(&[Some(&pair.chosen), Some(&pair.rejected)], [pair.score_chosen, pair.score_rejected]);
                }
            }
        }
        if self.prompts.len() >= BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let text = |texts: &mut Vec<String>| -> ArrayRef { Arc::new(StringArray::from(std::mem::take(texts))) };
        let mut columns = vec![text(&mut self.prompts), text(&mut self.prompt_ids)];
        columns.extend(self.messages.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        if self.command == Command::Binarize {
            // `messages` repeats `chosen`, as in the published set.
            columns.push(Arc::clone(&columns[2]));
            columns.extend(self.scores.iter_mut().map(|scores| Arc::new(Float64Array::from(std::mem::take(scores))) as ArrayRef));
        }
        self.scores = [Vec::new(), Vec::new()];
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| Error::Internal(error.to_string()))?;
        self.table.write(&batch)
    }

    /// Ends the file.
    pub(super) fn commit(mut self) -> Result<TextCard> {
        self.flush()?;
        let rows = self.table.rows();
        let committed = self.table.commit()?;
        Ok(TextCard { file: self.file, rows, bytes: committed.bytes, sha256: committed.sha256 })
    }
}

fn message_fields() -> Fields {
    Fields::from(vec![Field::new("content", DataType::Utf8, true), Field::new("role", DataType::Utf8, true)])
}

fn messages_builder() -> ListBuilder<StructBuilder> {
    ListBuilder::new(StructBuilder::from_fields(message_fields(), 0))
}

fn append_messages(builder: &mut ListBuilder<StructBuilder>, messages: &[(&str, &str)]) {
    for (role, content) in messages {
        let message = builder.values();
        for (field, text) in [(0, content), (1, role)] {
            message.field_builder::<StringBuilder>(field).expect("both fields are strings").append_value(text);
        }
        message.append(true);
    }
    builder.append(true);
}

fn schema_of(command: Command) -> SchemaRef {
    let messages = || DataType::List(Arc::new(Field::new("item", DataType::Struct(message_fields()), true)));
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let columns = match command {
        Command::Prep => vec![text("prompt"), text("prompt_id"), Field::new("messages", messages(), true)],
        Command::Binarize => vec![
            text("prompt"),
            text("prompt_id"),
            Field::new("chosen", messages(), true),
            Field::new("rejected", messages(), true),
            Field::new("messages", messages(), true),
            Field::new("score_chosen", DataType::Float64, true),
            Field::new("score_rejected", DataType::Float64, true),
        ],
    };
    Arc::new(Schema::new(columns))
}
