//! A server that notes what it is sent, and a network that may lose its answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use dynos_sync_core::{
    Clock, Counter, Edit, Fields, Millis, Operation, Remote, RemoteError, ReplicaId, TableSpec,
    memory::{MemoryRemote, MemoryServer},
    wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushEntry, PushRequest, PushResult},
};
use futures_util::{FutureExt, future::BoxFuture};

/// A user's connection.
#[derive(Debug)]
pub(crate) struct Tap {
    inner: MemoryRemote,
    pub(crate) pushes: Mutex<Vec<PushRequest>>,
    /// Of each entry, how often the server said that it applied it.
    pub(crate) applied: Mutex<BTreeMap<(ReplicaId, Counter), u32>>,
    pub(crate) loses_answers: AtomicBool,
}

impl Tap {
    pub(crate) fn new(server: &MemoryServer, user: &str) -> Arc<Self> {
        Arc::new(Self {
            inner: server.remote(user),
            pushes: Mutex::default(),
            applied: Mutex::default(),
            loses_answers: AtomicBool::default(),
        })
    }

    /// Everything that was pushed so far.
    pub(crate) fn pushed(&self) -> Vec<(ReplicaId, PushEntry)> {
        let pushes = self.pushes.lock().unwrap();
        let entries = |push: &PushRequest| {
            let replica = push.replica;
            push.entries.iter().cloned().map(move |entry| (replica, entry)).collect::<Vec<_>>()
        };
        pushes.iter().flat_map(entries).collect()
    }
}

#[async_trait]
impl Remote for Tap {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.inner.declare(tables).await
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        self.inner.tables().await
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        self.inner.heads(request).await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        self.pushes.lock().unwrap().push(request.clone());
        let answer = self.inner.push(request).await;
        for (entry, result) in request.entries.iter().zip(answer.iter().flat_map(|answer| &answer.results)) {
            if matches!(result, PushResult::Applied { .. }) {
                *self.applied.lock().unwrap().entry((request.replica, entry.counter)).or_default() += 1;
            }
        }
        if self.loses_answers.load(Ordering::Relaxed) {
            return Err(RemoteError::transient("the answer is lost"));
        }
        answer
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        self.inner.pull(request).await
    }
}

/// Another device's edits arrive.
pub(crate) fn elsewhere(server: &MemoryServer, user: &str, first: u64, edits: &[(&str, &str, Edit, Millis)]) {
    let entry = |(n, (table, id, edit, at)): (usize, &(&str, &str, Edit, Millis))| PushEntry {
        counter: first + n as u64,
        table: table.parse().unwrap(),
        id: id.parse().unwrap(),
        op: edit.operation(),
        base: None,
        at: *at,
        data: (edit.operation() != Operation::Delete).then(|| edit.clone().into_fields()),
        transaction: None,
    };
    let replica = ReplicaId::from_random([200; 16]);
    let request = PushRequest::new(replica, edits.iter().enumerate().map(entry).collect());
    let answer = server.remote(user).push(&request).now_or_never().unwrap().unwrap();
    let applied = |result: &PushResult| matches!(result, PushResult::Applied { .. });
    assert!(answer.results.iter().all(applied), "{answer:?}");
}

/// A record's fields, each value saying where it belongs: `tasks/1/a/…`.
pub(crate) fn values(table: &str, id: &str, names: &[&str], what: &str) -> Fields {
    names.iter().map(|name| ((*name).to_owned(), format!("{table}/{id}/{name}/{what}").into())).collect()
}

/// Time stands still.
#[derive(Debug)]
pub(crate) struct Still(pub(crate) Millis);

impl Clock for Still {
    fn now(&self) -> Millis {
        self.0
    }

    fn sleep(&self, _: std::time::Duration) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}
