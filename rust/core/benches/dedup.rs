//! Documents a second that near-dedup signs and admits, on one thread, from text.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use zephyr_core::Folder;
use zephyr_core::dedup::{Seen, Signature, sign};
use zephyr_core::dialogue::{Dialogue, Role, Turn};
use zephyr_core::recipe::Dedup;

const DIALOGUES: u64 = 2_000;

/// Dialogues of about 1.6 KB, the mean of chat rows. One in fifty is a near duplicate of an earlier
/// one.
fn dialogues() -> Vec<Dialogue> {
    let mut state = 7_u64;
    let mut chance = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut dialogues: Vec<Dialogue> = Vec::new();
    for number in 0..DIALOGUES {
        let mut turns: Vec<Turn> = Vec::new();
        if number % 50 == 49 {
            turns.clone_from(&dialogues[chance(number) as usize].turns);
            turns[0].text.push_str(" Thanks in advance!");
        } else {
            for role in [Role::User, Role::Assistant, Role::User, Role::Assistant] {
                let text: String = (0..70)
                    .map(|_| {
                        word(chance(90) * chance(90)) + if chance(12) == 0 { ".\n" } else { " " }
                    })
                    .collect();
                turns.push(Turn::new(role, text));
            }
        }
        dialogues.push(Dialogue { turns, ..Dialogue::default() });
    }
    dialogues
}

/// A word of two to nine letters, capitalised now and then.
fn word(number: u64) -> String {
    let letters = b"etaoinshrdlucmfwypvbgkjqxz";
    let length = 2 + number % 8;
    let mut word: String = (0..length)
        .map(|place| char::from(letters[((number * 31 + place * place * 7) % 26) as usize]))
        .collect();
    if number.is_multiple_of(11) {
        word[..1].make_ascii_uppercase();
    }
    word
}

fn bench(criterion: &mut Criterion) {
    let dialogues = dialogues();
    let dedup = Dedup { exact: Some(true), near: true, ..Dedup::default() };
    let mut group = criterion.benchmark_group("dedup");
    group.throughput(Throughput::Elements(DIALOGUES));
    let sign_all =
        || dialogues.iter().map(|dialogue| sign(dialogue, &dedup)).collect::<Vec<Signature>>();
    group.bench_function("sign", |bencher| bencher.iter(sign_all));
    group.bench_function("sign_and_admit", |bencher| {
        bencher.iter_batched(
            || tempfile::tempdir().expect("a temporary folder"),
            |folder| {
                let mut seen = Seen::new(&Folder::open(folder.path()).expect("opens"), &dedup)
                    .expect("creates its spool");
                for (row, signature) in (0..).zip(sign_all()) {
                    seen.admit(row, &signature).expect("writes its spool");
                }
                folder
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
