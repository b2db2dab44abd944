//! A server on a port of its own, and devices that talk to it.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Once,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use dynos_sync_core::{Cursor, Fields, Operation, ReplicaId, TableSpec, Value, json, wire::*};
use dynos_sync_server::{
    Config, Server,
    config::{Auth, Now, Secret},
    mint,
};
use reqwest::{Response, StatusCode};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

pub(crate) const SECRET: &str = "a secret that is long enough for HS256";

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn now(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }
}

/// Where a server keeps its data. It outlives the server's processes.
pub(crate) struct Home {
    dir: TempDir,
    pub(crate) clock: TestClock,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::at(1_800_000_000_000)
    }

    /// With a clock that stands at a time.
    pub(crate) fn at(now: i64) -> Self {
        let clock = TestClock(Arc::new(AtomicI64::new(now)));
        Self { dir: tempfile::tempdir().unwrap(), clock }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.path().join("dynos.db")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new(self.database(), Auth::Secret(Secret::new(SECRET)));
        let clock = self.clock.clone();
        config.now = Now::new(move || clock.now());
        config
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_with(self.config()).await
    }

    pub(crate) async fn start_with(&self, config: Config) -> Running {
        self.serve(Server::open(config).unwrap()).await
    }

    /// Serves what was opened elsewhere.
    pub(crate) async fn serve(&self, server: Server) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = server.clone();
        let task = tokio::spawn(async move {
            serving
                .serve(listener, async {
                    let _ = stopped.await;
                })
                .await
                .unwrap();
        });
        Running { server, address, stop: Some(stop), task, clock: self.clock.clone() }
    }
}

pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    clock: TestClock,
}

impl Running {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn token(&self, subject: &str) -> String {
        mint(&Secret::new(SECRET), subject, Duration::from_secs(3600), self.clock.now()).unwrap()
    }

    /// A device of a user. Devices with one number have one replica id, whoever's they are.
    pub(crate) fn device(&self, subject: &str, number: u8) -> Device {
        Device {
            http: client(),
            base: self.url(""),
            token: self.token(subject),
            replica: ReplicaId::from_random([number; 16]),
        }
    }

    pub(crate) fn begin_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub(crate) async fn stop(mut self) {
        if self.stop.is_some() {
            self.begin_stop();
        }
        within(self.task).await.unwrap();
    }
}

pub(crate) fn client() -> reqwest::Client {
    builder().build().unwrap()
}

/// A client that leaves answers as they came over the wire.
pub(crate) fn raw_client() -> reqwest::Client {
    builder().no_gzip().no_zstd().build().unwrap()
}

fn builder() -> reqwest::ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    reqwest::Client::builder()
}

/// Nothing in a test may take for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it should have ended by now")
}

#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) token: String,
    pub(crate) replica: ReplicaId,
}

impl Device {
    pub(crate) async fn post(&self, path: &str, body: &impl serde::Serialize) -> Response {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(&self.token).json(body);
        within(request.send()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        within(self.http.get(format!("{}{path}", self.base)).bearer_auth(&self.token).send()).await.unwrap()
    }

    pub(crate) async fn declare(&self, names: &[&str]) {
        let tables = names.iter().map(|name| TableSpec::document(name.parse().unwrap())).collect();
        self.declare_specs(tables).await;
    }

    pub(crate) async fn declare_specs(&self, tables: Vec<TableSpec>) -> Vec<TableSpec> {
        read::<Tables>(self.post("/v1/tables", &Tables { tables }).await).await.tables
    }

    pub(crate) async fn try_push(&self, entries: Vec<PushEntry>) -> Response {
        self.post("/v1/push", &PushRequest::new(self.replica, entries)).await
    }

    pub(crate) async fn push(&self, entries: Vec<PushEntry>) -> PushAnswer {
        read(self.try_push(entries).await).await
    }

    pub(crate) async fn push_one(&self, entry: PushEntry) -> PushResult {
        self.push(vec![entry]).await.results.remove(0)
    }

    pub(crate) async fn try_pull(&self, table: &str, cursor: Option<&Cursor>) -> Response {
        self.post("/v1/pull", &self.pull_request(table, cursor)).await
    }

    pub(crate) fn pull_request(&self, table: &str, cursor: Option<&Cursor>) -> PullRequest {
        PullRequest {
            replica: self.replica,
            table: table.parse().unwrap(),
            cursor: cursor.cloned(),
            seen: None,
            limit: 1000,
            unsettled: Vec::new(),
            all: false,
        }
    }

    pub(crate) async fn pull(&self, table: &str, cursor: Option<&Cursor>) -> Page {
        read(self.try_pull(table, cursor).await).await
    }

    pub(crate) async fn pull_with(&self, request: &PullRequest) -> Page {
        read(self.post("/v1/pull", request).await).await
    }

    pub(crate) async fn heads(&self, tables: &[&str]) -> Heads {
        let tables = tables.iter().map(|name| name.parse().unwrap()).collect();
        read(self.post("/v1/heads", &HeadsRequest { replica: self.replica, tables }).await).await
    }

    pub(crate) async fn head(&self, table: &str) -> Cursor {
        self.heads(&[table]).await.heads.into_values().next().unwrap()
    }
}

pub(crate) async fn read<T: serde::de::DeserializeOwned>(response: Response) -> T {
    let status = response.status();
    let text = within(response.text()).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).unwrap()
}

pub(crate) async fn error(response: Response) -> (u16, ErrorDetail) {
    let status = response.status().as_u16();
    let text = within(response.text()).await.unwrap();
    let body: ErrorBody = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} {text:?}"));
    (status, body.error)
}

pub(crate) fn object(value: Value) -> Fields {
    serde_json::from_value(value).unwrap()
}

/// An entry of the table `t`.
pub(crate) fn entry(counter: u64, op: Operation, id: &str, data: Value) -> PushEntry {
    PushEntry {
        counter,
        table: "t".parse().unwrap(),
        id: id.parse().unwrap(),
        op,
        base: None,
        at: 1000 + counter as i64,
        data: (op != Operation::Delete).then(|| object(data)),
        transaction: None,
    }
}

pub(crate) fn upsert(counter: u64, id: &str, data: Value) -> PushEntry {
    entry(counter, Operation::Upsert, id, data)
}

pub(crate) fn delete(counter: u64, id: &str) -> PushEntry {
    entry(counter, Operation::Delete, id, json!(null))
}

pub(crate) trait With {
    fn base(self, base: &Cursor) -> Self;
    fn table(self, table: &str) -> Self;
}

impl With for PushEntry {
    fn base(mut self, base: &Cursor) -> Self {
        self.base = Some(base.clone());
        self
    }

    fn table(mut self, table: &str) -> Self {
        self.table = table.parse().unwrap();
        self
    }
}

pub(crate) fn applied(seq: u64) -> PushResult {
    PushResult::Applied { seq, record: None }
}

pub(crate) fn duplicate(seq: u64) -> PushResult {
    PushResult::Duplicate { seq, record: None }
}

#[track_caller]
pub(crate) fn refused(result: &PushResult) -> (RejectCode, Option<Fields>) {
    match result {
        PushResult::Rejected { code, current, .. } => {
            (*code, current.clone().and_then(|current| current.record))
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// What a page says, shortly: ids and records.
pub(crate) fn records(page: &Page) -> Vec<(String, Option<Value>)> {
    let record = |record: &Fields| Value::Object(record.clone());
    page.changes.iter().map(|change| (change.id.to_string(), change.record.as_ref().map(record))).collect()
}
