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
use crate::dialogue::{Dialogue, Replies};
use crate::error::{Error, Result};
use crate::pipeline::row::Cleaned;

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
    schema: SchemaRef,
    encoder: Encoder,
    prompts: StringBuilder,
    prompt_ids: StringBuilder,
    messages: Vec<ListBuilder<StructBuilder>>,
    /// Whether another column repeats the first one of `messages`.
    has_copy: bool,
    numbers: Vec<Vec<Option<f64>>>,
}

impl Text {
    /// A new file.
    pub(super) fn create(folder: &OutputDir, split: &str, product: Product) -> Result<Text> {
        let name = format!("{split}-00000.parquet");
        let schema = product.text_schema();
        let (within, columns) = (folder.folder(TEXT)?, Arc::clone(&schema));
        let completions = product.completions();
        let copied = completions.and_then(|all| Some((all.each.first()?.text, all.text_copy?)));
        let table = match copied {
            None => Table::create(&within, &name, columns)?,
            Some((first, copy)) => Table::with_twin(&within, &name, columns, first, copy)?,
        };
        let columns_of_messages = completions.map_or(1, |completions| completions.each.len());
        let messages = (0..columns_of_messages).map(|_| messages_builder()).collect();
        let columns_of_numbers = completions.map_or(0, |completions| completions.numbers.len());
        let (prompts, prompt_ids) = (StringBuilder::new(), StringBuilder::new());
        let file = format!("{TEXT}/{name}");
        Ok(Text {
            file,
            schema,
            encoder: Encoder::start(table),
            prompts,
            prompt_ids,
            messages,
            has_copy: copied.is_some(),
            numbers: vec![Vec::new(); columns_of_numbers],
        })
    }

    /// Appends the text of a row that is written: of its examples, or of the dialogue if it has none.
    pub(super) fn push(&mut self, prompt_id: &str, cleaned: &Cleaned) -> Result<()> {
        let dialogue = &cleaned.dialogue;
        if cleaned.examples.is_empty() {
            self.append(prompt_id, dialogue, &[None], &[]);
        }
        for example in &cleaned.examples {
            let answers: Vec<_> = example.completions.iter().map(|text| Some(&**text)).collect();
            self.append(prompt_id, dialogue, &answers, &example.numbers);
        }
        if ArrayBuilder::len(&self.prompts) >= BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn append(
        &mut self,
        prompt_id: &str,
        dialogue: &Dialogue,
        answers: &[Option<&str>],
        numbers: &[Option<f64>],
    ) {
        self.prompts.append_value(dialogue.prompt());
        self.prompt_ids.append_value(prompt_id);
        for (builder, answer) in self.messages.iter_mut().zip(answers) {
            append_messages(builder, &with_answer(dialogue, *answer));
        }
        for (column, number) in self.numbers.iter_mut().zip(numbers) {
            column.push(*number);
        }
    }

    fn flush(&mut self) -> Result<()> {
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(self.prompts.finish()), Arc::new(self.prompt_ids.finish())];
        columns
            .extend(self.messages.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        if self.has_copy {
            columns.push(Arc::clone(&columns[2]));
        }
        let numbers = self.numbers.iter_mut().map(std::mem::take);
        columns.extend(numbers.map(|numbers| Arc::new(Float64Array::from(numbers)) as ArrayRef));
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

/// Messages of a dialogue with its answer, as the text files hold them.
fn with_answer<'row>(
    dialogue: &'row Dialogue,
    answer: Option<&'row str>,
) -> Vec<(&'row str, &'row str)> {
    debug_assert!(
        answer.is_none() || dialogue.replies == Replies::Inline,
        "the completions of a row must be in its examples"
    );
    let turns = dialogue.turns.iter().map(|turn| (turn.role.name(), turn.text.as_str()));
    turns.chain(answer.map(|answer| ("assistant", answer))).collect()
}
