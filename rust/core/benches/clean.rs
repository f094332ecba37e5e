//! Measures truecasing and the phrase filter of the bundled recipe in megabytes of text per second,
//! on one thread.
//!
//! `ZEPHYR_FAST_BENCH_INPUT` names a file of rows, plain or packed (generated text if unset).

use std::path::PathBuf;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use zephyr_core::dialogue::{Dialogue, Role, Turn};
use zephyr_core::filter;
use zephyr_core::progress::Watch;
use zephyr_core::read;
use zephyr_core::read::shape::detect;
use zephyr_core::recipe::TruecaseRules;
use zephyr_core::stage::{Notes, Stage};
use zephyr_core::truecase::Truecase;

const RECIPE: &str = include_str!("../../../python/zephyr_fast/recipes/ultrachat.toml");

const CAREFUL: Truecase = Truecase(TruecaseRules::Careful);

/// Questions in lower case, and answers of a few paragraphs.
fn generated() -> Vec<Dialogue> {
    let answer = "Most sentences begin as they should. In this one, language matters!\n\nThe next \
        paragraph says \"more\". ";
    let turns = |number: usize| {
        let question = format!("what is {number}? i think it's odd. tell me more about it, please");
        let turn = |role, text| Turn::new(role, text);
        vec![turn(Role::User, question), turn(Role::Assistant, answer.repeat(8 + number % 9))]
    };
    (0..4_000).map(|number| Dialogue { turns: turns(number), ..Dialogue::default() }).collect()
}

fn dialogues() -> Vec<Dialogue> {
    let Some(path) = std::env::var_os("ZEPHYR_FAST_BENCH_INPUT") else { return generated() };
    let input = read::inputs(&[PathBuf::from(path)], &Watch::default()).expect("digests").remove(0);
    let chunks = read::chunks(&input, &read::Progress::default())
        .expect("opens")
        .map(|chunk| chunk.expect("reads"));
    let parsed = chunks.flat_map(|chunk| {
        let rows = chunk.rows.iter().map(|row| &chunk.bytes[row.start..row.end]);
        rows.filter_map(|row| detect(row, false)?.parse(row).ok()).collect::<Vec<_>>()
    });
    parsed.collect()
}

fn phrases() -> Box<dyn Stage> {
    let recipe: toml::Table = RECIPE.parse().expect("a recipe");
    let filters = recipe["filter"].as_array().expect("filters");
    let table = filters
        .iter()
        .filter_map(toml::Value::as_table)
        .find(|table| table["kind"].as_str() == Some("phrases"));
    filter::build(table.expect("the phrase filter").clone()).expect("a filter")
}

fn bench(criterion: &mut Criterion) {
    let dialogues = dialogues();
    let bytes: usize =
        dialogues.iter().flat_map(|dialogue| &dialogue.turns).map(|turn| turn.text.len()).sum();
    let phrases = phrases();
    let mut group = criterion.benchmark_group("clean");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(bytes as u64));
    let stages: [(&str, &[&dyn Stage]); 3] = [
        ("truecase", &[&CAREFUL]),
        ("phrases", &[phrases.as_ref()]),
        ("truecase_and_phrases", &[&CAREFUL, phrases.as_ref()]),
    ];
    for (name, stages) in stages {
        group.bench_function(name, |bencher| {
            let visit = |mut dialogues: Vec<Dialogue>| {
                let mut notes = Notes::default();
                for dialogue in &mut dialogues {
                    stages.iter().for_each(|stage| drop(stage.visit(dialogue, &mut notes)));
                }
                (dialogues, notes.letters_changed)
            };
            bencher.iter_batched(|| dialogues.clone(), visit, BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
