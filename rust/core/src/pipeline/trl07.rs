//! Windows as TRL 0.7 cut them, which trained Zephyr: texts joined with an extra EOS after each,
//! cut every `seq_len` tokens.
//!
//! Facts of its `ConstantLengthDataset`: a buffer collects texts in row order until they have
//! `seq_len` × 3.6 × 1,024 characters. Its tokens are cut into windows, and a final part that does
//! not fill a window is dropped. Attention crosses documents, and every token is trained on. TRL
//! shuffled the windows of a buffer without a seed. Here they keep their order, since trainers
//! shuffle anyway.

use std::sync::atomic::Ordering;

use super::windows::{Waiting, Written, window_rows};
use crate::dataset::shard::Shards;
use crate::error::{Error, Result};
use crate::pipeline::row::RowPipeline;
use crate::progress::Watch;

/// Its `chars_per_token` × `num_of_sequences`, both defaults.
const CHARS_PER_SEQ_LEN: f64 = 3.6 * 1_024.0;

/// Tokens of a buffer and the rows they are of.
#[derive(Default)]
struct Buffer {
    ids: Vec<u32>,
    /// Where each row's tokens end, its EOS included.
    ends: Vec<(usize, i64)>,
    chars: u64,
}

/// Cuts and writes all samples.
pub(super) fn cut(
    waiting: &Waiting,
    walk: &RowPipeline,
    mut shards: Shards,
    watch: &Watch,
) -> Result<Written> {
    let eos = walk.encoding.as_ref().and_then(|encoding| encoding.tokenizer.eos_id());
    let eos =
        eos.ok_or_else(|| Error::Internal("`compat = \"trl-0.7\"` needs an EOS token".to_owned()))?;
    let seq_len = walk.recipe.pack.seq_len;
    let chars_max = seq_len as f64 * CHARS_PER_SEQ_LEN;
    let (mut buffer, mut written, mut record) = (Buffer::default(), Written::default(), Vec::new());
    for number in 0..waiting.len() {
        watch.check()?;
        if buffer.chars as f64 >= chars_max {
            buffer.write(seq_len, &mut shards, &mut written, watch)?;
        }
        let (row_id, chars, sample) = waiting.read(number, &mut record)?;
        buffer.ids.extend_from_slice(&sample.ids);
        buffer.ids.push(eos);
        buffer.ends.push((buffer.ids.len(), row_id));
        buffer.chars += u64::from(chars);
    }
    buffer.write(seq_len, &mut shards, &mut written, watch)?;
    written.cards = shards.commit()?;
    Ok(written)
}

impl Buffer {
    /// Writes the windows, counts the tail, and starts over.
    fn write(
        &mut self,
        seq_len: usize,
        shards: &mut Shards,
        written: &mut Written,
        watch: &Watch,
    ) -> Result<()> {
        let windows = self.ids.chunks_exact(seq_len);
        watch.samples_total.fetch_add(windows.len() as u64, Ordering::Relaxed);
        written.tokens_truncated += windows.remainder().len() as u64;
        for (number, window) in windows.enumerate() {
            let (start, end) = (number * seq_len, (number + 1) * seq_len);
            let first = self.ends.partition_point(|(row_end, _)| *row_end <= start);
            let last = self.ends.partition_point(|(row_end, _)| *row_end < end);
            let rows = self.ends[first..=last].iter().map(|(_, row_id)| *row_id);
            window_rows(shards)?.add_whole(window, rows);
            shards.row_added(seq_len)?;
            written.tokens += seq_len as u64;
            watch.samples_packed.fetch_add(1, Ordering::Relaxed);
        }
        *self = Buffer::default();
        Ok(())
    }
}
