//! Encodes dialogues as an Arrow table: template and tokenizer without the rest of the pipeline.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, GenericListArray, PrimitiveArray, RecordBatch, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field};
use rayon::prelude::*;

use super::explain::template_of;
use crate::dialogue::{Dialogue, Role, Turn};
use crate::error::{Error, Result};
use crate::progress::Watch;
use crate::read::shape::unread::Unread;
use crate::read::shape::{self, Shape};
use crate::sample::append_labels;
use crate::stage::Reason;
use crate::template::Template;
use crate::tokenize::Tokenizer;

/// Dialogues that a thread encodes together, with the same memory for each of them.
const BATCH_ROWS: usize = 256;
/// Tokens or bytes of text at which a batch ends early. Arrow counts them in 31 bits.
const BATCH_LENGTH: usize = 1 << 24;

/// How dialogues are encoded: the path of a tokenizer, the name or path of a template, whether to
/// add the IDs that the tokenizer prepends to every text, and whether to return the text.
pub type With = (PathBuf, String, bool, bool);

/// A dialogue: a row with `messages` as JSON, or, if that is empty, the role and the content of each
/// message. Writing JSON would be the slowest step.
pub type Row = (String, Vec<(String, String)>);

/// Encodes dialogues. Returns an Arrow IPC stream with the columns `input_ids`, `labels` and, if
/// requested, `text`. Nothing is truncated. Fails at the first dialogue that has no tokens.
pub fn encode(with: &With, rows: Vec<Row>, watch: &Watch) -> Result<Vec<u8>> {
    let tokenizer = Tokenizer::load(&with.0)?;
    let template = template_of(&with.1, &tokenizer)?;
    let shape = shape::named("messages")?;
    let encoder = Encoder { tokenizer, template, shape, leads: with.2, has_text: with.3 };
    let failed = AtomicUsize::new(usize::MAX);
    let batches: Vec<Result<Vec<Columns>>> = rows
        .into_par_iter()
        .chunks(BATCH_ROWS)
        .enumerate()
        .map(|(number, rows)| {
            // What comes after a failure is not returned.
            if failed.load(Relaxed) < number {
                return Ok(Vec::new());
            }
            let batches = encoder.encode(number * BATCH_ROWS, rows, watch);
            if batches.is_err() {
                failed.fetch_min(number, Relaxed);
            }
            batches
        })
        .collect();
    encoder.stream(batches)
}

struct Encoder {
    tokenizer: Tokenizer,
    template: Template,
    shape: &'static Shape,
    leads: bool,
    has_text: bool,
}

/// The values of a batch, with the length of each row's part.
#[derive(Default)]
struct Columns {
    ids: Vec<i32>,
    labels: Vec<i32>,
    tokens: Vec<usize>,
    text: String,
    bytes: Vec<usize>,
}

impl Encoder {
    /// Encodes rows, of which the first has that number.
    fn encode(&self, first: usize, rows: Vec<Row>, watch: &Watch) -> Result<Vec<Columns>> {
        let (mut batches, mut columns) = (Vec::new(), Columns::default());
        for (number, row) in rows.into_iter().enumerate() {
            watch.check()?;
            self.add(row, &mut columns).map_err(|reason| {
                let number = first + number;
                let (code, detail) = (reason.code.word(), reason.detail.unwrap_or_default());
                Error::Input(format!("cannot encode dialogue {number}: {code}: {detail}"))
            })?;
            if columns.ids.len().max(columns.text.len()) >= BATCH_LENGTH {
                batches.push(std::mem::take(&mut columns));
            }
        }
        batches.push(columns);
        Ok(batches)
    }

    fn add(&self, row: Row, columns: &mut Columns) -> std::result::Result<(), Reason> {
        let dialogue = match row {
            (json, messages) if json.is_empty() => {
                shape::check_count(messages.len())?;
                let turn = |(role, text): (String, String)| Turn::new(Role::named(role), text);
                let turns = messages.into_iter().map(turn).collect();
                Dialogue { turns, ..Dialogue::default() }
            }
            (json, _) => self.shape.parse_whole(json.as_bytes(), &mut Unread::default())?,
        };
        let rendered = self.template.render(&dialogue)?;
        let sample = if self.leads {
            self.tokenizer.sample(&rendered.text, &rendered.trained)?
        } else {
            self.tokenizer.sample_of_text(&rendered.text, &rendered.trained)?
        };
        columns.ids.extend(sample.ids.iter().map(|id| *id as i32));
        append_labels(&sample.ids, &sample.trained, &mut columns.labels);
        columns.tokens.push(sample.ids.len());
        if self.has_text {
            columns.text.push_str(&rendered.text);
            columns.bytes.push(rendered.text.len());
        }
        Ok(())
    }

    /// Writes the batches up to the first that failed, whose error is returned.
    fn stream(&self, batches: Vec<Result<Vec<Columns>>>) -> Result<Vec<u8>> {
        let failed = |error: ArrowError| Error::Internal(error.to_string());
        let schema = self.batch(Columns::default()).map_err(failed)?.schema();
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(failed)?;
        for batches in batches {
            for columns in batches? {
                let batch = self.batch(columns).map_err(failed)?;
                writer.write(&batch).map_err(failed)?;
            }
        }
        writer.into_inner().map_err(failed)
    }

    fn batch(&self, columns: Columns) -> std::result::Result<RecordBatch, ArrowError> {
        let Columns { ids, labels, tokens, text, bytes } = columns;
        let list = |values: Vec<i32>| -> std::result::Result<ArrayRef, ArrowError> {
            let item = Arc::new(Field::new_list_field(DataType::Int32, true));
            let offsets = OffsetBuffer::from_lengths(tokens.iter().copied());
            let values = Arc::new(PrimitiveArray::<Int32Type>::new(values.into(), None));
            Ok(Arc::new(GenericListArray::<i32>::try_new(item, offsets, values, None)?))
        };
        let mut named = vec![("input_ids", list(ids)?), ("labels", list(labels)?)];
        if self.has_text {
            let offsets = OffsetBuffer::from_lengths(bytes);
            let texts = StringArray::try_new(offsets, Buffer::from(text.into_bytes()), None)?;
            named.push(("text", Arc::new(texts)));
        }
        RecordBatch::try_from_iter(named)
    }
}
