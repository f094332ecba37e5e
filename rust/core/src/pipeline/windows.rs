//! Packs the samples of a split. They are spooled to disk until all lengths are known, then packed
//! and written to shards.

use std::sync::atomic::Ordering;

use super::trl07;
use crate::dataset::manifest::ShardEntry;
use crate::dataset::shard::{ShardRows, Shards, WindowRows};
use crate::disk::Folder;
use crate::disk::spool::Spool;
use crate::error::{Error, Result};
use crate::pack::pack;
use crate::pipeline::row::RowPipeline;
use crate::progress::Watch;
use crate::recipe::Compat;
use crate::sample::Sample;

/// Samples waiting. Memory holds 16 bytes of each.
pub(super) struct Waiting {
    spool: Spool,
    lengths: Vec<u32>,
    /// Characters of the rendered text, by which TRL 0.7 filled its buffers.
    chars: Vec<u32>,
    row_ids: Vec<i64>,
}

/// The written shards, with the counts of written and dropped tokens.
#[derive(Default)]
pub(super) struct Written {
    pub cards: Vec<ShardEntry>,
    /// Tokens in the windows.
    pub tokens: u64,
    /// Tokens that are in no window.
    pub tokens_truncated: u64,
}

impl Waiting {
    /// Starts without samples. They will wait in a file of this name.
    pub(super) fn new(folder: &Folder, name: &str) -> Result<Waiting> {
        Ok(Waiting {
            spool: Spool::create(folder, name)?,
            lengths: Vec::new(),
            chars: Vec::new(),
            row_ids: Vec::new(),
        })
    }

    /// Appends a sample.
    pub(super) fn push(&mut self, row_id: i64, sample: &Sample, chars: usize) -> Result<()> {
        self.spool.push(&sample.to_record())?;
        self.lengths.push(sample.ids.len() as u32);
        self.chars.push(u32::try_from(chars).unwrap_or(u32::MAX));
        self.row_ids.push(row_id);
        Ok(())
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.row_ids.len()
    }

    /// Reads a sample back: its row, the characters of its text, and its tokens.
    pub(super) fn read(&self, number: usize, record: &mut Vec<u8>) -> Result<(i64, u32, Sample)> {
        self.spool.read(number, record)?;
        Ok((self.row_ids[number], self.chars[number], Sample::from_record(record)))
    }

    /// Writes all windows.
    pub(super) fn write(
        self,
        walk: &RowPipeline,
        shards: Shards,
        watch: &Watch,
    ) -> Result<Written> {
        match walk.recipe.compat {
            Compat::Modern => self.pack(walk.recipe.pack.seq_len as u32, shards, watch),
            Compat::Trl07 => trl07::cut(&self, walk, shards, watch),
        }
    }

    /// Best fit decreasing over the whole split: every sample whole, in one window.
    fn pack(self, seq_len: u32, mut shards: Shards, watch: &Watch) -> Result<Written> {
        let windows = pack(&self.lengths, seq_len);
        watch.samples_total.fetch_add(windows.len() as u64, Ordering::Relaxed);
        let (mut record, mut written) = (Vec::new(), Written::default());
        for window in windows.iter() {
            watch.check()?;
            let mut tokens = 0;
            for sample in window {
                let (row_id, _, document) = self.read(*sample as usize, &mut record)?;
                tokens += document.ids.len();
                window_rows(&mut shards)?.add_document(row_id, &document);
            }
            window_rows(&mut shards)?.close_window();
            shards.row_added(tokens)?;
            written.tokens += tokens as u64;
            watch.samples_packed.fetch_add(1, Ordering::Relaxed);
        }
        written.cards = shards.commit()?;
        Ok(written)
    }
}

/// The rows of shards that hold windows.
pub(super) fn window_rows(shards: &mut Shards) -> Result<&mut WindowRows> {
    match &mut shards.rows {
        ShardRows::Windows(rows) => Ok(rows),
        ShardRows::Completions(_) => Err(Error::Internal(
            "the shards of packed sequences must not hold completions".to_owned(),
        )),
    }
}
