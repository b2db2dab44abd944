//! The engine's parts, each by itself: planning, coalescing, masking, measuring, and the wire.
//!
//! ```sh
//! cargo bench -p dynos-sync-bench
//! ```

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use divan::{Bencher, black_box, counter::ItemsCount};
use dynos_sync_core::{
    Change, Cursor, Edit, Entry, Fields, Operation, RecordId, RecordKey, Redactor, ReplicaId, TableSpec,
    fields, json, measure,
    plan::{push, write},
    replica::{Phase, State, TablePolicy, TableState},
    wire::{Page, PushEntry, PushRequest},
};

const ROWS: usize = 1000;

fn main() {
    divan::main();
}

fn record(n: usize) -> Fields {
    fields([
        ("title", format!("Buy {n} apples and a melon").into()),
        (
            "body",
            "green door lake paper stone north apple window green door lake paper stone north apple window"
                .into(),
        ),
        ("done", false.into()),
        ("position", n.into()),
        ("created_at", "2026-03-04T05:06:07Z".into()),
        ("user_id", "6b1f4a52-8d0e-4c7b-9a53-27c9be1f04ad".into()),
    ])
}

fn id(n: usize) -> RecordId {
    RecordId::try_from(format!("6b1f4a52-8d0e-4c7b-9a53-{n:012x}")).unwrap()
}

fn table() -> TableState {
    TableState {
        spec: TableSpec::document("task".parse().unwrap()),
        policy: TablePolicy::default(),
        cursor: Some(Cursor::new("c")),
        ahead: None,
        gained: std::collections::BTreeSet::new(),
        phase: Phase::Following,
        declared: true,
        synced_at: None,
    }
}

fn state() -> State {
    State {
        replica: ReplicaId::from_random([7; 16]),
        generation: 0,
        server: None,
        clock: 0,
        last_counter: ROWS as u64,
        last_sent: 0,
        schema: 0,
        tables: vec![table()],
        pending: ROWS as u64,
        dead_letters: 0,
        conflicts: 0,
        quarantined: 0,
    }
}

fn entry(n: usize) -> Entry {
    Entry {
        counter: n as u64 + 1,
        key: RecordKey { table: "task".parse().unwrap(), id: id(n) },
        edit: Edit::Upsert(record(n)),
        at: 1_700_000_000_000,
        sent: None,
        attempts: 0,
        retry_at: None,
        transaction: None,
    }
}

#[divan::bench]
fn a_local_edit_passes_the_gates(bencher: Bencher<'_, '_>) {
    let (table, key) = (table(), entry(1).key);
    bencher
        .with_inputs(|| Edit::Upsert(record(1)))
        .bench_values(|edit| write::write(&table, &key, edit, 1, 1 << 20).unwrap());
}

#[divan::bench]
fn a_push_of_1000_is_prepared(bencher: Bencher<'_, '_>) {
    let state = state();
    bencher
        .counter(ItemsCount::new(ROWS))
        .with_inputs(|| (0..ROWS).map(|n| vec![entry(n)]).collect::<Vec<_>>())
        .bench_values(|groups| push::prepare(&state, groups));
}

#[divan::bench]
fn ten_edits_of_a_record_become_one(bencher: Bencher<'_, '_>) {
    let patch = |n: usize| Edit::Patch(fields([("title", n.to_string().into()), ("position", n.into())]));
    bencher
        .with_inputs(|| (0..10).map(patch).collect::<Vec<_>>())
        .bench_values(|edits| edits.into_iter().reduce(Edit::then));
}

#[divan::bench]
fn a_record_is_masked(bencher: Bencher<'_, '_>) {
    let redactor = Redactor::new(&["body".to_owned(), "owner.phone".to_owned()]);
    bencher.with_inputs(|| record(1)).bench_refs(|fields| redactor.mask(fields));
}

#[divan::bench]
fn a_record_is_measured(bencher: Bencher<'_, '_>) {
    let record = record(1);
    bencher.bench(|| measure(black_box(&record)).unwrap());
}

fn request() -> PushRequest {
    let entry = |n| PushEntry {
        counter: n as u64,
        table: "task".parse().unwrap(),
        id: id(n),
        op: Operation::Upsert,
        base: Some(Cursor::new("c")),
        at: 1_700_000_000_000,
        data: Some(record(n)),
        transaction: None,
    };
    PushRequest::new(ReplicaId::from_random([7; 16]), (0..ROWS).map(entry).collect())
}

#[divan::bench]
fn a_push_of_1000_is_written(bencher: Bencher<'_, '_>) {
    let request = request();
    bencher.counter(ItemsCount::new(ROWS)).bench(|| serde_json::to_vec(black_box(&request)).unwrap());
}

#[divan::bench]
fn a_push_of_1000_is_read(bencher: Bencher<'_, '_>) {
    let text = serde_json::to_vec(&request()).unwrap();
    bencher
        .counter(ItemsCount::new(ROWS))
        .bench(|| serde_json::from_slice::<PushRequest>(black_box(&text)).unwrap());
}

#[divan::bench]
fn a_page_of_1000_is_read(bencher: Bencher<'_, '_>) {
    let change = |n| Change {
        id: id(n),
        seq: n as u64 + 1,
        at: 1_700_000_000_000,
        own: false,
        again: false,
        record: Some(record(n)),
    };
    let page = Page {
        changes: (0..ROWS).map(change).collect(),
        settled: Vec::new(),
        next: Cursor::new("c"),
        has_more: false,
        total: None,
    };
    let text = serde_json::to_vec(&page).unwrap();
    bencher
        .counter(ItemsCount::new(ROWS))
        .bench(|| serde_json::from_slice::<Page>(black_box(&text)).unwrap());
}

#[divan::bench]
fn json_values_are_compared(bencher: Bencher<'_, '_>) {
    let (one, other) = (json!(record(1)), json!(record(1)));
    bencher.bench(|| black_box(&one) == black_box(&other));
}
