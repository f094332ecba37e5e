//! Compares the fast tokenizer engine with the `tokenizers` crate: the same text, one thread, bytes
//! per second.
//!
//! `ZEPHYR_FAST_BENCH_TOKENIZER` is a tokenizer's directory (default: the bundled one).
//! `ZEPHYR_FAST_BENCH_INPUT` is a file of texts, one per line, plain or JSON strings (default:
//! generated text). `ZEPHYR_FAST_BENCH_ONCE` disables statistics: each engine processes the input
//! once with cold caches, and CPU time, megabytes and tokens are printed.

#![expect(clippy::print_stdout, reason = "a bench that reports what it has measured")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use zephyr_core::sample::Rendered;
use zephyr_core::tokenize::Tokenizer;

/// The reference is slow, so it processes only the start of the input.
const REFERENCE_BYTES: usize = 4_000_000;

fn main() {
    let packaged =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/zephyr_fast/sample/tokenizer");
    let folder = std::env::var_os("ZEPHYR_FAST_BENCH_TOKENIZER").map_or(packaged, PathBuf::from);
    let ours = Tokenizer::load(&folder).expect("a tokenizer");
    let reference = Tokenizer::load_reference(&folder).expect("a tokenizer");
    let texts = texts();
    let few = start(&texts, REFERENCE_BYTES);
    if std::env::var_os("ZEPHYR_FAST_BENCH_ONCE").is_some() {
        let name = folder.display();
        println!("{name}: {:?}", ours.engine());
        once("ours, cold", &ours, &texts);
        once("ours, warm", &ours, &texts);
        samples("ours, with spans", &ours, &texts);
        once("tokenizers crate", &reference, few);
        return;
    }
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1));
    let mut group = criterion.benchmark_group("tokenize");
    for (name, tokenizer) in [("ours", &ours), ("tokenizers crate", &reference)] {
        group.throughput(Throughput::Bytes(few.iter().map(|text| text.len() as u64).sum()));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                few.iter()
                    .map(|text| tokenizer.ids(black_box(text)).expect("ids").len())
                    .sum::<usize>()
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

fn texts() -> Vec<String> {
    match std::env::var_os("ZEPHYR_FAST_BENCH_INPUT") {
        Some(path) => {
            let file = std::fs::read_to_string(path).expect("a file of texts");
            file.lines()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.to_owned()))
                .collect()
        }
        None => (0..2_000).map(generated).collect(),
    }
}

/// Words of chance, which caches like less than real ones.
fn generated(seed: u64) -> String {
    let mut state = seed;
    let mut text = String::new();
    for word in 0..400 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let syllables = [
            "the", "ing", "re", "con", "ta", "ment", " a", "un", "er", "s", "est", "ly", "1", ".",
            ", ", "\n",
        ];
        for place in 0..1 + (state >> 60) % 3 {
            text.push_str(syllables[(state >> (8 * place + 20)) as usize % syllables.len()]);
        }
        text.push_str(if word % 13 == 12 { ". " } else { " " });
    }
    text
}

fn start(texts: &[String], bytes: usize) -> &[String] {
    let mut sum = 0;
    let few = texts.iter().take_while(|text| {
        sum += text.len();
        sum <= bytes
    });
    &texts[..few.count().max(1)]
}

fn once(name: &str, tokenizer: &Tokenizer, texts: &[String]) {
    let start = cpu_seconds();
    let tokens: usize =
        texts.iter().map(|text| tokenizer.ids(black_box(text)).expect("ids").len()).sum();
    report(name, texts, tokens, cpu_seconds() - start);
}

fn samples(name: &str, tokenizer: &Tokenizer, texts: &[String]) {
    let rendered = texts.iter().map(|text| Rendered {
        text: text.clone(),
        trained: std::iter::once(0..text.len() / 2).collect(),
        answers: Vec::new(),
    });
    let rendered: Vec<Rendered> = rendered.collect();
    let start = cpu_seconds();
    let sample = |rendered: &Rendered| {
        tokenizer.sample(&rendered.text, &rendered.trained).expect("a sample").ids.len()
    };
    let tokens: usize = rendered.iter().map(sample).sum();
    report(name, texts, tokens, cpu_seconds() - start);
}

fn report(name: &str, texts: &[String], tokens: usize, seconds: f64) {
    let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;
    println!(
        "{name}: {megabytes:.1} MB, {tokens} tokens, {seconds:.3} CPU s, {:.1} MB/cpu-s",
        megabytes / seconds
    );
}

/// CPU seconds of this process so far, from Linux's scheduler. Zero on other systems.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split(' ')
        .next()
        .and_then(|nanoseconds| nanoseconds.parse::<f64>().ok())
        .unwrap_or_default()
        / 1e9
}
