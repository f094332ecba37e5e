//! Measures parsing of JSON lines to dialogues in megabytes per second, on one thread: reading
//! chunks, parsing shapes, and both combined as in a run.
//!
//! `ZEPHYR_FAST_BENCH_INPUT` names a file of rows, plain or packed (generated UltraChat rows if
//! unset).

use std::io::Write;
use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use zephyr_core::progress::Watch;
use zephyr_core::read::shape::{self, Shape};
use zephyr_core::read::{self, Chunk, Input};

/// Rows of about 3 KB with an escape every ninety bytes, as in chat data.
fn generated() -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".jsonl").tempfile().expect("a temporary file");
    let line = "This is a sentence of an answer, as long as most of them are, and it ends a \
        paragraph.\\n\\nThe \\\"next\\\" one follows. ";
    for row in 0..8_000 {
        let (question, answer) = (format!("what about number {row}? "), line.repeat(10 + row % 7));
        writeln!(
            file,
            r#"{{"id":"{row}","data":["{question}","{answer}","and then?","{answer}"]}}"#
        )
        .expect("writes");
    }
    file
}

fn chunks(input: &Input) -> impl Iterator<Item = Chunk> {
    read::chunks(input, &read::Progress::default())
        .expect("opens")
        .map(|chunk| chunk.expect("reads"))
}

fn rows(chunk: &Chunk) -> impl Iterator<Item = &[u8]> {
    chunk.rows.iter().map(|row| &chunk.bytes[row.start..row.end])
}

fn shape(chunk: &Chunk) -> &'static Shape {
    let detect = |row: &[u8]| shape::detect(row, false).or_else(|| shape::detect(row, true));
    rows(chunk).find_map(detect).expect("rows of a known shape")
}

fn bench(criterion: &mut Criterion) {
    let generated = generated();
    let path = std::env::var_os("ZEPHYR_FAST_BENCH_INPUT")
        .map_or_else(|| generated.path().to_owned(), PathBuf::from);
    let input = read::inputs(&[path], &Watch::default()).expect("digests").remove(0);
    let held: Vec<Chunk> = chunks(&input).collect();
    let shape = shape(&held[0]);
    let mut group = criterion.benchmark_group("read");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(held.iter().map(|chunk| chunk.bytes.len() as u64).sum()));
    group.bench_function("chunks", |bencher| {
        bencher.iter(|| chunks(&input).map(|chunk| chunk.rows.len()).sum::<usize>())
    });
    let parsed = |chunk: &Chunk| rows(chunk).filter(|row| shape.parse(row).is_ok()).count();
    group.bench_function("rows_to_dialogues", |bencher| {
        bencher.iter(|| held.iter().map(parsed).sum::<usize>())
    });
    group.bench_function("file_to_dialogues", |bencher| {
        bencher.iter(|| chunks(&input).map(|chunk| parsed(&chunk)).sum::<usize>())
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
