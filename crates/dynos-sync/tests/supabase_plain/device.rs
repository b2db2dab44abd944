//! A table of one's own in the shared project, and devices whose clocks are set.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dynos_sync::{
    Driver, SyncConfig,
    core::{
        Clock, Fields, Millis, Remote, RemoteError, Replica, TableSpec,
        replica::{Journaled, TableOptions},
        wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushRequest},
    },
    remote::SupabaseRemote,
    sqlite::{SqliteOptions, SqliteReplica},
};
use dynos_sync_testbed::Supabase;
use futures_util::future::BoxFuture;
use tempfile::TempDir;

static TABLES: AtomicU32 = AtomicU32::new(0);

/// A table that all see, and a directory for the devices' files. Gone at the end.
pub(crate) struct World {
    pub(crate) supabase: Supabase,
    pub(crate) table: String,
    dir: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        let table =
            format!("plain_{}_{}_{nanos}", std::process::id(), TABLES.fetch_add(1, Ordering::Relaxed));
        let supabase = Supabase::shared();
        supabase.sql(&format!(
            "create table {table} (id text primary key, updated_at timestamptz not null default now(),
                 deleted_at timestamptz, title text, done boolean, price float8, size bigint, notes jsonb);
             create index on {table} (updated_at, id);
             grant all on {table} to service_role;"
        ));
        supabase.reload();
        let world = Self { supabase, table, dir: TempDir::new().unwrap() };
        world.is_known().await;
        world
    }

    /// PostgREST refuses to write to a new table until it has heard of it.
    async fn is_known(&self) {
        let device = self.device("scout", 0).await;
        device.write("scout", &[("title", "x".into())]).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while self.sql("select count(*) from TABLE") == "0" {
            assert!(tokio::time::Instant::now() < deadline, "PostgREST does not hear of the table");
            device.clock.skip(Duration::from_secs(60));
            device.driver.drain().await.unwrap();
            for letter in device.replica.dead_letters(0, 10).await.unwrap() {
                device.driver.retry_dead_letter(letter.id).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.sql("delete from TABLE");
    }

    pub(crate) fn sql(&self, statements: &str) -> String {
        self.supabase.sql(&statements.replace("TABLE", &self.table))
    }

    /// A device whose clock differs from the real time by so many milliseconds. It has the file of that name, if there is one
    /// already.
    pub(crate) async fn device(&self, name: &str, offset: Millis) -> Device {
        self.device_with(name, offset, SyncConfig::default()).await
    }

    pub(crate) async fn device_with(&self, name: &str, offset: Millis, config: SyncConfig) -> Device {
        let path = self.dir.path().join(name);
        let options = SqliteOptions::default();
        let program = rusqlite::Connection::open(&path).unwrap();
        program
            .execute_batch(&format!(
                "CREATE TABLE IF NOT EXISTS {} (id TEXT PRIMARY KEY, updated_at TEXT, title TEXT, done BOOLEAN,
                    price REAL, size INTEGER, notes JSON)",
                self.table
            ))
            .unwrap();
        let replica = Arc::new(SqliteReplica::open(&path, &options).unwrap());
        replica.add_table(TableOptions::new(self.table.parse().unwrap())).await.unwrap();
        let Supabase { url, anon_key, service_key, .. } = &self.supabase;
        let remote = SupabaseRemote::builder(url, anon_key.as_str())
            .token(service_key.as_str())
            .plain()
            .build()
            .unwrap();
        let network = Arc::new(Network { remote, loses_answers: AtomicBool::new(false) });
        let clock = Arc::new(SetClock { offset: AtomicU64::new(offset.cast_unsigned()) });
        let draws = AtomicU64::new(0);
        let driver = Driver::new(
            replica.clone(),
            network.clone(),
            clock.clone(),
            config,
            Box::new(move || draws.fetch_add(1, Ordering::Relaxed)),
        )
        .await
        .unwrap();
        Device { driver, replica, network, clock, path, table: self.table.clone() }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.sql("drop table TABLE");
    }
}

/// A device.
pub(crate) struct Device {
    pub(crate) driver: Driver,
    pub(crate) replica: Arc<SqliteReplica>,
    pub(crate) network: Arc<Network>,
    pub(crate) clock: Arc<SetClock>,
    path: PathBuf,
    table: String,
}

impl Device {
    pub(crate) async fn write(&self, id: &str, fields: &[(&str, dynos_sync::core::Value)]) {
        self.driver.write(&self.table, id, owned(fields)).await.unwrap();
    }

    pub(crate) async fn patch(&self, id: &str, fields: &[(&str, dynos_sync::core::Value)]) {
        self.driver.patch(&self.table, id, owned(fields)).await.unwrap();
    }

    pub(crate) async fn remove(&self, id: &str) {
        self.driver.remove(&self.table, id).await.unwrap();
    }

    pub(crate) async fn sync(&self) {
        self.driver.sync_all().await.unwrap();
    }

    pub(crate) async fn get(&self, id: &str) -> Option<Fields> {
        self.driver.get(&self.table, id).await.unwrap()
    }

    pub(crate) async fn conflicts(&self) -> Vec<Journaled> {
        self.replica.conflicts(i64::MAX, 1000).await.unwrap()
    }

    pub(crate) async fn pending(&self) -> u64 {
        self.replica.state().await.unwrap().pending
    }

    /// What another program reads: a line a row.
    pub(crate) fn rows(&self) -> Vec<String> {
        let program = rusqlite::Connection::open(&self.path).unwrap();
        let columns =
            "id || '|' || coalesce(title, '-') || '|' || coalesce(done, '-') || '|' || coalesce(size, '-')";
        let mut statement =
            program.prepare(&format!("SELECT {columns} FROM {} ORDER BY id", self.table)).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    pub(crate) fn program(&self, statements: &str) {
        let program = rusqlite::Connection::open(&self.path).unwrap();
        program.execute_batch(&statements.replace("TABLE", &self.table)).unwrap();
    }

    /// It ends; what it knew beside its file is gone.
    pub(crate) async fn close(self) {
        self.replica.close().await;
    }
}

fn owned(fields: &[(&str, dynos_sync::core::Value)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// The real time, moved.
#[derive(Debug)]
pub(crate) struct SetClock {
    offset: AtomicU64,
}

impl SetClock {
    /// Lets time pass.
    pub(crate) fn skip(&self, span: Duration) {
        self.offset.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Millis::try_from(since.as_millis()).unwrap() + self.offset.load(Ordering::Relaxed).cast_signed()
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// A fake of a bad network before the real remote: it can lose the answers to pushes.
#[derive(Debug)]
pub(crate) struct Network {
    remote: SupabaseRemote,
    pub(crate) loses_answers: AtomicBool,
}

#[async_trait::async_trait]
impl Remote for Network {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.remote.declare(tables).await
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        self.remote.tables().await
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        self.remote.heads(request).await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        let answer = self.remote.push(request).await?;
        if self.loses_answers.load(Ordering::Relaxed) {
            return Err(RemoteError::transient("the answer was lost"));
        }
        Ok(answer)
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        self.remote.pull(request).await
    }
}
