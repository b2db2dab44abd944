//! Cursors from outside, before a server's judge.
//!
//! The server's data has lived three times, and its last life began from a copy that was made before the end of the second.
//! An input is a cursor to pull from, a cursor that was `seen` and one that an edit is based on, one a line. `A`, `B` and `C`
//! stand for the names of the lives.

use std::{cell::RefCell, fs, path::Path, sync::LazyLock};

use dynos_sync_core::{
    Cursor, Fields, Operation, RecordId, ReplicaId, Seq, TableName, TableSpec,
    wire::{Expired, HeadsRequest, PullRequest, PushEntry, PushRequest, PushResult, RejectCode},
};
use dynos_sync_server::{
    Config,
    config::{Auth, Durability, Now, Secret, Threads},
    store::{Caller, Page, SqliteStore, Store, StoreError, reread},
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::{
    script,
    stage::{NOW, SECRET},
};

/// The table in question, whose records are `r0`, `r1` and so on, but for those that are gone.
const TABLE: &str = "t";

/// A record that was deleted late, and that the edits of the inputs patch: they are never applied.
const GONE: &str = "r9";

thread_local! {
    static COURT: RefCell<Option<Court>> = const { RefCell::new(None) };
}

/// The body of the target.
pub fn run(data: &[u8]) {
    COURT.with_borrow_mut(|court| {
        let court = court.get_or_insert_with(Court::new);
        let lines = script::text_lines(data);
        let cursor = |place: usize| lines.get(place).map(|line| court.name(line));
        let (from, seen, base) = (cursor(0), cursor(1), cursor(2));
        court.rewrite(from.as_ref());
        court.pull(from.clone(), None);
        court.pull(from, seen);
        court.counter += 1;
        court.base(base);
    });
}

struct Court {
    store: SqliteStore,
    lives: Vec<String>,
    /// What the table holds: the seqs of its newest changes.
    history: Vec<(RecordId, Seq)>,
    head: Cursor,
    gone: Seq,
    counter: u64,
    _folder: TempDir,
}

fn caller() -> Caller {
    Caller { subject: "ada".to_owned() }
}

fn table() -> TableName {
    TABLE.parse().expect("a name")
}

fn replica(n: u8) -> ReplicaId {
    ReplicaId::from_random([n; 16])
}

impl Court {
    fn new() -> Self {
        let folder = script::folder();
        let path = folder.path().join("server.db");
        let mut lives = Vec::new();
        let store = open(&path, 0);
        block_on(store.declare(&caller(), vec![TableSpec::document(table())])).expect("declared");
        edit(&store, 1..8, Operation::Upsert);
        lives.push(life(&store));
        close(store);
        let store = open(&path, 1);
        edit(&store, 8..12, Operation::Upsert);
        let copy = folder.path().join("copy.db");
        lives.push(life(&store));
        close(store);
        fs::copy(&path, &copy).expect("a copy");
        let store = open(&path, 2);
        edit(&store, 12..20, Operation::Upsert);
        lives.push(life(&store));
        close(store);
        let store = open(&copy, 3);
        edit(&store, 20..23, Operation::Upsert);
        edit(&store, 109..110, Operation::Delete);
        edit(&store, 123..125, Operation::Upsert);
        let head = head(&store);
        let mut court = Self { store, lives, history: vec![], head, gone: 0, counter: 0, _folder: folder };
        court.history = court.walk(None, None).expect("a walk").into_iter().map(|c| (c.id, c.seq)).collect();
        let gone = |(id, _): &&(RecordId, Seq)| id.as_str() == GONE;
        court.gone = court.history.iter().find(gone).expect("the deletion").1;
        court
    }

    fn name(&self, line: &str) -> Cursor {
        let named = ["A", "B", "C"].iter().zip(&self.lives);
        Cursor::new(named.fold(line.to_owned(), |line, (letter, life)| line.replace(letter, life)))
    }

    /// A token is read as it is written.
    fn rewrite(&self, cursor: Option<&Cursor>) {
        let Some((seq, end, written)) = cursor.and_then(reread) else { return };
        assert!(end >= seq);
        assert_eq!(reread(&written), Some((seq, end, written.clone())), "{cursor:?}");
    }

    /// A page goes on behind the cursor, and from there to the end nothing is left out.
    fn pull(&self, from: Option<Cursor>, seen: Option<Cursor>) {
        let read = |cursor: &Option<Cursor>| cursor.as_ref().map(reread);
        let is_token = read(&from) != Some(None) && read(&seen) != Some(None);
        let has_token = from.iter().chain(&seen).any(|cursor| reread(cursor).is_some());
        match self.walk(from.clone(), seen) {
            Ok(changes) => {
                assert!(is_token, "{from:?} is none of ours");
                let place = read(&from).flatten().map_or(0, |(seq, ..)| seq);
                let expected = self.history.iter().filter(|(_, seq)| *seq > place);
                let found: Vec<_> = changes.iter().map(|change| (change.id.clone(), change.seq)).collect();
                assert_eq!(found, expected.cloned().collect::<Vec<_>>(), "from {from:?}");
            }
            Err(StoreError::Expired(Expired::RolledBack { common, own })) => {
                let newest = self.history.last().map_or(0, |(_, seq)| *seq);
                assert!(has_token && common <= newest, "{common} of {newest}");
                assert!(own.is_none_or(|own| (common + 1..=newest).contains(&own)), "{own:?} of {newest}");
            }
            // Nothing was purged.
            Err(StoreError::Invalid(_)) => assert!(!is_token, "{from:?} is one of ours"),
            Err(error) => panic!("{error:?} for {from:?}"),
        }
    }

    fn walk(
        &self,
        from: Option<Cursor>,
        mut seen: Option<Cursor>,
    ) -> Result<Vec<dynos_sync_server::store::Change>, StoreError> {
        let (mut cursor, mut changes) = (from, Vec::new());
        for _ in 0..100 {
            let page = self.page(cursor, seen.take())?;
            changes.extend(page.changes);
            if !page.has_more {
                assert_eq!(page.next, self.head, "a walk ends at the head");
                return Ok(changes);
            }
            cursor = Some(page.next);
        }
        panic!("a walk does not end");
    }

    fn page(&self, cursor: Option<Cursor>, seen: Option<Cursor>) -> Result<Page, StoreError> {
        let table = table();
        let request =
            PullRequest { replica: replica(2), table, cursor, seen, limit: 4, unsettled: vec![], all: true };
        block_on(self.store.pull(&caller(), request))
    }

    /// An edit that did not see the deletion is a conflict; one that did has nothing to patch. Neither changes anything.
    fn base(&self, base: Option<Cursor>) {
        let entry = PushEntry { base: base.clone(), ..entry(self.counter, GONE, Operation::Patch) };
        let request = PushRequest::new(replica(3), vec![entry]);
        let answer = block_on(self.store.push(&caller(), request)).expect("an answer");
        let stands = base.as_ref().and_then(reread).filter(|_| self.page(base.clone(), None).is_ok());
        let saw = stands.is_some_and(|(seq, ..)| seq >= self.gone);
        let is_token = base.as_ref().is_none_or(|base| reread(base).is_some());
        match &answer.results[..] {
            [PushResult::Conflict { .. }] => assert!(is_token && !saw, "{base:?} saw the deletion"),
            [PushResult::Rejected { code: RejectCode::NotFound, .. }] => assert!(saw, "{base:?} is older"),
            [PushResult::Rejected { code: RejectCode::Invalid, .. }] => {
                assert!(!is_token, "{base:?} is ours")
            }
            other => panic!("{other:?} for {base:?}"),
        }
        assert_eq!(answer.heads[&table()].after, self.head, "nothing moved");
    }
}

fn open(path: &Path, life: i64) -> SqliteStore {
    let mut config = Config::new(path, Auth::Secret(Secret::new(SECRET)));
    config.now = Now::new(move || NOW + life);
    config.durability = Durability::Normal;
    config.threads = Threads::Caller;
    SqliteStore::open(&config).expect("a store")
}

fn close(store: SqliteStore) {
    block_on(store.close()).expect("the store closes");
}

/// The store reads on threads of the runtime.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));
    RUNTIME.block_on(work)
}

fn head(store: &SqliteStore) -> Cursor {
    let request = HeadsRequest { replica: replica(1), tables: vec![table()] };
    block_on(store.heads(&caller(), request)).expect("heads").heads.remove(&table()).expect("the head")
}

/// The name of the life in which the newest change was made.
fn life(store: &SqliteStore) -> String {
    head(store).as_str().split('.').next().expect("a name").to_owned()
}

fn entry(counter: u64, id: &str, op: Operation) -> PushEntry {
    let (table, id) = (table(), id.parse().expect("an id"));
    let data = (op != Operation::Delete).then(Fields::new);
    PushEntry { counter, table, id, op, base: None, at: 1, data, transaction: None }
}

/// One change for each counter; each belongs to one of the records r0 to r9.
fn edit(store: &SqliteStore, counters: std::ops::Range<u64>, op: Operation) {
    let entries = counters.map(|counter| entry(counter, &format!("r{}", counter % 10), op)).collect();
    let request = PushRequest::new(replica(1), entries);
    let answer = block_on(store.push(&caller(), request)).expect("an answer");
    let applied = answer.results.iter().all(|result| matches!(result, PushResult::Applied { .. }));
    assert!(applied, "{answer:?}");
}
