//! What a device reads from a server that may be broken or hostile.
//!
//! An input is what happens to a device, one thing a line: `w`, `p` or `d` and an id (the user writes, patches, deletes), `s`
//! (it syncs), `e` and a stream of events, or a status and a body: the server's next answer, whatever the question. The device
//! syncs once more at the end.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use dynos_sync::{Driver, SyncConfig, SyncError};
use dynos_sync_core::{
    Clock, Cursor, Edit, Fields, Limits, Millis, RecordId, Remote, RemoteError, Replica, Seq, TableName,
    TableSpec, fields, json,
    memory::MemoryReplica,
    replica::{DeadLetter, Journaled, Seen, State, TableOptions},
    wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushRequest},
};
use dynos_sync_remote::fuzzing::{self, Answer};
use futures_executor::block_on;
use futures_util::future::BoxFuture;

use crate::script;

const TABLE: &str = "t";

/// The body of the target.
pub fn run(data: &[u8]) {
    block_on(async {
        let mut device = Device::new().await;
        for line in script::lines(data) {
            device.step(line).await;
        }
        device.sync().await;
    });
}

struct Device {
    replica: Arc<MemoryReplica>,
    server: Arc<Hostile>,
    driver: Driver,
    ids: BTreeSet<String>,
    edits: i64,
}

/// All of a device that can be seen.
#[derive(Debug, PartialEq)]
struct Everything {
    state: State,
    records: Vec<Seen>,
    dead: Vec<DeadLetter>,
    conflicts: Vec<Journaled>,
}

impl Device {
    async fn new() -> Self {
        let replica = Arc::new(MemoryReplica::new([7; 16]));
        replica.add_table(TableOptions::new(table())).await.expect("a table");
        let server = Arc::new(Hostile { replica: Arc::clone(&replica), told: Mutex::default() });
        let config = SyncConfig::default();
        let clock = Arc::new(Clockwork::default());
        let driver = Driver::new(replica.clone(), server.clone(), clock, config, Box::new(|| 7)).await;
        Self { replica, server, driver: driver.expect("a driver"), ids: BTreeSet::new(), edits: 0 }
    }

    async fn step(&mut self, line: &[u8]) {
        let rest = &line[1..];
        match line[0] {
            b's' => self.sync().await,
            b'e' => drop(fuzzing::hints(rest)),
            b'0'..=b'9' => self.server.lock().answers.push_back(line.to_vec()),
            what => {
                let Ok(id) = std::str::from_utf8(rest) else { return };
                self.edit(what, id).await;
            }
        }
    }

    /// The user's edits never fail for what a server said, only for what they are.
    async fn edit(&mut self, what: u8, id: &str) {
        self.edits += 1;
        let data = fields([("n", self.edits.into()), (["a", "b"][(self.edits % 2) as usize], true.into())]);
        let done = match what {
            b'w' => self.driver.write(TABLE, id, data).await,
            b'p' => self.driver.patch(TABLE, id, data).await,
            b'd' => self.driver.remove(TABLE, id).await.map(drop),
            _ => return,
        };
        match done {
            Ok(()) => drop(self.ids.insert(id.to_owned())),
            Err(SyncError::Replica(_) | SyncError::Invalid(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn sync(&mut self) {
        self.server.lock().walk = None;
        let done = self.driver.sync_all().await;
        let Told { ids, broken, .. } = std::mem::take(&mut *self.server.lock());
        self.ids.extend(ids);
        let now = everything(&*self.replica, &self.ids).await;
        if let Some((problem, before)) = broken {
            assert!(done.is_err(), "a page was taken although {problem}");
            let ids: BTreeSet<String> = before.records.iter().map(|seen| seen.id.to_string()).collect();
            assert_eq!(before, everything(&*self.replica, &ids).await, "{problem}, and it was used");
        }
        for table in &now.state.tables {
            let fits = |cursor: &Cursor| cursor.as_str().len() <= Cursor::MAX_BYTES;
            assert!(table.cursor.iter().all(fits), "a cursor that is too long was kept");
        }
        now.records.iter().for_each(agrees);
    }
}

/// A record shows what is pending of it.
fn agrees(record: &Seen) {
    let pending = record.entries.iter().map(|entry| entry.edit.clone()).reduce(Edit::then);
    if let Some(pending) = pending {
        assert_eq!(pending.apply(record.row.clone()), record.row, "{record:?}");
    }
    let counters = record.entries.windows(2).all(|pair| pair[0].counter < pair[1].counter);
    assert!(counters, "{record:?}");
}

async fn everything(replica: &MemoryReplica, ids: &BTreeSet<String>) -> Everything {
    let ids: Vec<RecordId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
    Everything {
        state: replica.state().await.expect("the state"),
        records: replica.records(&table(), &ids, true).await.expect("records"),
        dead: replica.dead_letters(0, 1000).await.expect("dead letters"),
        conflicts: replica.conflicts(i64::MAX, 1000).await.expect("conflicts"),
    }
}

fn table() -> TableName {
    TABLE.parse().expect("a name")
}

/// A server that answers what it is told to, and nothing else.
#[derive(Debug)]
struct Hostile {
    replica: Arc<MemoryReplica>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    answers: VecDeque<Vec<u8>>,
    /// The ids that it has named.
    ids: BTreeSet<String>,
    /// The newest seq of the walk under way.
    walk: Option<Seq>,
    /// How a page broke the protocol, and the device before it.
    broken: Option<(&'static str, Everything)>,
}

impl Hostile {
    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Result<Answer, RemoteError> {
        let line = self.lock().answers.pop_front().ok_or_else(|| RemoteError::transient("silence"))?;
        let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let status = std::str::from_utf8(&line[..space]).ok().and_then(|status| status.parse().ok());
        let body = line.get(space + 1..).unwrap_or_default();
        let headers: [(&[u8], &[u8]); 1] = [(b"content-type", b"application/json")];
        let answer = Answer::new(status.unwrap_or(200), &headers, body, "canary-token");
        answer.ok_or_else(|| RemoteError::transient("noise"))
    }
}

#[async_trait]
impl Remote for Hostile {
    async fn declare(&self, _: &[TableSpec]) -> Result<(), RemoteError> {
        self.next()?.tables().map(drop)
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        self.next()?.tables()
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        self.next()?.heads(&request)
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        self.next()?.push(request)
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        let page = self.next()?.page(&request).inspect_err(|_| self.lock().walk = None)?;
        let last = self.lock().walk.unwrap_or(0);
        self.lock().ids.extend(page.changes.iter().map(|change| change.id.to_string()));
        if let Some(problem) = fault(&request, &page, last) {
            let ids = page.changes.iter().map(|change| change.id.to_string()).collect();
            let before = everything(&self.replica, &ids).await;
            self.lock().broken = Some((problem, before));
        }
        self.lock().walk = Some(page.changes.last().map_or(last, |change| change.seq));
        Ok(page)
    }
}

/// How a page breaks the protocol, as docs/protocol.md says it; written anew, not taken from the engine.
fn fault(request: &PullRequest, page: &Page, last: Seq) -> Option<&'static str> {
    let ids: BTreeSet<&str> = page.changes.iter().map(|change| change.id.as_str()).collect();
    let seqs = std::iter::once(last).chain(page.changes.iter().map(|change| change.seq));
    let asked = |counter: &u64| request.unsettled.contains(counter);
    let shallow = |record: &Fields| depth(&json!(record)) <= Limits::DEPTH + 1;
    [
        (ids.len() < page.changes.len(), "an id is repeated"),
        (!seqs.is_sorted_by(|one, other| one < other), "seqs do not rise"),
        (page.changes.iter().any(|change| !(0..=Limits::LATEST).contains(&change.at)), "a time is none"),
        (!page.changes.iter().flat_map(|change| &change.record).all(shallow), "a record is too deep"),
        (page.next.as_str().len() > Cursor::MAX_BYTES, "the cursor is too long"),
        (page.has_more && Some(&page.next) == request.cursor.as_ref(), "it does not move on"),
        (page.has_more && page.changes.is_empty(), "it promises more and holds nothing"),
        (!page.settled.iter().all(asked), "it settles what was not asked about"),
    ]
    .into_iter()
    .find_map(|(broken, problem)| broken.then_some(problem))
}

fn depth(value: &dynos_sync_core::Value) -> usize {
    match value {
        dynos_sync_core::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        dynos_sync_core::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

/// A clock that goes on by a minute whenever somebody looks.
#[derive(Debug, Default)]
struct Clockwork(AtomicI64);

impl Clock for Clockwork {
    fn now(&self) -> Millis {
        self.0.fetch_add(60_000, Ordering::Relaxed)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
