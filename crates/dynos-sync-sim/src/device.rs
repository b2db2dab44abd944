//! A device: a disk, a clock, and the real engine on them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use dynos_sync::{EventStream, SyncConfig, SyncEngine, SyncError, SyncEvent};
use dynos_sync_core::{Clock, Millis, ReplicaError, Schema, memory::MemoryReplica};
use dynos_sync_sqlite::{Random, SqliteOptions, SqliteReplica, Synchronous, Threads};

use crate::{
    data::Data,
    disk::{Disk, Image},
    executor::{Spawner, TaskId},
    history::{History, OpId},
    network::{Link, Network},
    replica::Interleaved,
    server::Server,
    swarm::{Step, Swarm},
    tally::{Activity, Tally},
    time::{DeviceClock, Timeline},
};

/// What devices are made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What the seed drew.
    pub swarm: Arc<Swarm>,
    /// The time.
    pub timeline: Timeline,
    /// Where tasks are handed in.
    pub spawner: Spawner,
    /// The network.
    pub network: Network,
    /// The server.
    pub server: Server,
    /// What happened.
    pub history: History,
    /// How much happened.
    pub tally: Tally,
    /// Where identities and jitter come from.
    pub random: Arc<Mutex<fastrand::Rng>>,
}

/// See the module.
#[derive(Debug)]
pub struct Device {
    /// Its number.
    pub number: usize,
    /// Its user.
    pub user: String,
    /// One more after each logout.
    pub session: u32,
    /// The generation of the database in this session.
    pub generation: Option<u64>,
    /// Its disk.
    pub disk: Disk,
    /// Its clock.
    pub clock: DeviceClock,
    /// What it is about.
    pub activity: Activity,
    /// What it has sent since it was started.
    pub sent: Arc<Mutex<Vec<String>>>,
    /// The engine, unless the process is dead.
    pub running: Option<Running>,
    /// Whether a logout is under way.
    pub leaving: bool,
    /// Whether that may discard what is pending.
    pub discards: bool,
    /// Acknowledged operations, and how often the log had been synced by then.
    pub acknowledged: Arc<Mutex<Vec<(OpId, u64)>>>,
    /// Copies of the disk, and how many of the first operations are in them.
    pub images: Vec<(Image, usize)>,
    /// The tables that it syncs.
    pub tables: Vec<&'static str>,
    /// Another program that holds the file's lock.
    pub lock: Option<rusqlite::Connection>,
    /// Another program that has the file open.
    pub other: Option<rusqlite::Connection>,
    /// Another process of the application: an engine of its own on the same file.
    pub second: Option<SyncEngine>,
    /// Whether what it knows ends with its process.
    pub in_memory: bool,
    /// The version of the application.
    pub version: u32,
    /// Whether the process found the file to be of an earlier version when it was started.
    pub migrated: Arc<AtomicBool>,
    parts: Parts,
}

/// A running engine.
#[derive(Debug)]
pub struct Running {
    /// What the application holds.
    pub engine: SyncEngine,
    /// Its database, without anybody in between.
    pub data: Data,
    /// Everything that ends with the process.
    pub tasks: Vec<TaskId>,
}

/// A field that must not leave the application, and what is in it.
pub const SECRET_FIELD: &str = "secret";
/// See [`SECRET_FIELD`].
pub const SECRET: &str = "canary";

/// The database's file.
pub const DATABASE: &str = "device.db";

/// The newest version of the application.
pub const NEWEST: u32 = 2;
/// The column of the table `tasks` that the first version does not have.
pub const NEW_COLUMN: &str = "c";
/// What the first version adds to each document.
pub const TAG: &str = "tag";
/// What later ones call it.
pub const LABEL: &str = "label";

/// What leads from one version of the application's tables to the next.
const MIGRATIONS: [&str; NEWEST as usize] = [
    "CREATE TABLE tasks (id TEXT PRIMARY KEY, a TEXT, b TEXT, secret TEXT)",
    "ALTER TABLE tasks ADD COLUMN c TEXT",
];

impl Device {
    /// A device with an empty disk.
    pub fn new(parts: &Parts, number: usize) -> Self {
        static DISKS: AtomicU64 = AtomicU64::new(0);
        let disk = Disk::mount(format!("/simulated/{}", DISKS.fetch_add(1, Ordering::Relaxed)));
        let in_memory = parts.swarm.in_memory == Some(number);
        let is_older = number > 0 && !in_memory && parts.swarm.has(Step::Upgrade);
        Self {
            number,
            user: format!("user{}", number % parts.swarm.users),
            session: 0,
            generation: None,
            disk,
            clock: DeviceClock::new(parts.timeline.clone()),
            activity: Activity::default(),
            sent: Arc::default(),
            running: None,
            leaving: false,
            discards: false,
            acknowledged: Arc::default(),
            images: Vec::new(),
            tables: parts.swarm.tables.clone(),
            lock: None,
            other: None,
            second: None,
            in_memory,
            version: if is_older { 1 } else { NEWEST },
            migrated: Arc::default(),
            parts: parts.clone(),
        }
    }

    /// Starts the process.
    ///
    /// # Errors
    /// What the engine says: the disk may be full or broken.
    pub fn start(&mut self) -> Result<(), SyncError> {
        crate::disk::set_now(self.clock.now());
        self.activity.set(crate::tally::Doing::Opening);
        let data = self.open()?;
        futures_executor::block_on(self.run(data))
    }

    /// Opens the file once more, as another process of the application does. Answers an engine, and its work.
    ///
    /// # Errors
    /// What the engine says: the disk may be full or broken.
    pub fn start_second(&self) -> Result<(SyncEngine, impl Future<Output = ()> + Send + use<>), SyncError> {
        crate::disk::set_now(self.clock.now());
        let data = self.open()?;
        futures_executor::block_on(self.engine(&data, false))
    }

    fn open(&self) -> Result<Data, ReplicaError> {
        let random = Arc::clone(&self.parts.random);
        let draw = move || {
            let mut bytes = [0; 16];
            random.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fill(&mut bytes);
            bytes
        };
        if self.in_memory {
            return Ok(Data::Memory(Arc::new(MemoryReplica::new(draw())), self.parts.swarm.records));
        }
        let options = SqliteOptions {
            synchronous: self.parts.swarm.synchronous,
            threads: Threads::Caller,
            random: Random::new(draw),
            ..SqliteOptions::default()
        };
        Ok(Data::File(Arc::new(SqliteReplica::open(self.disk.path(DATABASE), &options)?)))
    }

    async fn run(&mut self, data: Data) -> Result<(), SyncError> {
        let (engine, work) = self.engine(&data, true).await?;
        self.generation = Some(data.replica().state().await?.generation);
        let spawner = &self.parts.spawner;
        let listen = listen(engine.events(), self.number, self.parts.clone());
        let tasks = vec![spawner.spawn(work), spawner.spawn(listen)];
        self.running = Some(Running { engine, data, tasks });
        Ok(())
    }

    async fn engine(
        &self,
        data: &Data,
        auto_sync: bool,
    ) -> Result<(SyncEngine, impl Future<Output = ()> + Send + use<>), SyncError> {
        let schema = Schema::version(self.version).step(NEWEST, |part| part.rename(TAG, LABEL));
        if let Data::File(file) = data {
            let missing = MIGRATIONS.iter().zip(1..=self.version);
            let migrate = move |db: &rusqlite::Connection, found: u32| {
                missing.filter(|(_, to)| *to > found).try_for_each(|(sql, _)| db.execute_batch(sql))
            };
            self.migrated.store(file.migrate(&schema, migrate).await?, Ordering::Relaxed);
        }
        let seen = Interleaved::new(data.replica(), self.activity.clone(), self.parts.history.clone());
        let random = Arc::clone(&self.parts.random);
        let mut config = self.config();
        config.auto_sync = auto_sync;
        let mut builder = SyncEngine::builder_on(Arc::new(seen), Arc::new(self.link()))
            .clock(Arc::new(self.clock.clone()))
            .configure(|default| *default = config)
            .random(move || random.lock().unwrap_or_else(std::sync::PoisonError::into_inner).u64(..));
        builder = builder.schema(schema);
        for table in &self.tables {
            builder = builder.table(*table);
        }
        builder.prepare().await
    }

    fn config(&self) -> SyncConfig {
        let swarm = &self.parts.swarm;
        let mut config = SyncConfig::default();
        config.conflict_strategy = swarm.strategy.clone();
        config.page_size = swarm.page;
        config.batch_size = swarm.batch;
        config.poll_interval = Duration::from_secs(20);
        config.pull_interval = Duration::from_secs(45);
        config.max_retries = 2;
        if swarm.secrets {
            config.sensitive_fields = vec![SECRET_FIELD.to_owned()];
        }
        config.queue_retention = Duration::from_secs(10 * 365 * 24 * 60 * 60);
        config
    }

    fn link(&self) -> Link {
        Link {
            network: self.parts.network.clone(),
            server: self.parts.server.clone(),
            timeline: self.parts.timeline.clone(),
            spawner: self.parts.spawner.clone(),
            device: self.number,
            user: self.user.clone(),
            activity: self.activity.clone(),
            sent: Arc::clone(&self.sent),
        }
    }

    /// When its commits are durable.
    pub fn synchronous(&self) -> Synchronous {
        self.parts.swarm.synchronous
    }

    /// A connection of another program.
    ///
    /// # Errors
    /// Where the file does not open.
    pub fn other_program(&self) -> rusqlite::Result<rusqlite::Connection> {
        crate::disk::set_now(self.clock.now());
        let db = rusqlite::Connection::open(self.disk.path(DATABASE))?;
        db.busy_timeout(Duration::from_millis(100))?;
        let level = match self.synchronous() {
            Synchronous::Full => "FULL",
            Synchronous::Normal => "NORMAL",
        };
        db.pragma_update(None, "synchronous", level)?;
        Ok(db)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.disk.kill();
        self.disk.unmount();
    }
}

/// Listens to what the engine tells.
async fn listen(mut events: EventStream, device: usize, parts: Parts) {
    while let Some(event) = events.next().await {
        let now: Millis = parts.timeline.now();
        let line = match event.event {
            SyncEvent::Conflict { table, record_id, base, local, remote, resolved, .. } => {
                parts.tally.done("conflicts");
                let [base, local, remote, resolved] = [base, local, remote, resolved].map(|side| json(&side));
                format!(
                    "conflict about {table}/{record_id}: {base} here {local} there {remote} becomes {resolved}"
                )
            }
            SyncEvent::Resync { table, phase } => {
                parts.tally.done("resyncs");
                format!("{table} again: {phase:?}")
            }
            SyncEvent::PoisonPill { entry, error } => {
                parts.tally.done("dead letters");
                format!("gave up entry {} of {}: {error}", entry.counter, entry.key)
            }
            SyncEvent::Pushed { key } => {
                parts.tally.done("pushed");
                format!("pushed {key}")
            }
            SyncEvent::AuthRequired { .. } => "has to sign in".to_owned(),
            SyncEvent::SyncError { error, context } => {
                if error.contains("does not follow the protocol") {
                    parts.history.violation("protocol", format!("device {device}: {error}"));
                }
                format!("{context} failed: {error}")
            }
            SyncEvent::Quarantined { key, error } => format!("keeps {key} aside: {error}"),
            _ => continue,
        };
        parts.history.note(now, &format!("device {device} {line}"));
    }
}

fn json(fields: &Option<dynos_sync_core::Fields>) -> String {
    serde_json::to_string(fields).unwrap_or_default()
}
