//! The real parts, started together: a server on a port of its own, a proxy before it, devices with files.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use dynos_sync::{
    Builder, Fields, Strategy, SyncConfig, SyncEngine, SyncEvent, SyncReport,
    core::{
        Clock, Millis, RecordId, Remote, Replica, ReplicaId, TableName, Value, replica::State,
        wire::PullRequest,
    },
    sqlite::{SqliteOptions, SqliteReplica},
};
use dynos_sync_remote::{HttpRemote, HttpRemoteBuilder};
use dynos_sync_server::{
    Config, Server,
    config::{Auth, Durability, Secret},
    mint,
    store::StoreError,
};
use futures_util::{FutureExt, future::BoxFuture};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::proxy::Proxy;

pub(crate) const TABLE: &str = "notes";
/// The same table with real columns.
pub(crate) const COLUMNS: &str = "CREATE TABLE notes (id TEXT PRIMARY KEY, a, b, c TEXT)";
const SECRET: &str = "a secret that is long enough for HS256";
/// When the devices' clocks begin.
pub(crate) const START: Millis = 1_800_000_000_000;

/// Nothing in a test may take for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it should have ended by now")
}

/// Waits for a condition.
pub(crate) async fn until(mut condition: impl AsyncFnMut() -> bool) {
    within(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A clock that stands until it is set. Who sleeps on it moves it on, as far as it may go.
#[derive(Debug)]
pub(crate) struct TestClock {
    now: AtomicI64,
    limit: watch::Sender<Millis>,
    /// Until when somebody sleeps.
    asleep: watch::Sender<Option<Millis>>,
    pub(crate) sleeps: AtomicU64,
}

impl TestClock {
    pub(crate) fn new(now: Millis) -> Arc<Self> {
        let (limit, asleep) = (watch::Sender::new(now), watch::Sender::new(None));
        Arc::new(Self { now: now.into(), limit, asleep, sleeps: 0.into() })
    }

    pub(crate) fn now(&self) -> Millis {
        self.now.load(Ordering::Acquire)
    }

    /// It is this late now.
    pub(crate) fn set(&self, now: Millis) {
        self.now.fetch_max(now, Ordering::AcqRel);
        self.limit.send_modify(|limit| *limit = now.max(*limit));
    }

    /// It was later than this, by a mistake.
    pub(crate) fn set_back(&self, by: Duration) {
        let now = self.now() - by.as_millis() as Millis;
        self.now.store(now, Ordering::Release);
        self.limit.send_replace(now);
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.set(self.now() + by.as_millis() as Millis);
    }

    /// Time passes, from sleep to sleep, until whoever sleeps would sleep longer.
    pub(crate) async fn pass(&self, by: Duration) {
        let end = self.now() + by.as_millis() as Millis;
        self.limit.send_modify(|limit| *limit = end.max(*limit));
        let mut asleep = self.asleep.subscribe();
        within(asleep.wait_for(|until| until.is_some_and(|until| until > end))).await.unwrap();
        self.set(end);
    }
}

/// The server with its data, the proxy before it, and the place for the devices' files.
pub(crate) struct Stack {
    pub(crate) proxy: Proxy,
    dir: TempDir,
    configure: Mutex<Configure>,
    running: Mutex<Option<Running>>,
}

type Configure = Box<dyn Fn(&mut Config) + Send>;
type Running = (oneshot::Sender<()>, JoinHandle<Result<(), StoreError>>);

/// How a device is made.
pub(crate) struct Setup {
    pub(crate) user: String,
    /// Of whom the device says that it is, for its own gate.
    pub(crate) owner: Option<String>,
    pub(crate) schema: String,
    pub(crate) tables: Vec<String>,
    pub(crate) config: SyncConfig,
    pub(crate) remote: Box<dyn FnOnce(HttpRemoteBuilder) -> HttpRemoteBuilder>,
    pub(crate) clock: Arc<TestClock>,
}

impl Stack {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(configure: impl Fn(&mut Config) + Send + 'static) -> Self {
        let stack = Self {
            proxy: Proxy::start().await,
            dir: tempfile::tempdir().unwrap(),
            configure: Mutex::new(Box::new(configure)),
            running: Mutex::default(),
        };
        stack.start().await;
        stack
    }

    /// What the server's next start is configured with.
    pub(crate) fn configure(&self, configure: impl Fn(&mut Config) + Send + 'static) {
        *self.configure.lock().unwrap() = Box::new(configure);
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("server").join("sync.db")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) async fn start(&self) {
        std::fs::create_dir_all(self.database().parent().unwrap()).unwrap();
        let mut config = Config::new(self.database(), Auth::Secret(Secret::new(SECRET)));
        config.durability = Durability::Normal;
        (self.configure.lock().unwrap())(&mut config);
        let server = Server::open(config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.proxy.set_upstream(Some(listener.local_addr().unwrap()));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            server.serve(listener, shutdown).await
        });
        *self.running.lock().unwrap() = Some((stop, task));
    }

    pub(crate) async fn stop(&self) {
        let (stop, task) = self.running.lock().unwrap().take().unwrap();
        self.proxy.set_upstream(None);
        stop.send(()).unwrap();
        within(task).await.unwrap().unwrap();
    }

    /// Copies the server's data, while it stands still.
    pub(crate) async fn backup(&self, name: &str) {
        self.stop().await;
        copy(&self.dir.path().join("server"), &self.path(name));
        self.start().await;
    }

    /// Puts an older copy back.
    pub(crate) async fn restore(&self, name: &str) {
        self.stop().await;
        std::fs::remove_dir_all(self.dir.path().join("server")).unwrap();
        copy(&self.path(name), &self.dir.path().join("server"));
        self.start().await;
    }

    pub(crate) fn token(&self, user: &str) -> String {
        let now = dynos_sync::SystemClock.now();
        mint(&Secret::new(SECRET), user, Duration::from_secs(365 * 24 * 3600), now).unwrap()
    }

    pub(crate) fn remote(&self, user: &str) -> HttpRemoteBuilder {
        HttpRemote::builder(self.proxy.url()).token(self.token(user)).compression(false)
    }

    /// A device that syncs the document table when it is told to.
    pub(crate) async fn device(&self, name: &str) -> Device {
        self.device_with(name, |_| ()).await
    }

    pub(crate) async fn device_with(&self, name: &str, change: impl FnOnce(&mut Setup)) -> Device {
        let mut config = SyncConfig::default();
        config.auto_sync = false;
        let mut setup = Setup {
            user: "ada".to_owned(),
            owner: None,
            schema: String::new(),
            tables: vec![TABLE.to_owned()],
            config,
            remote: Box::new(|remote| remote),
            clock: TestClock::new(START),
        };
        change(&mut setup);
        let path = self.path(name);
        if !setup.schema.is_empty() && !path.exists() {
            rusqlite::Connection::open(&path).unwrap().execute_batch(&setup.schema).unwrap();
        }
        let replica = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap();
        let remote = (setup.remote)(self.remote(&setup.user)).build().unwrap();
        let (config, clock) = (setup.config, Arc::clone(&setup.clock));
        let mut builder = SyncEngine::builder(replica.clone(), remote)
            .clock(Arc::new(Ticking(setup.clock)))
            .configure(|default| *default = config);
        builder = setup.tables.into_iter().fold(builder, Builder::table);
        builder = setup.owner.into_iter().fold(builder, Builder::user_id);
        let engine = builder.start().await.unwrap();
        Device { engine, replica, clock, path }
    }

    /// What the server counts.
    pub(crate) async fn metrics(&self) -> String {
        self.proxy.get("/metrics").await
    }

    /// A table as the server keeps it for a user.
    pub(crate) async fn records(&self, user: &str, table: &str) -> BTreeMap<String, Value> {
        let remote = self.remote(user).build().unwrap();
        let (mut records, mut cursor) = (BTreeMap::new(), None);
        loop {
            let request = PullRequest {
                replica: ReplicaId::from_random([255; 16]),
                table: table.parse().unwrap(),
                cursor: cursor.take(),
                seen: None,
                limit: 1000,
                unsettled: Vec::new(),
                all: true,
            };
            let page = within(remote.pull(request)).await.unwrap();
            for change in page.changes {
                match change.record {
                    Some(record) => records.insert(change.id.to_string(), Value::Object(record)),
                    None => records.remove(change.id.as_str()),
                };
            }
            if !page.has_more {
                return records;
            }
            cursor = Some(page.next);
        }
    }

    /// Lets everybody sync until nothing is left to do, and answers what the server has then.
    pub(crate) async fn settle_without_rows(&self, devices: &[&Device]) -> BTreeMap<String, Value> {
        for _ in 0..3 {
            for device in devices {
                device.sync().await;
            }
        }
        self.records("ada", TABLE).await
    }

    /// Lets everybody sync until nothing is left to do, and checks that all have the same.
    pub(crate) async fn settle(&self, devices: &[&Device]) -> BTreeMap<String, Value> {
        let mut records = self.settle_without_rows(devices).await;
        for device in devices {
            let state = device.state().await;
            assert_eq!((state.pending, state.quarantined), (0, 0), "{:?}", device.path);
            let spec = &state.table(&TABLE.parse().unwrap()).unwrap().spec;
            // A column that nobody has set is null on a device, and absent on the server.
            for record in records.values_mut() {
                for name in spec.field_names().iter().flatten() {
                    object_mut(record).entry(*name).or_insert(Value::Null);
                }
            }
            assert_eq!(device.rows(TABLE).await, records, "{:?}", device.path);
        }
        records
    }
}

/// The clock as engines hold it: sleeping moves it on.
#[derive(Debug)]
struct Ticking(Arc<TestClock>);

impl Clock for Ticking {
    fn now(&self) -> Millis {
        self.0.now()
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        let clock = Arc::clone(&self.0);
        let pause = Millis::try_from(pause.as_millis()).unwrap_or(Millis::MAX / 4);
        let deadline = clock.now().saturating_add(pause);
        async move {
            clock.sleeps.fetch_add(1, Ordering::AcqRel);
            clock.asleep.send_replace(Some(deadline));
            let _awake = Awake(&clock);
            let mut limit = clock.limit.subscribe();
            limit.wait_for(|limit| *limit >= deadline).await.unwrap();
            clock.now.fetch_max(deadline, Ordering::AcqRel);
        }
        .boxed()
    }
}

/// The sleep has ended, or was given up.
struct Awake<'a>(&'a TestClock);

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        self.0.asleep.send_replace(None);
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// A device: its engine, its database, its clock.
pub(crate) struct Device {
    pub(crate) engine: SyncEngine,
    pub(crate) replica: SqliteReplica,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) path: PathBuf,
}

impl Device {
    pub(crate) async fn write(&self, id: &str, record: Value) {
        self.engine.write(TABLE, id, object(record)).await.unwrap();
    }

    pub(crate) async fn patch(&self, id: &str, record: Value) {
        self.engine.patch(TABLE, id, object(record)).await.unwrap();
    }

    pub(crate) async fn remove(&self, id: &str) {
        assert!(self.engine.remove(TABLE, id).await.unwrap(), "{id} was not there");
    }

    pub(crate) async fn get(&self, id: &str) -> Option<Value> {
        self.engine.get(TABLE, id).await.unwrap().map(Value::Object)
    }

    pub(crate) async fn sync(&self) -> SyncReport {
        within(self.engine.sync_all()).await.unwrap()
    }

    pub(crate) async fn state(&self) -> State {
        self.replica.state().await.unwrap()
    }

    /// A table's records, without the columns of the key.
    pub(crate) async fn rows(&self, table: &str) -> BTreeMap<String, Value> {
        let name: TableName = table.parse().unwrap();
        let sql = format!("SELECT id FROM \"{table}\"");
        let ids = self.replica.read_with(move |db| {
            db.prepare(&sql)?.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        });
        let ids: Vec<RecordId> = ids.await.unwrap().into_iter().map(|id| id.parse().unwrap()).collect();
        let seen = self.replica.records(&name, &ids, true).await.unwrap();
        seen.into_iter().filter_map(|seen| Some((seen.id.to_string(), Value::Object(seen.row?)))).collect()
    }

    /// Runs SQL, as the application would.
    pub(crate) async fn sql(&self, sql: &str) {
        let sql = sql.to_owned();
        self.replica.write_with(move |db| db.execute_batch(&sql)).await.unwrap();
    }

    /// Everything on the disk that is this database's, after a checkpoint.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let db = rusqlite::Connection::open(&self.path).unwrap();
        db.query_row("PRAGMA wal_checkpoint", [], |_| Ok(())).unwrap();
        let files = ["", "-wal", "-shm", "-journal"].map(|end| format!("{}{end}", self.path.display()));
        files.iter().filter_map(|file| std::fs::read(file).ok()).flatten().collect()
    }
}

pub(crate) fn object(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields,
        other => panic!("not an object: {other}"),
    }
}

fn object_mut(value: &mut Value) -> &mut Fields {
    value.as_object_mut().expect("a record is an object")
}

/// Whether a text stands anywhere in the bytes.
pub(crate) fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// What has happened so far.
pub(crate) fn told(events: &mut dynos_sync::EventStream) -> Vec<SyncEvent> {
    // Without a budget: tokio would else pretend after a while that there is no more.
    std::iter::from_fn(|| tokio::task::unconstrained(events.next()).now_or_never().flatten())
        .map(|event| event.event)
        .collect()
}

pub(crate) fn built_in() -> [Strategy; 4] {
    [Strategy::LastWriteWins, Strategy::ServerWins, Strategy::ClientWins, Strategy::Merge]
}
