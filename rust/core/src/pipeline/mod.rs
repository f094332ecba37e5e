//! Runs the pipeline over all rows. In each round, rows are read, cleaned in parallel, deduplicated
//! in row order, encoded in parallel, and written in row order.
//!
//! While a round is encoded and written, the next one is cleaned, so no core waits for the serial
//! parts.

mod admission;
mod bad_rows;
mod changes;
pub mod encoded;
pub mod explain;
pub mod fit;
mod inputs_read;
mod memory;
pub mod names;
mod no_rows;
mod output;
mod product;
#[cfg(test)]
mod recipe_schema;
pub mod row;
mod shapes_read;
pub mod show;
mod text;
mod tokenizer;
mod trl07;
mod versions;
mod windows;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use rayon::prelude::*;

use crate::dataset::fingerprint::{ENGINE, LIBRARIES, MadeFrom};
use crate::dataset::manifest::Manifest;
use crate::dataset::out_folder::{Claim, OutputDir};
use crate::dataset::product::Product;
use crate::dataset::quarantine::QuarantinedRow;
use crate::error::{Error, Result};
use crate::normal::sha256_hex;
use crate::pipeline::row::{Outcome, RowPipeline, Visited};
use crate::progress::Watch;
use crate::read::shape::Shape;
use crate::read::shape::unread::Unread;
use crate::read::{self, Chunk, Input, Progress, RawRow};
use crate::recipe::Recipe;
use crate::tokenize::Tokenizer;
use admission::Admission;
use bad_rows::BadRows;
use output::Output;

/// Chunks per round and thread: enough that threads rarely wait for the last row, few enough that a
/// round is still in the cache when its rows are written.
const ROUND_CHUNKS_PER_THREAD: usize = 4;
/// Maximum chunks of a round: some tens of megabytes.
const ROUND_CHUNKS_MAX: usize = 32;

/// The definition of a run.
#[derive(Debug)]
pub struct Job {
    /// The product to build.
    pub product: Product,
    /// The recipe.
    pub recipe: Recipe,
    /// Name or path of the recipe in errors. The manifest records its stem.
    pub recipe_name: String,
    /// The files to read.
    pub inputs: Vec<PathBuf>,
    /// The tokenizer's directory or file, if the recipe writes tokens.
    pub tokenizer: Option<PathBuf>,
    /// The output directory.
    pub out: PathBuf,
    /// The options of the run.
    pub options: RunOptions,
}

/// Options of a run. They never change the bytes of its output.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Number of threads. `None` uses one per core.
    pub threads: Option<usize>,
    /// Whether a different dataset may be replaced.
    pub overwrite: bool,
    /// Maximum resident memory of this process in bytes. `None` means no limit.
    pub max_memory: Option<u64>,
    /// Unreadable rows allowed. `None` allows 20 or 0.1 % of the rows, whichever is more, and at
    /// most 1,000: the total is unknown while the run reads, so a larger share could not stop it
    /// early.
    pub max_bad_rows: Option<u64>,
    /// Whether the first unreadable row ends the run, whatever `max_bad_rows` is.
    pub strict: bool,
}

/// Runs a job and returns its manifest. A finished dataset of the same run is returned unchanged.
pub fn run(job: Job, watch: &Watch) -> Result<Manifest> {
    let threads =
        rayon::ThreadPoolBuilder::new().num_threads(job.options.threads.unwrap_or(0)).build();
    threads.map_err(Error::refused)?.install(|| run_here(job, watch))
}

fn run_here(job: Job, watch: &Watch) -> Result<Manifest> {
    let load = || job.tokenizer.as_deref().map(Tokenizer::load).transpose();
    let (inputs, tokenizer) = rayon::join(|| read::inputs(&job.inputs, watch), load);
    let inputs = inputs?;
    let walk = RowPipeline::watched(job.product, job.recipe, tokenizer?, watch)?;
    let encoding = walk.encoding.as_ref();
    let recipe_text = walk.recipe.to_toml()?;
    let made_from = MadeFrom {
        command: walk.product.command().to_owned(),
        engine: ENGINE.to_owned(),
        libraries: LIBRARIES.to_owned(),
        rules: versions::of_rules(),
        recipe: sha256_hex(recipe_text.as_bytes()),
        template: encoding.map_or_else(String::new, |encoding| encoding.template.sha256()),
        tokenizer: encoding.map_or_else(String::new, |encoding| encoding.tokenizer.sha256.clone()),
        inputs: versions::of_inputs(&inputs),
        evaluation_sets: versions::of_sets(walk.evaluation_sets.as_ref()),
    };
    let folder = match OutputDir::claim(&job.out, &made_from, job.options.overwrite, watch)? {
        Claim::Finished(manifest) => return Ok(*manifest),
        Claim::Free(folder) => folder,
    };
    watch.bytes_total.store(inputs.iter().map(|input| input.bytes).sum(), Ordering::Relaxed);
    let bad_rows = BadRows::new(&inputs, &job.options);
    let mut output = Output::new(&walk, &folder, &inputs)?;
    let mut admission = Admission::new(&walk, folder.work(), bad_rows)?;
    let memory = job.options.max_memory;
    let rows_read = process_rows(&walk, &inputs, watch, memory, &mut admission, &mut output)?;
    if let Some(renaming) = walk.renaming.as_ref().filter(|_| rows_read > 0) {
        renaming.check_found()?;
    }
    output.check_conserved(rows_read)?;
    output.check_some_written()?;
    output.near_search_truncated = admission.near_search_truncated();
    drop(admission);
    let name = Path::new(&job.recipe_name)
        .file_stem()
        .map_or_else(|| job.recipe_name.clone(), |stem| stem.to_string_lossy().into_owned());
    let manifest = output.finish(&name, recipe_text, made_from, watch)?;
    folder.finish(&manifest)?;
    Ok(manifest)
}

/// A round between cleaning and encoding: its rows in row order, and its chunks, from which the
/// quarantine copies raw bytes.
#[derive(Default)]
struct Round {
    started: Vec<Started>,
    rows: Vec<Row>,
}

/// A row of a round.
pub(crate) struct Row {
    row_id: i64,
    input: i32,
    /// Its chunk's index in the round.
    chunk: usize,
    raw: RawRow,
    visited: Visited,
}

/// Memory that a run needs in addition to its rounds, measured and rounded up: tables and a Parquet
/// row group.
const STANDING_BYTES: u64 = 96 << 20;
/// Memory that a thread needs in addition to its rows, measured with one to eight threads:
/// tokenizer caches and allocator heaps.
const THREAD_BYTES: u64 = 20 << 20;
/// Memory that a chunk needs while it is processed, measured plus a quarter: its rows in every
/// form, with two rounds in progress at once.
const CHUNK_BYTES_HELD: u64 = 20 * read::CHUNK_BYTES as u64;

/// Returns the chunks per round: fewer with less memory. The output does not depend on it.
fn round_chunks(memory_bytes_max: Option<u64>) -> usize {
    let threads = rayon::current_num_threads();
    let wanted = (ROUND_CHUNKS_PER_THREAD * threads).min(ROUND_CHUNKS_MAX);
    let standing = STANDING_BYTES + THREAD_BYTES * threads as u64;
    let fit = |bytes: u64| (bytes.saturating_sub(standing) / CHUNK_BYTES_HELD) as usize;
    memory_bytes_max.map_or(wanted, |bytes| fit(bytes).clamp(1, wanted))
}

/// Processes all rows and returns their number.
fn process_rows(
    walk: &RowPipeline,
    inputs: &[Input],
    watch: &Watch,
    memory: Option<u64>,
    admission: &mut Admission<'_>,
    output: &mut Output,
) -> Result<u64> {
    let round_chunks = round_chunks(memory);
    let (sender, receiver) = mpsc::sync_channel(round_chunks);
    let progress = Progress::of(watch);
    std::thread::scope(|scope| {
        // Dropped when this closure ends, also by an error: a reader that waits for room then ends
        // as well.
        let receiver = receiver;
        let reading = progress.clone();
        scope.spawn(move || read_all(inputs, &reading, &sender));
        let mut next_row = 0;
        let mut shapes: Vec<Option<Option<&'static Shape>>> = vec![None; inputs.len()];
        let mut pending = Round::default();
        loop {
            watch.check()?;
            memory::check(memory)?;
            let chunks = next_round(&receiver, round_chunks)?;
            watch.bytes_read.store(progress.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
            let is_last = chunks.is_empty();
            let started = start_rows(walk, chunks, &mut shapes, &mut next_row);
            let (visited, written) = rayon::join(
                || visit(walk, &started, watch),
                || finish(walk, std::mem::take(&mut pending), watch, |row| output.push(row)),
            );
            written?;
            pending = Round { started, rows: admission.admit(visited?)? };
            if is_last && pending.rows.is_empty() {
                return admission.check_total(next_row as u64).map(|()| next_row as u64);
            }
        }
    })
}

/// Reads all inputs in order, on a separate thread. Stops early once the receiver is dropped.
fn read_all(inputs: &[Input], progress: &Progress, sender: &mpsc::SyncSender<Result<Chunk>>) {
    for input in inputs {
        let chunks = match read::chunks(input, progress) {
            Ok(chunks) => chunks,
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        for chunk in chunks {
            #[cfg(feature = "failpoints")]
            crate::disk::failpoints::pause();
            if sender.send(chunk).is_err() {
                return;
            }
        }
    }
}

/// Returns the chunks of the next round, or no chunks once all inputs are read.
fn next_round(receiver: &mpsc::Receiver<Result<Chunk>>, round_chunks: usize) -> Result<Vec<Chunk>> {
    let mut chunks = Vec::with_capacity(round_chunks);
    while chunks.len() < round_chunks {
        match receiver.recv() {
            Ok(chunk) => chunks.push(chunk?),
            Err(mpsc::RecvError) => break,
        }
    }
    Ok(chunks)
}

/// A chunk with the usual shape of its input and the number of its first row.
struct Started {
    chunk: Chunk,
    usual: Option<&'static Shape>,
    first_row: i64,
}

fn start_rows(
    walk: &RowPipeline,
    chunks: Vec<Chunk>,
    shapes: &mut [Option<Option<&'static Shape>>],
    next_row: &mut i64,
) -> Vec<Started> {
    chunks
        .into_iter()
        .map(|chunk| {
            let known = &mut shapes[chunk.input as usize];
            let usual = known.unwrap_or_else(|| {
                walk.usual_shape(chunk.rows.iter().map(|row| &chunk.bytes[row.start..row.end]))
            });
            *known = Some(usual);
            let first_row = *next_row;
            *next_row += chunk.rows.len() as i64;
            Started { chunk, usual, first_row }
        })
        .collect()
}

/// The unread columns of the rows that a thread visits one after the other.
#[derive(Default)]
struct Columns {
    input: i32,
    unread: Unread,
}

impl Columns {
    /// Those of an input.
    fn of_input(&mut self, input: i32) -> &mut Unread {
        if self.input != input {
            *self = Columns { input, unread: Unread::default() };
        }
        &mut self.unread
    }
}

fn visit(walk: &RowPipeline, started: &[Started], watch: &Watch) -> Result<Vec<Row>> {
    let places =
        |chunk: usize| (0..started[chunk].chunk.rows.len()).map(move |place| (chunk, place));
    let rows: Vec<(usize, usize)> = (0..started.len()).flat_map(places).collect();
    rows.into_par_iter()
        .with_min_len(8)
        .map_init(Columns::default, |columns, (chunk, place)| {
            watch.check()?;
            let Started { chunk: read, usual, first_row } = &started[chunk];
            #[cfg(feature = "failpoints")]
            crate::disk::failpoints::pause();
            let raw = read.rows[place].clone();
            let bytes = &read.bytes[raw.start..raw.end];
            let visited = walk.visit(*usual, bytes, raw.length, columns.of_input(read.input));
            Ok(Row { row_id: first_row + place as i64, input: read.input, chunk, raw, visited })
        })
        .collect()
}

/// Encodes the rows that are kept, and passes every row on in row order.
fn finish(
    walk: &RowPipeline,
    round: Round,
    watch: &Watch,
    mut push: impl FnMut(output::Row) -> Result<()>,
) -> Result<()> {
    let Round { started, rows } = round;
    #[cfg(feature = "failpoints")]
    let rows = sabotaged_rows(rows);
    let done: Vec<Result<output::Row>> = rows
        .into_par_iter()
        .with_min_len(4)
        .map(|row| watch.check().map(|()| finish_row(walk, &started, row)))
        .collect();
    for written in done {
        let written = written?;
        watch.rows.fetch_add(1, Ordering::Relaxed);
        if let Outcome::Written(_, encoded) = &written.outcome {
            watch.written.fetch_add(1, Ordering::Relaxed);
            watch.tokens.fetch_add(encoded.token_count() as u64, Ordering::Relaxed);
        }
        push(written)?;
    }
    Ok(())
}

/// Returns the rows of a round. Tests may shuffle them or remove one.
#[cfg(feature = "failpoints")]
fn sabotaged_rows(mut rows: Vec<Row>) -> Vec<Row> {
    if crate::disk::failpoints::sabotaged("unordered") {
        rows.sort_by_cached_key(|_| crate::disk::failpoints::random());
    }
    if crate::disk::failpoints::sabotaged("lose_row") {
        rows.pop();
    }
    rows
}

fn finish_row(walk: &RowPipeline, started: &[Started], row: Row) -> output::Row {
    #[cfg(feature = "failpoints")]
    crate::disk::failpoints::pause();
    let Row { row_id, input, chunk, raw, visited } = row;
    let Visited { shape, id, prompt_id, notes, outcome, unread, role_words } = visited;
    let outcome = match outcome {
        Outcome::GoingOn(cleaned) => walk.finish(cleaned),
        ended => ended,
    };
    let is_aside = matches!(outcome, Outcome::Quarantined(_) | Outcome::Unreadable(_));
    let bytes = &started[chunk].chunk.bytes[raw.start..raw.end];
    let aside = is_aside.then(|| QuarantinedRow::new(raw.line, raw.offset, raw.length, bytes));
    output::Row {
        row_id,
        input,
        raw,
        shape,
        id,
        prompt_id,
        notes,
        outcome,
        aside,
        unread,
        role_words,
    }
}
