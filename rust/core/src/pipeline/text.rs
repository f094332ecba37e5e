//! Writes the cleaned text of a split as Parquet, in the schema of the published Zephyr datasets.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use arrow_array::builder::{ArrayBuilder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, Float64Array, RecordBatch};
use arrow_schema::SchemaRef;

use crate::dataset::layout::TEXT;
use crate::dataset::manifest::TextEntry;
use crate::dataset::out_folder::OutputDir;
use crate::dataset::product::{Product, message_fields};
use crate::dataset::table::Table;
use crate::error::{Error, Result};
use crate::pipeline::row::{Cleaned, with_answer};

/// The version of the format of these files.
pub(super) const VERSION: u32 = 1;
/// Rows gathered before they go to the file: few enough that their buffers are used again instead
/// of being asked of the system.
const BATCH_ROWS: usize = 256;
/// Batches that may wait for compression, some megabyte each.
const BATCHES_WAITING: usize = 4;

/// A text file that is being written.
pub(super) struct Text {
    file: String,
    product: Product,
    schema: SchemaRef,
    encoder: Encoder,
    prompts: StringBuilder,
    prompt_ids: StringBuilder,
    messages: Vec<ListBuilder<StructBuilder>>,
    scores: [Vec<Option<f64>>; 2],
}

impl Text {
    /// A new file.
    pub(super) fn create(folder: &OutputDir, split: &str, product: Product) -> Result<Text> {
        let name = format!("{split}-00000.parquet");
        let schema = product.text_schema();
        let (within, columns) = (folder.folder(TEXT)?, Arc::clone(&schema));
        let table = match product {
            Product::Windows => Table::create(&within, &name, columns)?,
            // `messages` repeats `chosen`, as in the published set.
            Product::Pairs => Table::with_twin(&within, &name, columns, "chosen", "messages")?,
        };
        let columns_of_messages = match product {
            Product::Windows => 1,
            Product::Pairs => 2,
        };
        let messages = (0..columns_of_messages).map(|_| messages_builder()).collect();
        let (prompts, prompt_ids) = (StringBuilder::new(), StringBuilder::new());
        let file = format!("{TEXT}/{name}");
        Ok(Text {
            file,
            product,
            schema,
            encoder: Encoder::start(table),
            prompts,
            prompt_ids,
            messages,
            scores: [Vec::new(), Vec::new()],
        })
    }

    /// Appends the text of a row that is written.
    pub(super) fn push(&mut self, prompt_id: &str, cleaned: &Cleaned) -> Result<()> {
        let dialogue = &cleaned.dialogue;
        let mut push = |answers: &[Option<&str>], scores: [Option<f64>; 2]| {
            self.prompts.append_value(dialogue.prompt());
            self.prompt_ids.append_value(prompt_id);
            for (builder, answer) in self.messages.iter_mut().zip(answers) {
                append_messages(builder, &with_answer(dialogue, *answer));
            }
            for (column, score) in self.scores.iter_mut().zip(scores) {
                column.push(score);
            }
        };
        match self.product {
            Product::Windows => push(&[None], [None, None]),
            Product::Pairs => {
                for pair in &cleaned.pairs {
                    push(
                        &[Some(&pair.chosen), Some(&pair.rejected)],
                        [pair.score_chosen, pair.score_rejected],
                    );
                }
            }
        }
        if ArrayBuilder::len(&self.prompts) >= BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(self.prompts.finish()), Arc::new(self.prompt_ids.finish())];
        columns
            .extend(self.messages.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        let scores = self.scores.iter_mut().map(std::mem::take);
        match self.product {
            Product::Windows => {}
            Product::Pairs => {
                columns.push(Arc::clone(&columns[2]));
                columns
                    .extend(scores.map(|scores| Arc::new(Float64Array::from(scores)) as ArrayRef));
            }
        }
        self.scores = [Vec::new(), Vec::new()];
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|error| Error::Internal(error.to_string()))?;
        self.encoder.write(batch)
    }

    /// Ends the file.
    pub(super) fn commit(mut self) -> Result<TextEntry> {
        self.flush()?;
        let table = self.encoder.end()?;
        let rows = table.rows();
        let committed = table.commit()?;
        Ok(TextEntry { file: self.file, rows, bytes: committed.bytes, sha256: committed.sha256 })
    }
}

/// Compresses batches and writes them, in order, on a separate thread, since this is as slow as the
/// tokenizer and row groups are written one by one.
struct Encoder {
    batches: Option<SyncSender<RecordBatch>>,
    thread: Option<JoinHandle<Result<Table>>>,
}

impl Encoder {
    fn start(mut table: Table) -> Encoder {
        let (batches, received) = sync_channel::<RecordBatch>(BATCHES_WAITING);
        let thread = std::thread::spawn(move || {
            for batch in received {
                table.write(&batch)?;
            }
            Ok(table)
        });
        Encoder { batches: Some(batches), thread: Some(thread) }
    }

    fn write(&mut self, batch: RecordBatch) -> Result<()> {
        match self.batches.as_ref().map(|batches| batches.send(batch)) {
            Some(Ok(())) => Ok(()),
            // The thread has stopped, and its result contains the error.
            _ => self
                .end()
                .and(Err(Error::Internal("text was written after the file was closed".to_owned()))),
        }
    }

    /// The table with all its batches.
    fn end(&mut self) -> Result<Table> {
        self.batches = None;
        let thread = self
            .thread
            .take()
            .ok_or_else(|| Error::Internal("a text file was closed twice".to_owned()))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Encoder {
    /// Stops writing once a run has failed.
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn messages_builder() -> ListBuilder<StructBuilder> {
    ListBuilder::new(StructBuilder::from_fields(message_fields(), 0))
}

fn append_messages(builder: &mut ListBuilder<StructBuilder>, messages: &[(&str, &str)]) {
    for (role, content) in messages {
        let message = builder.values();
        for (field, text) in [(0, content), (1, role)] {
            message
                .field_builder::<StringBuilder>(field)
                .expect("both fields of a message must be strings")
                .append_value(text);
        }
        message.append(true);
    }
    builder.append(true);
}
