//! A store fails at any one of its calls: the step that it was part of is done whole or not at all, and every
//! acknowledged one is there.

use std::sync::Arc;

use dynos_sync_core::{
    Cursor, Edit, Fields, RecordKey, Replica, ReplicaError, TableName,
    conflict::StrategyName,
    fields,
    memory::MemoryReplica,
    plan::push,
    replica::{
        Batch, DeadLetter, DueLimits, Journaled, Op, Outcome, Phase, Resolved, Revert, State, TableOptions,
    },
    split::{
        LocalStore, MemoryLocalStore, MemoryQueueStore, MemoryTimestampStore, SplitReplica, TimestampStore,
    },
};
use futures_util::FutureExt;

use crate::faulty::{Faulty, Fuse, How};

const SEED: [u8; 16] = [7; 16];
const IDS: [&str; 6] = ["1", "2", "3", "4", "5", "6"];

fn table() -> TableName {
    "tasks".parse().unwrap()
}

fn key(id: &str) -> RecordKey {
    RecordKey { table: table(), id: id.parse().unwrap() }
}

fn row(value: i64) -> Fields {
    fields([("a", value.into())])
}

/// What a device goes through. Each step is one transaction, but for reads.
#[derive(Clone, Debug)]
enum Step {
    Add,
    Commit(Vec<Op>),
    /// Marks what is due as sent.
    Send,
    /// What was sent has arrived, and the server keeps it in another form.
    Settle,
    /// The first entry in the queue is refused for good.
    Bury,
    Remove,
    Logout,
}

fn write(id: &str, edit: Edit) -> Step {
    Step::Commit(vec![Op::Write { key: key(id), edit, at: 10 }])
}

/// A page of rows with whatever else belongs to it.
fn page(cursor: &str, rows: &[&str], mut ops: Vec<Op>) -> Step {
    ops.extend(rows.iter().map(|id| Op::Store { key: key(id), record: Some(row(100)) }));
    let seen = rows.iter().map(|id| id.parse().unwrap()).collect();
    ops.push(Op::Advance { table: table(), cursor: Cursor::new(cursor), seen });
    ops.push(Op::Complete { table: table(), at: 20, passed: None });
    Step::Commit(ops)
}

fn conflict(id: &str, outcome: Option<Fields>, edit: Option<Edit>) -> Op {
    let theirs = Some(row(2));
    let resolved = Resolved {
        key: key(id),
        base: None,
        mine: None,
        theirs,
        outcome,
        strategy: StrategyName::Custom,
        at: 15,
        decided_at: 15,
    };
    Op::Resolve { conflict: Box::new(resolved), edit }
}

fn scenario() -> Vec<Step> {
    let patch = || Edit::Patch(fields([("b", 1.into())]));
    vec![
        Step::Add,
        page("one", &["3", "4", "5"], vec![]),
        write("1", Edit::Upsert(row(1))),
        Step::Send,
        Step::Settle,
        write("2", Edit::Upsert(row(1))),
        write("3", patch()),
        write("3", patch()),
        write("4", Edit::Delete),
        write("5", patch()),
        page(
            "two",
            &["6"],
            vec![
                conflict("3", Some(row(2)), None),
                conflict("4", Some(row(3)), Some(Edit::Patch(row(3)))),
                Op::Observe { at: 1000 },
            ],
        ),
        Step::Bury,
        Step::Send,
        write("4", patch()),
        Step::Commit(vec![Op::Rename]),
        Step::Commit(vec![Op::Restart { table: table(), phase: Phase::Resync, ahead: None }]),
        page("three", &["1"], vec![]),
        Step::Commit(vec![Op::Restart {
            table: table(),
            phase: Phase::Restore { common: 1, own: None },
            ahead: None,
        }]),
        page("four", &["1"], vec![]),
        Step::Remove,
        Step::Add,
        Step::Logout,
        write("1", Edit::Upsert(row(9))),
    ]
}

async fn take(step: &Step, replica: &dyn Replica) -> Result<(), ReplicaError> {
    let ops = match step {
        Step::Add => return replica.add_table(TableOptions::new(table())).await.map(drop),
        Step::Remove => return replica.remove_table(&table()).await.map(drop),
        Step::Logout => return replica.logout(true).await.map(drop),
        Step::Commit(ops) => ops.clone(),
        Step::Send => {
            let due = replica
                .due(&DueLimits {
                    now: 10_000,
                    longest_wait: i64::MAX,
                    records: 10,
                    bytes: 10_000,
                    under_way: 0,
                })
                .await?;
            push::prepare(&replica.state().await?, due.groups).batch.ops
        }
        Step::Settle => {
            let sent = replica.unsettled(&table(), 10).await?;
            let record = Some(fields([("a", 1.into()), ("stamp", "server".into())]));
            sent.iter()
                .map(|e| Op::Settle { key: e.key.clone(), counter: e.counter, record: record.clone() })
                .collect()
        }
        Step::Bury => {
            let first = replica.queue(0, 1).await?.remove(0);
            let (key, counter, code, message) = (first.key, first.counter, "no".into(), "no".into());
            vec![Op::Bury { key, counter, code, message, at: 1, revert: Revert::To(Some(row(50))) }]
        }
    };
    let outcome = replica.commit(Batch { ops, ..Batch::default() }).await?;
    assert!(matches!(outcome, Outcome::Committed(_)), "{step:?}");
    Ok(())
}

/// Everything that can be seen of a replica.
#[derive(Debug, PartialEq)]
struct Seen {
    state: State,
    rows: Vec<Option<Fields>>,
    entries: Vec<dynos_sync_core::replica::Seen>,
    letters: Vec<DeadLetter>,
    conflicts: Vec<Journaled>,
}

async fn see(replica: &dyn Replica) -> Seen {
    let mut rows = Vec::new();
    for id in IDS {
        match replica.get(&key(id)).await {
            Ok(row) => rows.push(row),
            Err(ReplicaError::UnknownTable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let ids = IDS.map(|id| id.parse().unwrap());
    Seen {
        state: replica.state().await.unwrap(),
        rows,
        entries: replica.records(&table(), &ids, false).await.unwrap(),
        letters: replica.dead_letters(0, 10).await.unwrap(),
        conflicts: replica.conflicts(i64::MAX, 10).await.unwrap(),
    }
}

/// What is there before the first step and after each.
fn reference(steps: &[Step]) -> Vec<Seen> {
    let replica = MemoryReplica::new(SEED);
    let run = async {
        let mut seen = vec![see(&replica).await];
        for step in steps {
            take(step, &replica).await.unwrap();
            seen.push(see(&replica).await);
        }
        seen
    };
    run.now_or_never().unwrap()
}

#[derive(Clone, Default)]
struct Stores(MemoryLocalStore, MemoryQueueStore, MemoryTimestampStore);

impl Stores {
    /// Opens them; `None` where a store fails.
    fn open(&self, fuse: &Arc<Fuse>) -> Option<SplitReplica> {
        let Self(local, queue, timestamps) = self.clone();
        let fuse = || Arc::clone(fuse);
        SplitReplica::open(Faulty(local, fuse()), Faulty(queue, fuse()), Faulty(timestamps, fuse()), SEED)
            .now_or_never()?
            .ok()
    }

    fn open_sound(&self) -> SplitReplica {
        self.open(&Fuse::new(usize::MAX, How::Fails, false)).unwrap()
    }

    /// A cursor that is ahead of its rows would lose them.
    fn assert_rows_are_there(&self) {
        let position = self.2.all().now_or_never().unwrap().unwrap().remove(&table());
        let at = position.and_then(|position| position.cursor);
        let needed = match at.as_ref().map(Cursor::as_str) {
            Some("one") => ["3", "5"],
            Some("two") => ["5", "6"],
            Some("three" | "four") => ["1", "1"],
            _ => return,
        };
        for id in needed {
            assert!(self.0.get(&key(id)).now_or_never().unwrap().unwrap().is_some(), "{id} at {at:?}");
        }
    }
}

/// Runs the scenario with one failing call. Answers whether it came to that call.
fn run(calls: usize, how: How, effective: bool) -> bool {
    let steps = scenario();
    let expected = reference(&steps);
    let (stores, fuse) = (Stores::default(), Fuse::new(calls, how, effective));
    let mut replica = stores.open(&fuse).unwrap_or_else(|| stores.open_sound());
    let mut done = 0;
    while done < steps.len() {
        let taken = take(&steps[done], &replica).now_or_never();
        if matches!(taken, Some(Ok(()))) {
            done += 1;
            continue;
        }
        assert!(fuse.is_blown(), "{:?}: {taken:?}", steps[done]);
        stores.assert_rows_are_there();
        if how == How::Dies {
            replica = stores.open_sound();
        }
        let found = see(&replica).now_or_never().unwrap();
        // Not acknowledged: it may have been done, whole.
        if found == expected[done + 1] {
            done += 1;
        }
        assert_eq!(found, expected[done], "call {calls} {how:?}, effective: {effective}");
    }
    let blown = fuse.is_blown();
    drop(replica);
    assert_eq!(see(&stores.open_sound()).now_or_never().unwrap(), expected[done], "after reopening");
    blown
}

#[test]
fn a_step_is_whole_whichever_call_fails() {
    for how in [How::Fails, How::Dies, How::Hangs] {
        for effective in [false, true] {
            let mut calls = 1;
            while run(calls, how, effective) {
                calls += 1;
            }
            assert!(calls > 50, "the scenario made {calls} calls only");
        }
    }
}

#[test]
fn a_crash_after_every_step_changes_nothing() {
    let steps = scenario();
    let stores = Stores::default();
    for (step, expected) in steps.iter().zip(&reference(&steps)[1..]) {
        take(step, &stores.open_sound()).now_or_never().unwrap().unwrap();
        assert_eq!(see(&stores.open_sound()).now_or_never().unwrap(), *expected, "{step:?}");
    }
}

#[test]
fn healing_may_itself_be_interrupted() {
    let steps = scenario();
    let expected = reference(&steps);
    for calls in 1.. {
        let (stores, fuse) = (Stores::default(), Fuse::new(calls, How::Dies, true));
        let taken = |replica: &SplitReplica| {
            let takes = steps.iter().map(|step| take(step, replica).now_or_never());
            takes.take_while(|taken| matches!(taken, Some(Ok(())))).count()
        };
        let done = stores.open(&fuse).as_ref().map_or(0, taken);
        if done == steps.len() {
            return;
        }
        // Each opening gets one call further than the one before.
        let open = |calls| stores.open(&Fuse::new(calls, How::Dies, false));
        let replica = (1..).find_map(open).unwrap();
        drop(replica);
        let found = see(&stores.open_sound()).now_or_never().unwrap();
        assert!(found == expected[done] || found == expected[done + 1], "call {calls}: {found:?}");
    }
}
