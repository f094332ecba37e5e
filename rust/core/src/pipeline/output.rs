//! The serial end of the pipeline: counts rows in order and writes all files except the manifest.

use std::collections::BTreeMap;

use super::changes::Changes;
use super::inputs_read::InputsRead;
use super::no_rows::{self, FirstRows};
use super::shapes_read::ShapesRead;
use super::text::Text;
use super::tokenizer::{template_card, tokenizer_card, write_tokenizer};
use super::windows::Waiting;
use crate::dataset::card;
use crate::dataset::fingerprint::{ENGINE, MadeFrom};
use crate::dataset::ledger::{self, Ledger, LedgerRow};
use crate::dataset::manifest::{
    Decontamination, DedupStats, FileEntry, Manifest, RecipeCopy, Rows, SCHEMA, Split,
};
use crate::dataset::out_folder::OutputDir;
use crate::dataset::quarantine::{self, Origin, Quarantine, QuarantinedRow};
use crate::dataset::shard::{ShardRows, Shards};
use crate::decontaminate::Sums;
use crate::dedup::Repeat;
use crate::disk::commit::commit_bytes;
use crate::encode::{Encoded, Tokens};
use crate::error::{Error, Result};
use crate::pipeline::product;
use crate::pipeline::row::{Cleaned, Outcome, RowPipeline};
use crate::progress::Watch;
use crate::read::shape::Shape;
use crate::read::shape::role_words::RoleWord;
use crate::read::{Input, RawRow};
use crate::recipe::Compat;
use crate::stage::{Notes, Reason};

const SPLITS: [&str; 2] = ["train", "test"];

/// A row with its outcome.
pub(super) struct Row {
    pub row_id: i64,
    pub input: i32,
    pub raw: RawRow,
    pub shape: Option<&'static Shape>,
    pub id: Option<String>,
    pub prompt_id: Option<String>,
    pub notes: Notes,
    pub outcome: Outcome,
    pub aside: Option<QuarantinedRow>,
    /// Columns that were not read, unless an earlier row of the same thread had them.
    pub unread: Vec<String>,
    /// Words for roles, unless an earlier row of the same thread had them.
    pub role_words: Vec<RoleWord>,
}

/// All files that are being written, and the counts.
pub(super) struct Output<'run> {
    walk: &'run RowPipeline,
    folder: &'run OutputDir,
    inputs: &'run [Input],
    ledger: Ledger,
    quarantine: Quarantine,
    splits: Vec<SplitOutput>,
    rows: Rows,
    inputs_read: InputsRead,
    changes: Changes,
    shapes_read: ShapesRead,
    doubtful_pairs: BTreeMap<String, u64>,
    contamination: Sums,
    first_rows: FirstRows,
    /// Rows whose search for near-duplicates was truncated.
    pub(super) near_search_truncated: u64,
}

/// One split's files.
struct SplitOutput {
    name: &'static str,
    sums: Split,
    text: Option<Text>,
    tokens: TokenOutput,
}

/// Samples wait in a spool until all lengths are known. Completions are not packed, so they go
/// directly to their shards.
enum TokenOutput {
    None,
    Samples(Waiting),
    Answered(Box<Shards>),
}

impl<'run> Output<'run> {
    pub(super) fn new(
        walk: &'run RowPipeline,
        folder: &'run OutputDir,
        inputs: &'run [Input],
    ) -> Result<Output<'run>> {
        let ledger = folder.folder(ledger::FOLDER)?;
        let split = |name: &'static str| -> Result<SplitOutput> {
            let tokens = if walk.encoding.is_none() {
                TokenOutput::None
            } else if walk.product.is_packed() {
                TokenOutput::Samples(Waiting::new(folder.work(), &format!("samples-{name}"))?)
            } else {
                TokenOutput::Answered(Box::new(shards(walk, folder, name)))
            };
            Ok(SplitOutput { name, sums: Split::default(), text: None, tokens })
        };
        Ok(Output {
            walk,
            folder,
            inputs,
            ledger: Ledger::create(&ledger)?,
            quarantine: Quarantine::new(folder.folder(quarantine::FOLDER)?),
            splits: SPLITS.into_iter().map(split).collect::<Result<_>>()?,
            rows: Rows::default(),
            inputs_read: InputsRead::new(inputs),
            changes: Changes::default(),
            shapes_read: ShapesRead::default(),
            doubtful_pairs: BTreeMap::new(),
            contamination: Sums::default(),
            first_rows: FirstRows::default(),
            near_search_truncated: 0,
        })
    }

    /// Records the next row.
    pub(super) fn push(&mut self, row: Row) -> Result<()> {
        self.rows.read += 1;
        self.inputs_read.add(row.input, row.unread);
        self.changes.add(&row.notes);
        self.shapes_read.add(row.shape, row.role_words);
        let mut contamination = Vec::new();
        if let Some(sets) = &self.walk.evaluation_sets {
            self.contamination.add(sets, &row.notes.contamination);
            contamination = sets.lines(&row.notes.contamination);
        }
        let mut entry = LedgerRow {
            row_id: row.row_id,
            input: row.input,
            offset: row.raw.offset as i64,
            length: row.raw.length as i64,
            source_id: row.id,
            prompt_id: row.prompt_id,
            letters_changed: row.notes.letters_changed as i32,
            contamination,
            control_tokens: row.notes.control_tokens as i32,
            ..LedgerRow::default()
        };
        let (outcome, reason) = row.outcome.name_and_reason();
        entry.outcome = outcome;
        entry.reason = reason.map(|reason| reason.code.word());
        entry.detail = reason.and_then(|reason| reason.detail.clone());
        if let Some(reason) = reason {
            self.first_rows.add(reason, &self.inputs[row.input as usize], &row.raw);
        }
        match &row.outcome {
            Outcome::Written(cleaned, encoded) => self.write(&mut entry, cleaned, encoded)?,
            Outcome::Duplicate(repeat) => self.repeat(&mut entry, *repeat),
            Outcome::Dropped(reason) => count(&mut self.rows.dropped, reason.code.word()),
            Outcome::Quarantined(reason) | Outcome::Unreadable(reason) => {
                self.set_aside(&entry, reason, row.aside.as_ref())?
            }
            Outcome::GoingOn(_) => {
                return Err(Error::Internal("a row reached the output undecided".to_owned()));
            }
        }
        self.ledger.push(entry)
    }

    fn write(&mut self, entry: &mut LedgerRow, cleaned: &Cleaned, encoded: &Encoded) -> Result<()> {
        let name = self.walk.split(&cleaned.dialogue);
        let split = self
            .splits
            .iter_mut()
            .find(|split| split.name == name)
            .expect("the split of a row must be train or test");
        let (tokens, trained) = (encoded.token_count(), encoded.label_tokens());
        self.rows.written += 1;
        split.sums.rows += 1;
        split.sums.tokens += tokens as u64;
        split.sums.label_tokens += trained as u64;
        split.sums.tokens_truncated += encoded.tokens_truncated as u64;
        split.sums.label_tokens_truncated += encoded.label_tokens_truncated as u64;
        split.sums.rows_truncated += u64::from(encoded.tokens_truncated > 0);
        for code in &cleaned.doubts {
            count(&mut self.doubtful_pairs, code.word());
        }
        entry.split = Some(name);
        if self.walk.encoding.is_some() {
            entry.tokens = Some(tokens as i32);
            entry.label_tokens = Some(trained as i32);
            entry.tokens_truncated = Some(encoded.tokens_truncated as i32);
        }
        entry.pairs = (!self.walk.product.is_packed()).then_some(cleaned.examples.len() as i32);
        match (&mut split.tokens, &encoded.tokens) {
            (TokenOutput::None, Tokens::None) => {}
            (TokenOutput::Samples(waiting), Tokens::Sample(sample)) => {
                waiting.push(entry.row_id, sample, encoded.chars)?
            }
            (TokenOutput::Answered(shards), Tokens::Answered(answered)) => {
                split.sums.examples += answered.examples.len() as u64;
                let prompt_ids = answered.prompt_ids.as_slice();
                for (index, (ids, example)) in
                    answered.examples.iter().zip(&cleaned.examples).enumerate()
                {
                    if let ShardRows::Completions(rows) = &mut shards.rows {
                        let row_id = entry.row_id;
                        rows.add(row_id, index as i32, (prompt_ids, ids), &example.numbers);
                    }
                    let completions = ids.iter().map(Vec::len).sum::<usize>();
                    shards.row_added(prompt_ids.len() + completions)?;
                }
            }
            _ => {
                return Err(Error::Internal(
                    "the tokens of a row must be those of the command".to_owned(),
                ));
            }
        }
        if self.walk.recipe.shards.text {
            let prompt_id = entry.prompt_id.as_deref().unwrap_or_default();
            if split.text.is_none() {
                split.text = Some(Text::create(self.folder, name, self.walk.product)?);
            }
            if let Some(text) = &mut split.text {
                text.push(prompt_id, cleaned)?;
            }
        }
        Ok(())
    }

    fn repeat(&mut self, entry: &mut LedgerRow, repeat: Repeat) {
        let (kind, earlier) = repeat.told();
        count(&mut self.rows.duplicates, kind);
        entry.reason = Some(kind);
        entry.duplicate_of = Some(earlier);
    }

    fn set_aside(
        &mut self,
        entry: &LedgerRow,
        reason: &Reason,
        aside: Option<&QuarantinedRow>,
    ) -> Result<()> {
        count(&mut self.rows.quarantined, reason.code.word());
        let aside = aside
            .ok_or_else(|| Error::Internal("a quarantined row must have its bytes".to_owned()))?;
        let input = Origin { ordinal: entry.input, name: &self.inputs[entry.input as usize].name };
        self.quarantine.push(entry.row_id, input, reason, aside)
    }

    /// Fails if a row that was read has no outcome.
    pub(super) fn check_conserved(&self, rows_read: u64) -> Result<()> {
        if self.rows.read == rows_read && self.rows.conserved() {
            return Ok(());
        }
        Err(Error::Internal(format!(
            "row counts do not add up: {rows_read} rows were read, but {:?}",
            self.rows
        )))
    }

    /// Fails if no row was kept.
    pub(super) fn check_some_written(&self) -> Result<()> {
        no_rows::check(&self.rows, self.inputs, &self.first_rows)
    }

    /// Packs, closes every file and returns the manifest.
    pub(super) fn finish(
        self,
        recipe_name: &str,
        recipe_text: String,
        made_from: MadeFrom,
        watch: &Watch,
    ) -> Result<Manifest> {
        let (walk, folder) = (self.walk, self.folder);
        let mut files = vec![FileEntry::new(ledger::FILE, self.ledger.commit()?)];
        files.extend(self.quarantine.commit()?);
        if let Some(encoding) = &walk.encoding {
            files.extend(write_tokenizer(encoding, folder)?);
        }
        let mut splits = BTreeMap::new();
        for split in self.splits.into_iter().filter(|split| split.sums.rows > 0) {
            splits.insert(split.name.to_owned(), split.finish(walk, folder, watch)?);
        }
        no_rows::check_examples(&splits)?;
        let sets = walk.evaluation_sets.as_ref();
        let decontamination = sets.map_or_else(Decontamination::not_checked, |sets| {
            self.contamination.report(sets, &walk.recipe.decontaminate)
        });
        let mut manifest = Manifest {
            schema: SCHEMA,
            kind: walk.product,
            engine: ENGINE.to_owned(),
            semantics: made_from.rules.clone(),
            fingerprint: made_from.fingerprint()?,
            recipe: RecipeCopy {
                name: recipe_name.to_owned(),
                sha256: made_from.recipe.clone(),
                text: recipe_text,
            },
            tokenizer: walk.encoding.as_ref().map(tokenizer_card),
            template: walk.encoding.as_ref().map(template_card),
            inputs: self.inputs_read.entries(self.inputs),
            rows: self.rows,
            shapes: self.shapes_read.rows,
            role_words: self.shapes_read.role_words,
            phrases: self.changes.phrases,
            truecase: self.changes.truecase,
            structure: self.changes.structure,
            dedup: DedupStats { near_search_truncated: self.near_search_truncated },
            doubtful_pairs: self.doubtful_pairs,
            decontamination,
            splits,
            files,
            made_from,
        };
        let card = card::render(&manifest);
        #[cfg(feature = "failpoints")]
        if crate::disk::failpoints::sabotaged("manifest_first") {
            let mut early = manifest.clone();
            let (file, sha256) =
                (card::FILE.to_owned(), crate::normal::sha256_hex(card.as_bytes()));
            early.files.push(FileEntry { file, bytes: card.len() as u64, sha256 });
            commit_bytes(
                folder.top(),
                crate::dataset::manifest::FILE,
                early.to_json()?.as_bytes(),
            )?;
        }
        manifest.files.push(FileEntry::new(
            card::FILE,
            commit_bytes(folder.top(), card::FILE, card.as_bytes())?,
        ));
        Ok(manifest)
    }
}

fn count(counts: &mut BTreeMap<String, u64>, word: &str) {
    *counts.entry(word.to_owned()).or_default() += 1;
}

fn shards(walk: &RowPipeline, folder: &OutputDir, split: &'static str) -> Shards {
    let bytes_max = walk.recipe.shards.shard_bytes_max;
    Shards::new(folder.top().clone(), split, bytes_max, walk.product)
}

impl SplitOutput {
    fn finish(self, walk: &RowPipeline, folder: &OutputDir, watch: &Watch) -> Result<Split> {
        let mut sums = self.sums;
        if walk.encoding.is_some() {
            sums.seq_len = (product::of(walk.product).tokens_max)(&walk.recipe) as u64;
        }
        sums.shards = match self.tokens {
            TokenOutput::None => Vec::new(),
            TokenOutput::Samples(waiting) => {
                let written = waiting.write(walk, shards(walk, folder, self.name), watch)?;
                sums.examples = written.cards.iter().map(|card| card.examples).sum();
                sums.tokens = written.tokens;
                if walk.recipe.compat == Compat::Trl07 {
                    // Every token is trained there, the extra EOS as well.
                    sums.label_tokens = written.tokens;
                    sums.tokens_truncated += written.tokens_truncated;
                    sums.label_tokens_truncated += written.tokens_truncated;
                }
                sums.fill = Some(sums.tokens as f64 / (sums.examples * sums.seq_len).max(1) as f64);
                written.cards
            }
            TokenOutput::Answered(shards) => shards.commit()?,
        };
        // Last: it was compressed meanwhile.
        sums.text = self.text.map(Text::commit).transpose()?.into_iter().collect();
        if walk.encoding.is_none() {
            sums.examples = sums.text.iter().map(|text| text.rows).sum();
        }
        Ok(sums)
    }
}
