//! Compares the fast tokenizer engine with the `tokenizers` crate: exactly the same ids and the
//! same ranges of label tokens.
//!
//! Real rows and real tokenizers are read from `ZEPHYR_FAST_DATA`. Without it, only the bundled
//! tokenizer is tested. `ZEPHYR_FAST_LONG=1` uses all rows and 20,000 hostile texts per tokenizer,
//! and `ZEPHYR_FAST_HOSTILE` sets another number.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that reports what it has compared"
)]

mod hostile;
mod real_data;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use hostile::Chance;
use real_data::real_path;
use zephyr_core::sample::Rendered;
use zephyr_core::tokenize::{Engine, Tokenizer};

const FAMILIES: [&str; 8] = [
    "mistral-7b-v0.1",
    "mistral-7b-instruct-v0.2",
    "zephyr-7b-beta-composed",
    "llama-1-2-sp-hf",
    "llama-3",
    "qwen3",
    "smollm2-135m-instruct",
    "gpt2",
];
const SEED: u64 = 20_231_026;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn packaged() -> PathBuf {
    root().join("python/zephyr_fast/sample/tokenizer")
}

/// Both engines of a tokenizer.
struct Twins {
    name: String,
    ours: Tokenizer,
    reference: Tokenizer,
    added: Vec<String>,
}

impl Twins {
    fn load(path: &Path) -> Twins {
        let ours = Tokenizer::load(path).unwrap();
        assert_eq!(ours.engine(), &Engine::Fast, "{}", path.display());
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let added = json["added_tokens"]
            .as_array()
            .unwrap()
            .iter()
            .map(|token| token["content"].as_str().unwrap().to_owned())
            .collect();
        Twins {
            name: path.display().to_string(),
            ours,
            reference: Tokenizer::load_reference(path).unwrap(),
            added,
        }
    }

    fn all() -> Vec<Twins> {
        let real = FAMILIES.iter().filter_map(|family| real_path(&format!("tokenizers/{family}")));
        real.chain([packaged()])
            .chain(real_path("models/aidreams260K"))
            .map(|path| Twins::load(&path))
            .collect()
    }

    /// Fails unless both engines return the same ids and the same token ranges for these character
    /// ranges.
    fn check(&self, text: &str, trained: &[std::ops::Range<usize>]) -> usize {
        let rendered =
            Rendered { text: text.to_owned(), trained: trained.to_vec(), answers: Vec::new() };
        let sample = self.reference.sample(&rendered.text, &rendered.trained).unwrap();
        let ours = self.ours.sample(&rendered.text, &rendered.trained).unwrap();
        if ours != sample || self.ours.ids(text).unwrap() != sample.ids {
            let at =
                ours.ids.iter().zip(&sample.ids).position(|(ours, reference)| ours != reference);
            panic!(
                "{}: differs at token {at:?} of {text:?} {trained:?}\n{ours:?}\n{sample:?}",
                self.name
            );
        }
        sample.ids.len()
    }
}

fn long() -> bool {
    std::env::var_os("ZEPHYR_FAST_LONG").is_some()
}

fn hostile_texts() -> usize {
    let number = std::env::var("ZEPHYR_FAST_HOSTILE").ok().and_then(|number| number.parse().ok());
    number.unwrap_or(if long() { 20_000 } else { 2_000 })
}

/// The messages of all UltraChat rows as rendered by the Zephyr template, with the assistant's
/// ranges.
fn dialogues(rows_max: usize) -> Vec<Rendered> {
    let files = [
        "raw_real.jsonl.gz",
        "200k_real.jsonl.gz",
        "raw_mix_open.jsonl.zst",
        "raw_mix_nc.jsonl.zst",
    ];
    let mut dialogues = Vec::new();
    for path in files.iter().filter_map(|name| real_path(&format!("ultrachat/{name}"))) {
        let file = std::fs::File::open(&path).unwrap();
        let bytes: Box<dyn Read> = if path.extension().is_some_and(|extension| extension == "gz") {
            Box::new(flate2::read::MultiGzDecoder::new(file))
        } else {
            Box::new(zstd::Decoder::new(file).unwrap())
        };
        let rows: Vec<String> = BufReader::new(bytes).lines().map(Result::unwrap).collect();
        let step =
            if rows_max == usize::MAX { 1 } else { (files.len() * rows.len() / rows_max).max(1) };
        dialogues.extend(
            rows.iter().step_by(step).map(|row| rendered(&serde_json::from_str(row).unwrap())),
        );
    }
    dialogues
}

fn rendered(row: &serde_json::Value) -> Rendered {
    let turns =
        row.get("data").or_else(|| row.get("messages")).and_then(|turns| turns.as_array()).unwrap();
    let mut rendered = Rendered::default();
    for (place, turn) in turns.iter().enumerate() {
        let words = turn.as_str().or_else(|| turn["content"].as_str()).unwrap_or_default();
        rendered.text.push_str(["<|user|>\n", "<|assistant|>\n"][place % 2]);
        let start = rendered.text.len();
        rendered.text.push_str(words);
        rendered.text.push_str("</s>");
        if place % 2 == 1 {
            rendered.trained.push(start..rendered.text.len());
        }
        rendered.text.push('\n');
    }
    rendered
}

#[test]
fn ids_and_trained_ranges_of_real_dialogues_are_those_of_the_reference() {
    let dialogues = dialogues(if long() { usize::MAX } else { 400 });
    for twins in Twins::all() {
        let tokens: usize =
            dialogues.iter().map(|dialogue| twins.check(&dialogue.text, &dialogue.trained)).sum();
        println!("{}: {} dialogues, {tokens} tokens, 0 differ", twins.name, dialogues.len());
    }
}

#[test]
fn ids_and_trained_ranges_of_hostile_texts_are_those_of_the_reference() {
    println!("seed {SEED}");
    for twins in Twins::all() {
        let mut chance = Chance(SEED);
        let mut tokens = 0;
        for _ in 0..hostile_texts() {
            let text = chance.hostile(&twins.added);
            let ranges = chance.ranges(&text);
            tokens += twins.check(&text, &ranges);
        }
        println!("{}: {} hostile texts, {tokens} tokens, 0 differ", twins.name, hostile_texts());
    }
}

#[test]
fn long_runs_take_time_in_proportion_and_give_the_ids_of_the_reference() {
    for twins in Twins::all() {
        for text in ["a", " ", "\n", "=", "字", "ab 1"] {
            twins.check(&text.repeat(5_000), &Vec::from_iter([7..19, 30..31]));
        }
        let start = std::time::Instant::now();
        for text in ["x".repeat(1_000_000), " ".repeat(4_000_000)] {
            assert!(!twins.ours.ids(&text).unwrap().is_empty());
        }
        println!("{}: a word of 1 MB and 4 MB of spaces in {:?}", twins.name, start.elapsed());
    }
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads_or_on_what_came_before() {
    let twins = Twins::load(&packaged());
    let mut chance = Chance(SEED);
    let texts: Vec<String> = (0..400).map(|_| chance.hostile(&twins.added)).collect();
    let alone: Vec<Vec<u32>> =
        texts.iter().map(|text| twins.reference.ids(text).unwrap()).collect();
    std::thread::scope(|scope| {
        for first in 0..4 {
            let (texts, alone, ours) = (&texts, &alone, &twins.ours);
            scope.spawn(move || {
                (0..800)
                    .map(|turn| (first * 97 + turn) % 400)
                    .for_each(|at| assert_eq!(ours.ids(&texts[at]).unwrap(), alone[at]))
            });
        }
    });
}

/// A tokenizer with one part of its `tokenizer.json` changed.
fn changed(
    path: &Path,
    change: impl FnOnce(&mut serde_json::Value),
) -> (tempfile::TempDir, Engine) {
    let folder = written(path, change);
    let engine = Tokenizer::load(folder.path()).unwrap().engine().clone();
    (folder, engine)
}

fn written(path: &Path, change: impl FnOnce(&mut serde_json::Value)) -> tempfile::TempDir {
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path.join("tokenizer.json")).unwrap()).unwrap();
    change(&mut json);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
    folder
}

fn check_hostile(folder: &Path, texts: usize) {
    let twins = Twins::load(folder);
    let mut chance = Chance(SEED);
    for _ in 0..texts {
        let text = chance.hostile(&twins.added);
        let ranges = chance.ranges(&text);
        twins.check(&text, &ranges);
    }
}

#[test]
fn a_model_that_drops_merges_by_chance_is_refused() {
    for (dropout, is_refused) in [(0.5, true), (0.0, false)] {
        let folder = written(&packaged(), |json| json["model"]["dropout"] = dropout.into());
        assert_eq!(Tokenizer::load(folder.path()).is_err(), is_refused);
    }
}

#[test]
fn what_is_not_known_exactly_goes_to_the_reference_with_a_reason() {
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change); 5] = [
        ("the model sets `continuing_subword_prefix` or `end_of_word_suffix`", |json| {
            json["model"]["end_of_word_suffix"] = "</w>".into()
        }),
        ("unsupported normalizer `Lowercase`", |json| {
            json["normalizer"] = serde_json::json!({"type": "Lowercase"})
        }),
        ("unsupported pre-tokenizer `Whitespace`", |json| {
            json["pre_tokenizer"] = serde_json::json!({"type": "Whitespace"})
        }),
        ("an added token has `single_word` set", |json| {
            json["added_tokens"][0]["single_word"] = true.into()
        }),
        ("unsupported post-processor `ByteLevel`", |json| {
            json["post_processor"] = serde_json::json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            });
        }),
    ];
    for (reason, change) in changes {
        assert_eq!(changed(&packaged(), change).1, Engine::Reference(reason.to_owned()));
    }
}

#[test]
fn every_known_way_to_write_a_tokenizer_is_as_exact() {
    let llama = |digits: &str| {
        format!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
    let byte_level = |use_regex: bool| {
        serde_json::json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": use_regex,
        })
    };
    let (bytes, whole) = (byte_level(false), byte_level(true));
    let split = |pattern: String| {
        serde_json::json!({
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
            "invert": false,
        })
    };
    let sequence =
        |first, last| serde_json::json!({"type": "Sequence", "pretokenizers": [first, last]});
    let fronts = [
        sequence(split(llama(r"\p{N}{1,3}")), bytes.clone()),
        sequence(split(llama(r"\p{N}")), bytes),
        sequence(serde_json::json!({"type": "Digits", "individual_digits": true}), whole),
    ];
    for front in fronts {
        let (folder, engine) = changed(&packaged(), |json| {
            json["pre_tokenizer"] = front;
            json["model"]["ignore_merges"] = true.into();
            json["added_tokens"][1]["lstrip"] = true.into();
            json["added_tokens"][2]["rstrip"] = true.into();
        });
        assert_eq!(engine, Engine::Fast);
        check_hostile(folder.path(), 1_000);
    }
}

#[test]
fn every_known_way_to_write_a_sentencepiece_tokenizer_is_as_exact() {
    let metaspace = |scheme: &str, split: bool| {
        serde_json::json!({
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split,
        })
    };
    let mut fronts = vec![(
        serde_json::json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
        serde_json::Value::Null,
    )];
    for scheme in ["always", "first", "never"] {
        fronts
            .extend([true, false].map(|split| (serde_json::Value::Null, metaspace(scheme, split))));
    }
    let Some(mistral) = real_path("tokenizers/mistral-7b-v0.1") else { return };
    for (normalizer, pre_tokenizer) in fronts {
        for normalized in [true, false] {
            let (folder, engine) = changed(&mistral, |json| {
                json["normalizer"] = normalizer.clone();
                json["pre_tokenizer"] = pre_tokenizer.clone();
                json["added_tokens"][1]["normalized"] = normalized.into();
            });
            assert_eq!(engine, Engine::Fast);
            check_hostile(folder.path(), 300);
        }
    }
}
