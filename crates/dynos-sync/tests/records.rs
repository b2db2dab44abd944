//! Typed records, queries and what is followed, on a database in a file.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use dynos_sync::{
    ConnectionState, Fields, LiveQuery, Progress, Record, Status, SyncConfig, SyncEngine, SyncError,
    blocking,
    core::{Edit, Replica, memory::MemoryServer},
    fields, json,
    sqlite::{SqliteOptions, SqliteReplica},
};
use futures_executor::block_on;
use futures_util::FutureExt;
use rusqlite::Connection;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    id: String,
    title: String,
    #[serde(default)]
    done: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more: Option<Vec<u8>>,
}

impl Record for Task {
    const TABLE: &'static str = "tasks";
}

/// As [`Task`], kept in a table that is made as one of documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    id: String,
    text: String,
}

impl Record for Note {
    const TABLE: &'static str = "notes";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Counter {
    id: i64,
    n: i64,
    label: Option<String>,
}

impl Record for Counter {
    const TABLE: &'static str = "counters";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seat {
    row: i64,
    place: String,
    guest: String,
}

impl Record for Seat {
    const TABLE: &'static str = "seats";
    const KEY: &'static [&'static str] = &["row", "place"];
}

struct Device {
    engine: SyncEngine,
    replica: SqliteReplica,
    program: Connection,
    server: MemoryServer,
    _dir: tempfile::TempDir,
}

impl Device {
    fn new() -> Self {
        Self::on(MemoryServer::new())
    }

    fn on(server: MemoryServer) -> Self {
        Self::with(server, |_| ())
    }

    fn with(server: MemoryServer, configure: impl FnOnce(&mut SyncConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sqlite");
        let program = Connection::open(&path).unwrap();
        program
            .execute_batch(
                "CREATE TABLE tasks (id TEXT PRIMARY KEY, title TEXT, done BOOLEAN, more JSON);
                 CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER, label TEXT);
                 CREATE TABLE seats (row INTEGER, place TEXT, guest TEXT, PRIMARY KEY (row, place))",
            )
            .unwrap();
        let replica = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap();
        let builder = SyncEngine::builder(replica.clone(), server.remote("ada"))
            .table("tasks")
            .table("notes")
            .table("counters")
            .table("seats")
            .configure(|config| config.auto_sync = false)
            .configure(configure);
        Self { engine: block_on(builder.start()).unwrap(), replica, program, server, _dir: dir }
    }
}

fn task(id: &str, title: &str) -> Task {
    Task { id: id.to_owned(), title: title.to_owned(), done: false, more: None }
}

#[test]
fn records_of_any_key_come_back_as_they_were_put() {
    let device = Device::new();
    let (tasks, notes) = (device.engine.table::<Task>(), device.engine.table::<Note>());
    let (counters, seats) = (device.engine.table::<Counter>(), device.engine.table::<Seat>());
    let milk = Task { done: true, more: Some(vec![1, 2]), ..task("t1", "milk") };
    let note = Note { id: "n1".to_owned(), text: "x".to_owned() };
    let counter = Counter { id: 7, n: 1, label: None };
    let seat = Seat { row: 3, place: "b".to_owned(), guest: "ada".to_owned() };
    block_on(async {
        tasks.put(&milk).await.unwrap();
        notes.put(&note).await.unwrap();
        counters.put(&counter).await.unwrap();
        seats.put(&seat).await.unwrap();
        assert_eq!(tasks.get("t1").await.unwrap(), Some(milk.clone()));
        assert_eq!(notes.get("n1").await.unwrap(), Some(note.clone()));
        assert_eq!(counters.get(7).await.unwrap(), Some(counter.clone()));
        assert_eq!(seats.get(json!([3, "b"])).await.unwrap(), Some(seat.clone()));
        assert_eq!(tasks.get("t2").await.unwrap(), None);
        assert_eq!(tasks.all().await.unwrap(), std::slice::from_ref(&milk));
        assert_eq!(notes.all().await.unwrap(), std::slice::from_ref(&note));
        assert_eq!(notes.query("WHERE data ->> 'text' = ?", ["x"]).await.unwrap(), [note]);
        assert_eq!(counters.query("WHERE n = ? AND id > ?", (1, 6)).await.unwrap(), [counter]);
        assert_eq!(seats.all().await.unwrap(), [seat]);
        assert!(tasks.remove("t1").await.unwrap());
        assert!(!tasks.remove("t1").await.unwrap());
    });
}

#[test]
fn a_document_that_was_written_without_its_id_has_it() {
    let device = Device::new();
    block_on(device.engine.write("notes", "n1", fields([("text", "x".into())]))).unwrap();
    let notes = device.engine.table::<Note>();
    let note = Note { id: "n1".to_owned(), text: "x".to_owned() };
    assert_eq!(block_on(notes.get("n1")).unwrap(), Some(note.clone()));
    assert_eq!(block_on(notes.all()).unwrap(), [note]);
}

#[test]
fn an_update_writes_only_what_has_changed() {
    let device = Device::new();
    let tasks = device.engine.table::<Task>();
    block_on(tasks.put(&task("t1", "milk"))).unwrap();
    block_on(device.engine.sync_all()).unwrap();
    let written = block_on(tasks.update("t1", |task| task.done = true)).unwrap();
    assert_eq!(written, Task { done: true, ..task("t1", "milk") });
    let queue = block_on(device.replica.queue(0, 9)).unwrap();
    let edits: Vec<&Edit> = queue.iter().map(|entry| &entry.edit).collect();
    assert_eq!(edits, [&Edit::Patch(fields([("done", true.into())]))]);
    block_on(device.engine.sync_all()).unwrap();
    block_on(tasks.update("t1", |_| ())).unwrap();
    assert_eq!(block_on(device.engine.status()).unwrap().pending, 0, "nothing has changed");
}

#[test]
fn updates_at_the_same_time_lose_nothing() {
    const EACH: i64 = 50;
    let device = Device::new();
    let counters = device.engine.table::<Counter>();
    block_on(counters.put(&Counter { id: 1, n: 0, label: None })).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    block_on(counters.update(1, |counter| counter.n += 1)).unwrap();
                }
            });
        }
        device.program.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
        for _ in 0..EACH {
            device.program.execute_batch("UPDATE counters SET n = n + 1").unwrap();
        }
        for _ in 0..EACH {
            block_on(device.engine.sync_all()).unwrap();
        }
    });
    assert_eq!(block_on(counters.get(1)).unwrap().unwrap().n, 3 * EACH);
}

#[test]
fn what_is_no_record_is_refused_by_name() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Bare(String);
    impl Record for Bare {
        const TABLE: &'static str = "tasks";
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Nameless {
        title: String,
    }
    impl Record for Nameless {
        const TABLE: &'static str = "tasks";
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Strict {
        id: String,
        title: i64,
    }
    impl Record for Strict {
        const TABLE: &'static str = "tasks";
    }
    let device = Device::new();
    let refused = |error: SyncError| match error {
        SyncError::Invalid(invalid) => invalid.field,
        other => panic!("{other:?}"),
    };
    block_on(async {
        let tasks = device.engine.table::<Task>();
        tasks.put(&task("t1", "milk")).await.unwrap();
        let bare = device.engine.table::<Bare>().put(&Bare("x".to_owned())).await;
        assert_eq!(refused(bare.unwrap_err()), "record");
        let nameless = device.engine.table::<Nameless>().put(&Nameless { title: "x".to_owned() }).await;
        assert_eq!(refused(nameless.unwrap_err()), "id");
        let renamed = tasks.update("t1", |task| task.id = "t2".to_owned()).await;
        assert_eq!(refused(renamed.unwrap_err()), "id");
        let strict = device.engine.table::<Strict>();
        assert!(matches!(strict.get("t1").await, Err(SyncError::Mismatch { what, .. }) if what == "tasks"));
        assert!(matches!(strict.all().await, Err(SyncError::Mismatch { .. })));
        assert!(matches!(tasks.update("t9", |_| ()).await, Err(SyncError::Replica(_))));
        let nowhere = device.engine.query::<Fields>("SELECT * FROM nowhere", ()).await;
        assert_eq!(refused(nowhere.unwrap_err()), "sql");
    });
}

fn next<R: DeserializeOwned>(live: &mut LiveQuery<R>) -> Vec<R> {
    block_on(live.next()).unwrap().unwrap()
}

#[test]
fn what_is_pulled_is_seen_in_what_is_followed() {
    let device = Device::new();
    let other = Device::on(device.server.clone());
    let mut live = block_on(device.engine.table::<Task>().watch("WHERE NOT done ORDER BY id", ())).unwrap();
    let mut notes = block_on(device.engine.table::<Note>().watch("", ())).unwrap();
    assert!(next(&mut live).is_empty() && next(&mut notes).is_empty());
    block_on(other.engine.table().put_many(&[task("t1", "milk"), task("t2", "bread")])).unwrap();
    block_on(other.engine.table().put(&Note { id: "n1".to_owned(), text: "x".to_owned() })).unwrap();
    block_on(other.engine.sync_all()).unwrap();
    block_on(device.engine.sync_all()).unwrap();
    assert_eq!(next(&mut live), [task("t1", "milk"), task("t2", "bread")]);
    assert_eq!(next(&mut notes).len(), 1);
    block_on(device.engine.table::<Task>().update("t1", |task| task.done = true)).unwrap();
    assert_eq!(next(&mut live), [task("t2", "bread")]);
    block_on(device.engine.close());
    assert!(block_on(live.next()).is_none());
}

/// The first status, from here on, of which that is so.
fn until(statuses: &mut dynos_sync::StatusStream, is_so: impl Fn(&Status) -> bool) -> Status {
    loop {
        let status = block_on(statuses.next()).unwrap().unwrap();
        if is_so(&status) {
            return status;
        }
    }
}

#[test]
fn the_status_tells_what_has_changed() {
    let device = Device::new();
    let mut statuses = device.engine.watch_status();
    let first = block_on(statuses.next()).unwrap().unwrap();
    assert_eq!((first.connection, first.syncing, first.last_sync), (ConnectionState::Unknown, false, None));
    assert_eq!((first.pending, first.dead_letters, first.conflicts, first.tables.len()), (0, 0, 0, 4));
    assert!(statuses.next().now_or_never().is_none(), "nothing has changed");
    block_on(device.engine.table().put(&task("t1", "milk"))).unwrap();
    until(&mut statuses, |status| status.pending == 1);
    device.program.execute_batch("INSERT INTO counters VALUES (1, 1, NULL)").unwrap();
    if device.replica.foreign_commits().is_some() {
        until(&mut statuses, |status| status.pending == 2);
    }
    block_on(device.engine.sync_all()).unwrap();
    let synced = until(&mut statuses, |status| status.pending == 0 && !status.syncing);
    assert!(synced.last_sync.is_some() && synced.last_error.is_none(), "{synced:?}");
    assert!(synced.progress.is_empty());
    assert_eq!(synced.connection, ConnectionState::Online);
    block_on(device.engine.close());
    assert!(block_on(statuses.next()).is_none());
}

#[test]
fn nothing_of_how_the_last_session_stood_is_told_in_the_next() {
    let other = Device::new();
    block_on(other.engine.table().put_many(&[task("t1", "milk"), task("t2", "bread")])).unwrap();
    block_on(other.engine.sync_all()).unwrap();
    let device = Device::with(other.server.clone(), |config| (config.page_size, config.max_pages) = (1, 1));
    block_on(device.engine.sync_all()).unwrap_err();
    let before = block_on(device.engine.status()).unwrap();
    let progress: Vec<_> = before.progress.values().copied().collect();
    assert_eq!(progress, [Progress { rows: 1, total: Some(2) }], "{before:?}");
    assert!(before.last_error.is_some(), "{before:?}");
    block_on(device.engine.logout(true)).unwrap();
    let after = block_on(device.engine.status()).unwrap();
    assert!(after.progress.is_empty(), "{after:?}");
    assert_eq!(
        (after.last_sync, after.last_error, after.connection),
        (None, None, ConnectionState::SignedOut)
    );
}

#[test]
fn what_is_followed_ends_with_the_engines_last_handle() {
    let Device { engine, replica, .. } = Device::new();
    let mut statuses = engine.watch_status();
    let mut live = engine.watch::<Fields>("SELECT * FROM tasks", ()).unwrap();
    let mut events = engine.events();
    block_on(statuses.next()).unwrap().unwrap();
    assert!(next(&mut live).is_empty());
    drop(engine);
    assert!(block_on(statuses.next()).is_none());
    assert!(block_on(live.next()).is_none());
    assert!(block_on(events.next()).is_none());
    assert!(block_on(replica.state()).is_ok(), "whoever else holds the database may go on");
}

#[test]
fn callbacks_are_called_until_the_subscription_is_dropped() {
    let device = Device::new();
    let engine = blocking::SyncEngine::from(device.engine.clone());
    let (sender, receiver) = std::sync::mpsc::channel();
    let subscription = engine
        .on_change::<Fields>("SELECT count(*) AS n FROM tasks", (), move |rows| {
            let _ = sender.send(rows.unwrap());
        })
        .unwrap();
    assert_eq!(json!(receiver.recv().unwrap()), json!([{"n": 0}]));
    engine.table().put(&task("t1", "milk")).unwrap();
    assert_eq!(json!(receiver.recv().unwrap()), json!([{"n": 1}]));
    drop(subscription);
    // The thread ends, and the callback with it.
    assert!(receiver.recv().is_err());
    let (sender, receiver) = std::sync::mpsc::channel();
    let sent = sender.clone();
    let _events = engine.on_event(move |event| drop(sent.send(format!("{:?}", event.event)))).unwrap();
    let _statuses =
        engine.on_status(move |status| drop(sender.send(format!("{:?}", status.unwrap().syncing)))).unwrap();
    engine.sync_all().unwrap();
    engine.close();
    let told: Vec<String> = receiver.iter().collect();
    assert!(told.iter().any(|told| told.starts_with("SyncComplete")), "{told:?}");
    assert!(told.iter().any(|told| told == "false"), "{told:?}");
}
