//! Two devices share a simple backend.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dynos_sync_core::{
    Edit, Fields, RecordId, RecordKey, Remote, RemoteError, Replica, ReplicaId, TableName,
    conflict::Strategy,
    fields,
    memory::MemoryReplica,
    plan::{
        backoff::Backoff,
        pull,
        push::{self, RetryRules},
    },
    replica::{Batch, DueLimits, Op, Outcome, TableOptions},
    split::{Mark, MemoryRemoteStore, RemoteRow, RemoteStore, RemoteWrite, SimpleRemote},
    wire::{HeadsRequest, PullRequest},
};
use futures_util::FutureExt;

fn table() -> TableName {
    "tasks".parse().unwrap()
}

fn key(id: &str) -> RecordKey {
    RecordKey { table: table(), id: id.parse().unwrap() }
}

fn title(text: &str) -> Fields {
    fields([("title", text.into())])
}

/// Nothing here waits for anything.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

/// The least that an engine does.
struct Device {
    replica: MemoryReplica,
    remote: SimpleRemote,
    page: usize,
}

impl Device {
    fn new(seed: u8, store: impl RemoteStore) -> Self {
        let device =
            Self { replica: MemoryReplica::new([seed; 16]), remote: SimpleRemote::new(store), page: 2 };
        now(device.replica.add_table(TableOptions::new(table()))).unwrap();
        device
    }

    fn commit(&self, batch: Batch) {
        assert!(matches!(now(self.replica.commit(batch)).unwrap(), Outcome::Committed(_)));
    }

    fn write(&self, id: &str, edit: Edit, at: i64) {
        self.commit(Batch { ops: vec![Op::Write { key: key(id), edit, at }], ..Batch::default() });
    }

    async fn push(&self) -> Result<(), RemoteError> {
        let state = self.replica.state().await.unwrap();
        let due = self
            .replica
            .due(&DueLimits { now: 0, longest_wait: i64::MAX, records: 100, bytes: 100_000, under_way: 0 })
            .await
            .unwrap();
        let prepared = push::prepare(&state, due.groups);
        self.commit(prepared.batch);
        let answer = self.remote.push(&prepared.request).await?;
        let backoff = Backoff { exponential: true, cap: Duration::ZERO };
        let rules = RetryRules { max_retries: 1, backoff, keep_refused: false, now: 0 };
        let answered = push::answer(&state, &prepared.entries, &answer, &rules, || 0).unwrap();
        self.commit(answered.batch);
        Ok(())
    }

    /// Pulls to the end. Answers how many changes came.
    async fn pull(&self) -> usize {
        let (mut last, mut changes) = (0, 0);
        loop {
            let state = self.replica.state().await.unwrap();
            let table_state = state.table(&table()).unwrap();
            let request = PullRequest {
                replica: state.replica,
                table: table(),
                cursor: table_state.cursor.clone(),
                seen: None,
                limit: self.page,
                unsettled: vec![],
                all: table_state.phase.wants_all(),
            };
            let page = self.remote.pull(request.clone()).await.unwrap();
            pull::check(&request, &page, last).unwrap();
            last = page.changes.last().map_or(last, |change| change.seq);
            changes += page.changes.len();
            let (next, has_more) = (page.next.clone(), page.has_more);
            let ids: Vec<RecordId> = page.changes.iter().map(|change| change.id.clone()).collect();
            let seen = self.replica.records(&table(), &ids, false).await.unwrap();
            let mut reading = pull::read(&state, table_state, &request, &[], page, seen);
            let mut resolved = Vec::new();
            let strategy = Strategy::LastWriteWins;
            for conflict in std::mem::take(&mut reading.conflicts) {
                let resolution = strategy.resolve(&conflict).await;
                resolved.push(pull::resolve(table_state, conflict, &resolution, strategy.name(), 0));
            }
            self.commit(pull::finish(table_state, reading, resolved, next, has_more, 0));
            if !has_more {
                return changes;
            }
        }
    }

    fn sync(&self) {
        now(async {
            self.pull().await;
            self.push().await.unwrap();
            self.pull().await;
        });
    }

    fn rows(&self, ids: &[String]) -> BTreeMap<RecordId, Fields> {
        let row = |id: &String| Some((id.parse().unwrap(), now(self.replica.get(&key(id))).unwrap()?));
        ids.iter().filter_map(row).collect()
    }

    fn row(&self, id: &str) -> Option<Fields> {
        now(self.replica.get(&key(id))).unwrap()
    }

    fn pending(&self) -> u64 {
        now(self.replica.state()).unwrap().pending
    }
}

fn two() -> (MemoryRemoteStore, Device, Device) {
    let store = MemoryRemoteStore::default();
    (store.clone(), Device::new(1, store.clone()), Device::new(2, store))
}

#[test]
fn devices_converge() {
    let (store, one, two) = two();
    let ids: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    for (n, id) in ids.iter().enumerate() {
        let device = if n % 2 == 0 { &one } else { &two };
        device.write(id, Edit::Upsert(title(id)), 10);
        // Both know of some of them, and one of them changes it once more.
        if n % 3 == 0 {
            one.write(id, Edit::Upsert(title("one")), 20);
            two.write(id, Edit::Upsert(title("two")), 30);
        }
    }
    for _ in 0..2 {
        one.sync();
        two.sync();
    }
    one.write("4", Edit::Patch(title("later")), 40);
    one.sync();
    two.sync();
    assert_eq!(one.rows(&ids), two.rows(&ids));
    assert_eq!(one.rows(&ids), store.records(&table()));
    assert_eq!((one.rows(&ids).len(), one.pending(), two.pending()), (9, 0, 0));
    assert_eq!(two.row("4"), Some(title("later")));
}

#[test]
fn deletes_travel() {
    let (store, one, two) = two();
    one.write("1", Edit::Upsert(title("a")), 10);
    one.sync();
    two.sync();
    assert_eq!(two.row("1"), Some(title("a")));
    two.write("1", Edit::Delete, 20);
    two.sync();
    one.sync();
    assert_eq!((one.row("1"), store.records(&table()).len()), (None, 0));
}

#[test]
fn paging_loses_nothing_where_times_are_equal() {
    let (store, mut one, _) = two();
    let ids: Vec<String> = (0..25).map(|n| format!("row {n}")).collect();
    for (n, id) in ids.iter().enumerate() {
        let updated_at = if n < 20 { 5 } else { 6 };
        let record = Some(title(id));
        store.put(&table(), RemoteRow { id: id.parse().unwrap(), updated_at, writer: None, record });
    }
    for page in [1, 2, 7, 100] {
        one = Device { page, ..Device::new(page as u8, store.clone()) };
        assert_eq!(now(one.pull()), 25, "in pages of {page}");
        assert_eq!(one.rows(&ids), store.records(&table()));
    }
    assert_eq!(now(one.pull()), 0, "nothing is new");
}

#[test]
fn an_end_is_found_though_ids_are_too_long_for_a_cursor() {
    let (store, one, _) = two();
    for n in 0..3 {
        let id = format!("{}{n}", "long".repeat(200)).parse().unwrap();
        store.put(&table(), RemoteRow { id, updated_at: 5, writer: None, record: Some(title("a")) });
    }
    let one = Device { page: 5, ..one };
    now(one.pull());
    let ids: Vec<String> = store.records(&table()).keys().map(ToString::to_string).collect();
    assert_eq!(one.rows(&ids), store.records(&table()));
}

#[test]
fn what_becomes_visible_late_is_found_within_the_overlap() {
    for (overlap, found) in [(0, false), (10, true)] {
        let (store, one, _) = two();
        let row = |id: &str, updated_at| RemoteRow {
            id: id.parse().unwrap(),
            updated_at,
            writer: None,
            record: Some(title(id)),
        };
        for (n, id) in ["a", "b", "c", "d"].iter().enumerate() {
            store.put(&table(), row(id, 100 + n as i64));
        }
        let one = Device { remote: SimpleRemote::new(store.clone()).overlap(overlap), ..one };
        now(one.pull());
        store.put(&table(), row("late", 95));
        now(one.pull());
        now(one.pull());
        assert_eq!(one.row("late").is_some(), found, "overlap {overlap}");
    }
}

#[test]
fn the_echo_of_an_own_push_is_no_conflict_with_a_later_edit() {
    let (_, one, _) = two();
    one.write("1", Edit::Upsert(title("first")), 10);
    now(one.push()).unwrap();
    one.write("1", Edit::Patch(title("second")), 20);
    now(one.pull());
    assert_eq!(one.row("1"), Some(title("second")));
    assert_eq!(now(one.replica.conflicts(i64::MAX, 10)).unwrap(), []);
}

#[test]
fn a_change_is_its_writers_own() {
    let (store, one, _) = two();
    let own = now(one.replica.state()).unwrap().replica;
    for (id, writer) in [("1", Some(own)), ("2", Some(ReplicaId::from_random([9; 16]))), ("3", None)] {
        let record = Some(title("a"));
        store.put(&table(), RemoteRow { id: id.parse().unwrap(), updated_at: 5, writer, record });
    }
    let request = PullRequest {
        replica: own,
        table: table(),
        cursor: None,
        seen: None,
        limit: 10,
        unsettled: vec![],
        all: true,
    };
    let page = now(one.remote.pull(request)).unwrap();
    let owns: Vec<_> = page.changes.iter().map(|change| change.own).collect();
    assert_eq!(owns, [true, false, false]);
}

#[test]
fn a_refused_row_does_not_block_the_others() {
    let (store, one, _) = two();
    one.write("1", Edit::Upsert(title("a")), 10);
    one.sync();
    // Another program drops the row without a trace: a patch finds nothing.
    let gone = RemoteRow { id: "1".parse().unwrap(), updated_at: 0, writer: None, record: None };
    store.put(&table(), gone);
    one.write("1", Edit::Patch(title("b")), 20);
    one.write("2", Edit::Upsert(title("c")), 30);
    now(one.push()).unwrap();
    let letters = now(one.replica.dead_letters(0, 10)).unwrap();
    assert_eq!((letters.len(), letters[0].code.as_str()), (1, "not_found"));
    assert_eq!(store.records(&table()).len(), 1);
}

/// Takes a push and loses the answer, once.
#[derive(Debug)]
struct Lossy(MemoryRemoteStore, Arc<AtomicBool>);

#[async_trait::async_trait]
impl RemoteStore for Lossy {
    async fn push(&self, write: &RemoteWrite<'_>) -> Result<(), RemoteError> {
        self.0.push(write).await?;
        if self.1.swap(false, Ordering::SeqCst) { Err(RemoteError::transient("lost")) } else { Ok(()) }
    }

    async fn pull_since(
        &self,
        table: &TableName,
        since: Option<&Mark>,
        limit: usize,
    ) -> Result<Vec<RemoteRow>, RemoteError> {
        self.0.pull_since(table, since, limit).await
    }
}

#[test]
fn a_push_whose_answer_was_lost_is_repeated() {
    let store = MemoryRemoteStore::default();
    let one = Device::new(1, Lossy(store.clone(), Arc::new(AtomicBool::new(true))));
    one.write("1", Edit::Upsert(title("a")), 10);
    assert!(now(one.push()).unwrap_err().is_transient());
    assert_eq!(one.pending(), 1);
    one.sync();
    assert_eq!((one.pending(), one.row("1")), (0, Some(title("a"))));
    assert_eq!(store.records(&table()).len(), 1);
}

#[test]
fn every_table_is_pulled_each_time() {
    let remote = SimpleRemote::new(MemoryRemoteStore::default()).server("here");
    let replica = now(MemoryReplica::new([1; 16]).state()).unwrap().replica;
    let pull = PullRequest {
        replica,
        table: table(),
        cursor: None,
        seen: None,
        limit: 1,
        unsettled: vec![],
        all: true,
    };
    let at_end = now(remote.pull(pull)).unwrap();
    let heads = now(remote.heads(HeadsRequest { replica, tables: vec![table()] })).unwrap();
    assert_eq!((heads.server.as_str(), at_end.has_more), ("here", false));
    assert_ne!(heads.heads[&table()], at_end.next);
}
