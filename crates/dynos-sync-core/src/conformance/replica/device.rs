//! A replica in the hands of a case, with the unexpected unwrapped.

use std::sync::Arc;

use serde_json::json;

use super::{super::some, Fixture};
use crate::{
    clock::Millis,
    conflict::StrategyName,
    cursor::Cursor,
    entry::{Edit, Entry},
    ids::{Counter, RecordId, RecordKey, TableName},
    plan::push,
    record::Fields,
    replica::{
        Batch, Due, DueLimits, Expected, Op, Outcome, Phase, Receipt, Replica, ReplicaError, Resolved,
        Revert, Seen, State, TableOptions, TableState,
    },
};

/// The table of most cases.
pub(super) const TABLE: &str = "tasks";
/// A second one.
pub(super) const OTHER: &str = "lists";
/// Later than any retry of a case.
pub(super) const LATE: Millis = 1_000_000_000;

pub(super) fn name(table: &str) -> TableName {
    table.parse().unwrap()
}

pub(super) fn id(id: &str) -> RecordId {
    id.parse().unwrap()
}

pub(super) fn key(id: &str) -> RecordKey {
    key_in(TABLE, id)
}

pub(super) fn key_in(table: &str, id: &str) -> RecordKey {
    RecordKey::new(table, id).unwrap()
}

pub(super) fn cursor(token: &str) -> Cursor {
    Cursor::new(token)
}

pub(super) fn write(id: &str, edit: Edit) -> Op {
    Op::Write { key: key(id), edit, at: 0 }
}

pub(super) fn store(id: &str, record: Option<Fields>) -> Op {
    Op::Store { key: key(id), record }
}

pub(super) fn settle(entry: &Entry, record: Option<Fields>) -> Op {
    Op::Settle { key: entry.key.clone(), counter: entry.counter, record }
}

pub(super) fn postpone(entry: &Entry, retry_at: Millis) -> Op {
    Op::Postpone { key: entry.key.clone(), counter: entry.counter, retry_at }
}

/// A conflict of which only the journal knows.
pub(super) fn journaled(key: RecordKey) -> Op {
    let conflict = Resolved {
        key,
        base: None,
        mine: None,
        theirs: None,
        outcome: some(json!({})),
        strategy: StrategyName::ServerWins,
        at: 1,
        decided_at: 1,
    };
    Op::Resolve { conflict: Box::new(conflict), edit: None }
}

pub(super) fn bury(entry: &Entry, revert: Revert) -> Op {
    let (key, counter) = (entry.key.clone(), entry.counter);
    Op::Bury { key, counter, code: "constraint".into(), message: "no".into(), at: 77, revert }
}

pub(super) fn set_aside(entry: &Entry, fields: &[&str]) -> Op {
    Op::SetAside {
        key: entry.key.clone(),
        counter: entry.counter,
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        message: "no".into(),
        at: 77,
    }
}

pub(super) fn advance(token: &str, seen: &[&str]) -> Op {
    Op::Advance {
        table: name(TABLE),
        cursor: cursor(token),
        seen: seen.iter().map(|text| id(text)).collect(),
    }
}

pub(super) fn complete() -> Op {
    Op::Complete { table: name(TABLE), at: 50, passed: None }
}

pub(super) fn restart(phase: Phase) -> Op {
    Op::Restart { table: name(TABLE), phase, ahead: None }
}

pub(super) struct Device {
    pub(super) replica: Arc<dyn Replica>,
}

impl Device {
    /// Opens a fixture's database and syncs a table in it.
    pub(super) async fn new(fixture: &dyn Fixture) -> Self {
        let device = Self { replica: fixture.open().await };
        device.add(TABLE).await;
        device
    }

    /// Closes the database and opens it again; `None` where it would not be the same.
    pub(super) async fn reopened(self, fixture: &dyn Fixture) -> Option<Self> {
        if !fixture.is_durable() {
            return None;
        }
        self.replica.close().await;
        drop(self);
        Some(Self { replica: fixture.open().await })
    }

    pub(super) async fn add(&self, table: &str) {
        assert!(self.replica.add_table(TableOptions::new(name(table))).await.unwrap(), "{table} was there");
    }

    pub(super) async fn attempt(&self, ops: Vec<Op>) -> Result<Outcome, ReplicaError> {
        self.replica.commit(Batch { ops, ..Batch::default() }).await
    }

    pub(super) async fn commit_if(&self, expected: Expected, ops: Vec<Op>) -> Outcome {
        self.replica.commit(Batch { expected, ops, ..Batch::default() }).await.unwrap()
    }

    pub(super) async fn commit(&self, ops: Vec<Op>) -> Receipt {
        match self.attempt(ops).await.unwrap() {
            Outcome::Committed(receipt) => receipt,
            Outcome::Stale => panic!("a batch that expects nothing was stale"),
        }
    }

    pub(super) async fn write(&self, id: &str, edit: Edit) -> Counter {
        self.commit(vec![write(id, edit)]).await.written[0].unwrap()
    }

    /// Marks all that is due as sent, as the engine does.
    pub(super) async fn send(&self) -> Vec<Entry> {
        let prepared = push::prepare(&self.state().await, self.due_at(LATE).await.groups);
        let outcome = self.replica.commit(prepared.batch).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed(_)), "nothing came between");
        prepared.entries
    }

    /// As [`send`](Self::send), where one entry is due.
    pub(super) async fn send_one(&self) -> Entry {
        let mut entries = self.send().await;
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    }

    pub(super) async fn row(&self, id: &str) -> Option<Fields> {
        self.row_of(&key(id)).await
    }

    pub(super) async fn row_of(&self, key: &RecordKey) -> Option<Fields> {
        self.replica.get(key).await.unwrap()
    }

    pub(super) async fn seen(&self, record: &str) -> Seen {
        let mut seen = self.replica.records(&name(TABLE), &[id(record)], true).await.unwrap();
        assert_eq!(seen.len(), 1);
        seen.remove(0)
    }

    pub(super) async fn base(&self, record: &str) -> Option<Fields> {
        self.seen(record).await.base
    }

    pub(super) async fn entries(&self, record: &str) -> Vec<Entry> {
        self.seen(record).await.entries
    }

    pub(super) async fn queue(&self) -> Vec<Entry> {
        self.replica.queue(0, 1000).await.unwrap()
    }

    pub(super) async fn due_at(&self, now: Millis) -> Due {
        self.due_within(now, 1000, usize::MAX).await
    }

    /// What else can be sent while so many entries are under way.
    pub(super) async fn due_beside(&self, under_way: usize, records: usize) -> Due {
        let limits = DueLimits { now: 0, longest_wait: i64::MAX, records, bytes: usize::MAX, under_way };
        self.replica.due(&limits).await.unwrap()
    }

    pub(super) async fn due_within(&self, now: Millis, records: usize, bytes: usize) -> Due {
        self.replica
            .due(&DueLimits { now, longest_wait: i64::MAX, records, bytes, under_way: 0 })
            .await
            .unwrap()
    }

    pub(super) async fn unsettled(&self) -> Vec<Entry> {
        self.replica.unsettled(&name(TABLE), 1000).await.unwrap()
    }

    pub(super) async fn state(&self) -> State {
        self.replica.state().await.unwrap()
    }

    pub(super) async fn table(&self) -> TableState {
        self.table_named(TABLE).await
    }

    pub(super) async fn table_named(&self, table: &str) -> TableState {
        self.state().await.table(&name(table)).unwrap().clone()
    }
}

/// The numbers of entries.
pub(super) fn counters(entries: &[Entry]) -> Vec<Counter> {
    entries.iter().map(|entry| entry.counter).collect()
}

/// The edits of entries.
pub(super) fn edits(entries: &[Entry]) -> Vec<Edit> {
    entries.iter().map(|entry| entry.edit.clone()).collect()
}

/// The ids of the records of entries.
pub(super) fn ids<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<String> {
    entries.into_iter().map(|entry| entry.key.id.to_string()).collect()
}
