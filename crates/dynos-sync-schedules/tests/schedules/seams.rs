//! The engine's seams: clock, database and server, each with places where others may go on.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use dynos_sync_core::{
    Clock, Counter, Entry, Fields, Millis, RecordId, RecordKey, Remote, RemoteError, Replica, ReplicaError,
    Schema, TableName, TableSpec,
    memory::MemoryRemote,
    replica::{Batch, DeadLetter, Due, DueLimits, Journaled, Logout, Op, Outcome, Seen, State, TableOptions},
    wire::{Heads, HeadsRequest, Hint, Page, PullRequest, PushAnswer, PushRequest, PushResult},
};
use futures_channel::mpsc;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use shuttle::{rand::Rng, sync::atomic::AtomicI64};

use crate::world::Witness;

/// Others may go on first.
async fn aside() {
    let mut asked = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Time stands still: what does not come by itself never comes. Whoever asks for it may be held up.
#[derive(Debug, Default)]
pub(crate) struct Standing(AtomicI64);

impl Clock for Standing {
    fn now(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        std::future::pending().boxed()
    }
}

/// The way to the server.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) inner: MemoryRemote,
    pub(crate) replica: Arc<dyn Replica>,
    pub(crate) listeners: Arc<Mutex<Vec<mpsc::UnboundedSender<Hint>>>>,
    pub(crate) seen: Arc<Witness>,
}

/// A call, until it is answered or given up.
struct Call<'a>(&'a Witness);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Line {
    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, RemoteError>> + Send,
    ) -> Result<T, RemoteError> {
        assert!(!self.seen.ended.load(Ordering::Relaxed), "a call after the end");
        assert_eq!(self.seen.under_way.fetch_add(1, Ordering::Relaxed), 0, "two calls at a time");
        let _call = Call(&self.seen);
        self.seen.calls.fetch_add(1, Ordering::Relaxed);
        let state = self.replica.state().await.map_err(|error| RemoteError::transient(error.to_string()))?;
        *self.seen.asked_in.lock().unwrap() = Some(state.generation);
        aside().await;
        let answer = call.await;
        if self.happens(&self.seen.panics) {
            resume_unwind(Box::new("of the client's"));
        }
        aside().await;
        if self.happens(&self.seen.loses) { Err(RemoteError::transient("lost")) } else { answer }
    }

    fn happens(&self, fault: &std::sync::atomic::AtomicBool) -> bool {
        fault.load(Ordering::Relaxed) && shuttle::rand::thread_rng().gen_bool(0.3)
    }

    /// What the server does at once: it takes the edits, and tells everybody.
    async fn take(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        let answer = self.inner.push(request).await?;
        for (entry, result) in request.entries.iter().zip(&answer.results) {
            if let PushResult::Applied { .. } = result {
                let number = entry.edit().fields().and_then(crate::world::number_in).unwrap_or_default();
                self.seen.taken.lock().unwrap().push((entry.id.to_string(), number));
            }
        }
        self.listeners.lock().unwrap().retain(|listener| listener.unbounded_send(everything()).is_ok());
        Ok(answer)
    }
}

fn everything() -> Hint {
    Hint { tables: Vec::new() }
}

#[async_trait]
impl Remote for Line {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.call(self.inner.declare(tables)).await
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        self.call(self.inner.tables()).await
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        self.call(self.inner.heads(request)).await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        self.call(self.take(request)).await
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        self.call(self.inner.pull(request)).await
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        let listeners = Arc::clone(&self.listeners);
        let connect = async move {
            aside().await;
            let (listener, hints) = mpsc::unbounded();
            listeners.lock().unwrap().push(listener);
            // A connection begins with a hint about what was missed.
            stream::iter([everything()]).chain(hints)
        };
        stream::once(connect).flatten().boxed()
    }
}

/// A database that takes its time, and refuses to be told in one session what was asked for in another.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) inner: Arc<dyn Replica>,
    pub(crate) seen: Arc<Witness>,
}

impl Database {
    async fn call<T>(&self, call: impl Future<Output = T> + Send) -> T {
        aside().await;
        let answer = call.await;
        aside().await;
        answer
    }

    async fn commit_now(&self, batch: Batch) -> Result<Outcome, ReplicaError> {
        let from_an_answer = batch.ops.iter().any(is_from_an_answer);
        let session = self.inner.state().await?.generation;
        let asked_in = *self.seen.asked_in.lock().unwrap();
        let outcome = self.inner.commit(batch).await;
        if from_an_answer && matches!(outcome, Ok(Outcome::Committed(_))) {
            assert_eq!(asked_in, Some(session), "asked for in one session, and committed in another");
        }
        outcome
    }
}

fn is_from_an_answer(op: &Op) -> bool {
    matches!(
        op,
        Op::Bind { .. }
            | Op::Store { .. }
            | Op::Settle { .. }
            | Op::Thaw { .. }
            | Op::Resolve { .. }
            | Op::Advance { .. }
            | Op::Complete { .. }
            | Op::Skip { .. }
    )
}

#[async_trait]
impl Replica for Database {
    async fn state(&self) -> Result<State, ReplicaError> {
        self.call(self.inner.state()).await
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Fields>, ReplicaError> {
        self.call(self.inner.get(key)).await
    }

    async fn records(
        &self,
        table: &TableName,
        ids: &[RecordId],
        rows: bool,
    ) -> Result<Vec<Seen>, ReplicaError> {
        self.call(self.inner.records(table, ids, rows)).await
    }

    async fn due(&self, limits: &DueLimits) -> Result<Due, ReplicaError> {
        self.call(self.inner.due(limits)).await
    }

    async fn unsettled(&self, table: &TableName, limit: usize) -> Result<Vec<Entry>, ReplicaError> {
        self.call(self.inner.unsettled(table, limit)).await
    }

    async fn commit(&self, batch: Batch) -> Result<Outcome, ReplicaError> {
        self.call(self.commit_now(batch)).await
    }

    async fn adopt(&self, schema: &Schema) -> Result<bool, ReplicaError> {
        self.call(self.inner.adopt(schema)).await
    }

    async fn add_table(&self, options: TableOptions) -> Result<bool, ReplicaError> {
        self.call(self.inner.add_table(options)).await
    }

    async fn remove_table(&self, table: &TableName) -> Result<bool, ReplicaError> {
        self.call(self.inner.remove_table(table)).await
    }

    async fn logout(&self, discard: bool) -> Result<Logout, ReplicaError> {
        self.call(self.inner.logout(discard)).await
    }

    async fn queue(&self, after: Counter, limit: usize) -> Result<Vec<Entry>, ReplicaError> {
        self.call(self.inner.queue(after, limit)).await
    }

    async fn dead_letters(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, ReplicaError> {
        self.call(self.inner.dead_letters(after, limit)).await
    }

    async fn conflicts(&self, before: i64, limit: usize) -> Result<Vec<Journaled>, ReplicaError> {
        self.call(self.inner.conflicts(before, limit)).await
    }

    async fn close(&self) {
        self.call(self.inner.close()).await;
    }
}
