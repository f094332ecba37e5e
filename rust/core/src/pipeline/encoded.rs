//! Encodes dialogues as an Arrow table: template and tokenizer without the rest of the pipeline.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder, StringBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use rayon::prelude::*;

use super::explain::template_of;
use crate::error::{Error, Result};
use crate::progress::Watch;
use crate::read::shape;
use crate::read::shape::unread::Unread;
use crate::sample::Sample;
use crate::stage::Reason;
use crate::tokenize::Tokenizer;

/// Dialogues per batch.
const BATCH_ROWS: usize = 1_024;

/// How dialogues are encoded: the path of a tokenizer, the name or path of a template, and whether
/// to add the IDs that the tokenizer prepends to every text.
pub type With = (PathBuf, String, bool);

/// Encodes rows with `messages`, one JSON object per line. Returns an Arrow IPC stream with the
/// columns `input_ids`, `labels` and `text`. Nothing is truncated. Fails at the first row that has
/// no tokens.
pub fn encode((tokenizer, template, leads): &With, rows: &str, watch: &Watch) -> Result<Vec<u8>> {
    let tokenizer = Tokenizer::load(tokenizer)?;
    let template = template_of(template, &tokenizer)?;
    let shape = shape::named("messages")?;
    let encoded = |row: &str| -> std::result::Result<(Sample, String), Reason> {
        let dialogue = shape.parse_whole(row.as_bytes(), &mut Unread::default())?;
        let rendered = template.render(&dialogue)?;
        let sample = if *leads {
            tokenizer.sample(&rendered.text, &rendered.trained)?
        } else {
            tokenizer.sample_of_text(&rendered.text, &rendered.trained)?
        };
        Ok((sample, rendered.text.clone()))
    };
    let rows: Vec<&str> = rows.lines().collect();
    let samples = rows
        .par_iter()
        .enumerate()
        .map(|(number, row)| {
            watch.check()?;
            encoded(row).map_err(|reason| {
                let (code, detail) = (reason.code.word(), reason.detail.unwrap_or_default());
                Error::Input(format!("cannot encode dialogue {number}: {code}: {detail}"))
            })
        })
        .collect::<Result<Vec<_>>>()?;
    stream(&samples).map_err(|error| Error::Internal(error.to_string()))
}

fn stream(samples: &[(Sample, String)]) -> std::result::Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch(&[])?.schema())?;
    for samples in samples.chunks(BATCH_ROWS) {
        writer.write(&batch(samples)?)?;
    }
    writer.into_inner()
}

fn batch(samples: &[(Sample, String)]) -> std::result::Result<RecordBatch, ArrowError> {
    let mut ids = ListBuilder::new(Int32Builder::new());
    let mut labels = ListBuilder::new(Int32Builder::new());
    let mut texts = StringBuilder::new();
    for (sample, text) in samples {
        ids.values().append_slice(&sample.ids.iter().map(|id| *id as i32).collect::<Vec<_>>());
        ids.append(true);
        labels.values().append_slice(&sample.labels());
        labels.append(true);
        texts.append_value(text);
    }
    let columns: [(&str, ArrayRef); 3] = [
        ("input_ids", Arc::new(ids.finish())),
        ("labels", Arc::new(labels.finish())),
        ("text", Arc::new(texts.finish())),
    ];
    RecordBatch::try_from_iter(columns)
}
