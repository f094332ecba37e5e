//! Runs one stage of the pipeline once, in a separate process. `scripts/benchmarks/stages.py`
//! compares it with other packages.
//!
//!     cargo bench -p zephyr-core --bench stage -- STAGE THREADS INPUT TOKENIZER
//!
//! Reads the rows, prepares the input of the stage, runs the stage with cold caches and prints one
//! line of JSON: seconds, bytes of its input, and size of its output.

#![expect(clippy::print_stdout, reason = "a bench that reports what it has measured")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;
use zephyr_core::Folder;
use zephyr_core::dataset::shard::WindowRows;
use zephyr_core::dedup::{Seen, sign};
use zephyr_core::dialogue::{Dialogue, Role, Turn};
use zephyr_core::disk::spool::Spool;
use zephyr_core::filter;
use zephyr_core::pack::pack;
use zephyr_core::progress::Watch;
use zephyr_core::read::{self, Chunk, Input, shape};
use zephyr_core::recipe::{Dedup, TruecaseRules};
use zephyr_core::sample::Sample;
use zephyr_core::stage::{Notes, Stage};
use zephyr_core::template::{Template, ZEPHYR};
use zephyr_core::tokenize::Tokenizer;
use zephyr_core::truecase::Truecase;

const RECIPE: &str = include_str!("../../../python/zephyr_fast/recipes/ultrachat.toml");
const SEQ_LEN: u32 = 2048;
/// Number of sequences collected before their buffers are reused, as in a run's batches.
const BATCH_WINDOWS: usize = 256;

struct Bench {
    input: Input,
    tokenizer: PathBuf,
}

/// The sizes of a stage's input and output.
struct Outcome {
    bytes: usize,
    made: usize,
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [stage, threads, input, tokenizer] = arguments.as_slice() else {
        println!(
            "stage STAGE THREADS INPUT TOKENIZER; stages: read, clean, template, tokenize, sample, \
                dedup, pack"
        );
        return;
    };
    let threads = threads.parse().expect("a number of threads");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let bench = Bench {
        input: read::inputs(&[PathBuf::from(input)], &Watch::default())
            .expect("an input")
            .remove(0),
        tokenizer: PathBuf::from(tokenizer),
    };
    pool.install(|| match stage.as_str() {
        "read" => report(|()| bench.read(), ()),
        "clean" => report(clean, bench.dialogues()),
        "template" => report(template, (bench.template(), bench.dialogues())),
        "tokenize" => report(tokenize, (bench.tokenizer(), bench.texts())),
        "sample" => report(samples, (bench.tokenizer(), bench.template(), bench.dialogues())),
        "dedup" => report(dedup, bench.documents()),
        "pack" => report(gather, bench.spool()),
        other => panic!("no stage `{other}`"),
    });
}

/// Runs the stage and prints the resources it used.
fn report<T>(stage: impl FnOnce(T) -> Outcome, prepared: T) {
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let Outcome { bytes, made } = black_box(stage(black_box(prepared)));
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(r#"{{"wall": {wall:.6}, "cpu": {cpu:.6}, "bytes": {bytes}, "made": {made}}}"#);
}

impl Bench {
    fn chunks(&self) -> impl Iterator<Item = Chunk> + Send {
        let chunks = read::chunks(&self.input, &read::Progress::default()).expect("opens");
        chunks.map(|chunk| chunk.expect("reads"))
    }

    fn dialogues(&self) -> Vec<Dialogue> {
        let parse = |chunk: Chunk| {
            let row = |row: &read::RawRow| {
                let row = &chunk.bytes[row.start..row.end];
                shape::detect(row, false)?.parse(row).ok()
            };
            chunk.rows.iter().filter_map(row).collect::<Vec<_>>()
        };
        // In row order, since near-dedup compares with earlier rows.
        self.chunks().collect::<Vec<_>>().into_par_iter().map(parse).collect::<Vec<_>>().concat()
    }

    /// Packed or not, from the file to dialogues, chunk by chunk as in a run.
    fn read(&self) -> Outcome {
        let first = self.chunks().next().expect("rows");
        let row = &first.rows[0];
        let shape = shape::detect(&first.bytes[row.start..row.end], false).expect("a known shape");
        let parse = |chunk: Chunk| {
            let rows = chunk.rows.iter().map(|row| &chunk.bytes[row.start..row.end]);
            let dialogues: Vec<Dialogue> = rows.filter_map(|row| shape.parse(row).ok()).collect();
            (chunk.bytes.len(), black_box(dialogues).len())
        };
        let read: Vec<_> = if rayon::current_num_threads() == 1 {
            self.chunks().map(parse).collect()
        } else {
            self.chunks().par_bridge().map(parse).collect()
        };
        Outcome {
            bytes: read.iter().map(|(bytes, _)| bytes).sum(),
            made: read.iter().map(|(_, dialogues)| dialogues).sum(),
        }
    }

    fn tokenizer(&self) -> Tokenizer {
        Tokenizer::load(&self.tokenizer).expect("a tokenizer")
    }

    fn template(&self) -> Template {
        Template::new("zephyr", ZEPHYR, &self.tokenizer().special, &[]).expect("a template")
    }

    fn texts(&self) -> Vec<String> {
        let text = |dialogue: Dialogue| {
            dialogue.turns.into_iter().map(|turn| turn.text).collect::<Vec<_>>().join("\n")
        };
        self.dialogues().into_par_iter().map(text).collect()
    }

    /// Every completion as a separate document.
    fn documents(&self) -> Vec<Dialogue> {
        let answers = self
            .dialogues()
            .into_iter()
            .flat_map(|dialogue| dialogue.turns)
            .filter(|turn| turn.role == Role::Assistant);
        answers.map(|turn: Turn| Dialogue { turns: vec![turn], ..Dialogue::default() }).collect()
    }

    /// Samples as they wait in a run, those longer than a window cut.
    fn spool(&self) -> (tempfile::TempDir, Spool, Vec<u32>) {
        let (tokenizer, template) = (self.tokenizer(), self.template());
        let sample = |dialogue: &Dialogue| {
            let rendered = template.render(&dialogue.turns).ok()?;
            let mut sample = tokenizer.sample(&rendered.text, &rendered.trained).ok()?;
            sample.truncate(SEQ_LEN as usize);
            Some(sample)
        };
        let samples: Vec<Sample> = self.dialogues().par_iter().filter_map(sample).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = Spool::create(&Folder::open(folder.path()).expect("opens"), "samples")
            .expect("a spool");
        samples.iter().for_each(|sample| spool.push(&sample.to_record()).expect("writes"));
        let lengths = samples.iter().map(|sample| sample.ids.len() as u32).collect();
        (folder, spool, lengths)
    }
}

fn text_bytes(dialogues: &[Dialogue]) -> usize {
    dialogues.iter().flat_map(|dialogue| &dialogue.turns).map(|turn| turn.text.len()).sum()
}

/// Truecasing and the filters of the bundled recipe.
fn clean(mut dialogues: Vec<Dialogue>) -> Outcome {
    let bytes = text_bytes(&dialogues);
    let recipe: toml::Table = RECIPE.parse().expect("a recipe");
    let filters = recipe["filter"].as_array().expect("filters");
    let mut stages: Vec<Box<dyn Stage>> = vec![Box::new(Truecase(TruecaseRules::Careful))];
    stages.extend(
        filters
            .iter()
            .filter_map(toml::Value::as_table)
            .map(|table| filter::build(table.clone()).expect("a filter")),
    );
    let kept = dialogues.par_iter_mut().with_min_len(8).filter_map(|dialogue| {
        let mut notes = Notes::default();
        stages.iter().all(|stage| stage.visit(dialogue, &mut notes).is_ok()).then_some(())
    });
    Outcome { bytes, made: kept.count() }
}

/// Text and trained ranges.
fn template((template, dialogues): (Template, Vec<Dialogue>)) -> Outcome {
    let rendered = dialogues
        .par_iter()
        .with_min_len(8)
        .map(|dialogue| template.render(&dialogue.turns).map_or(0, |made| made.text.len()));
    Outcome { bytes: text_bytes(&dialogues), made: rendered.sum() }
}

/// Computes only ids, for the unchanged texts.
fn tokenize((tokenizer, texts): (Tokenizer, Vec<String>)) -> Outcome {
    let tokens = texts.par_iter().with_min_len(8).map(|text| tokenizer.ids(text).expect("ids"));
    let tokens: Vec<Vec<u32>> = tokens.collect();
    Outcome { bytes: texts.iter().map(String::len).sum(), made: tokens.iter().map(Vec::len).sum() }
}

/// Template, ids and trained ranges.
fn samples((tokenizer, template, dialogues): (Tokenizer, Template, Vec<Dialogue>)) -> Outcome {
    let sample = |dialogue: &Dialogue| {
        let rendered = template.render(&dialogue.turns).ok()?;
        tokenizer.sample(&rendered.text, &rendered.trained).ok()
    };
    let samples: Vec<Sample> = dialogues.par_iter().with_min_len(8).filter_map(sample).collect();
    Outcome {
        bytes: text_bytes(&dialogues),
        made: samples.iter().map(|sample| sample.ids.len()).sum(),
    }
}

/// Removes near duplicates among documents. The output is the kept ones.
fn dedup(documents: Vec<Dialogue>) -> Outcome {
    let bytes = text_bytes(&documents);
    let recipe = Dedup { exact: Some(false), near: true, ..Dedup::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen =
        Seen::new(&Folder::open(folder.path()).expect("opens"), &recipe).expect("a spool");
    let mut kept = 0;
    for (round, documents) in documents.chunks(4_096).enumerate() {
        let signed: Vec<_> =
            documents.par_iter().with_min_len(8).map(|document| sign(document, &recipe)).collect();
        for (row, signature) in (round as i64 * 4_096..).zip(&signed) {
            kept += usize::from(seen.admit(row, signature).expect("admits").is_none());
        }
    }
    Outcome { bytes, made: kept }
}

/// Windows: which samples go into which, then ids, labels and lengths gathered from the spool.
fn gather((_folder, spool, lengths): (tempfile::TempDir, Spool, Vec<u32>)) -> Outcome {
    let windows = pack(&lengths, SEQ_LEN);
    let (mut record, mut rows) = (Vec::new(), WindowRows::default());
    for (number, window) in windows.iter().enumerate() {
        for sample in window {
            spool.read(*sample as usize, &mut record).expect("reads");
            rows.add_document(i64::from(*sample), &Sample::from_record(&record));
        }
        rows.close_window();
        if number % BATCH_WINDOWS == BATCH_WINDOWS - 1 {
            rows = WindowRows::default();
        }
    }
    Outcome { bytes: lengths.len(), made: windows.len() }
}

/// CPU seconds of all threads so far, from Linux's scheduler. Zero on other systems.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir(Path::new("/proc/self/task")).into_iter().flatten().flatten();
    let nanoseconds =
        |path: PathBuf| std::fs::read_to_string(path).ok()?.split(' ').next()?.parse::<f64>().ok();
    tasks.filter_map(|task| nanoseconds(task.path().join("schedstat"))).sum::<f64>() / 1e9
}
