//! The engine without async: calls that wait, and callbacks.
//!
//! Local calls (edits and reads) take microseconds and may be made from a thread that draws a window; those that wait for the network
//! ([`SyncEngine::sync_all`], [`drain`](SyncEngine::drain), [`pull_all`](SyncEngine::pull_all)) seldom have to be made at all, since the engine syncs
//! by itself on its own thread. What changes is told to callbacks, each on a thread of its own until its [`Subscription`] is dropped:
//! there a GUI sends itself a message, or asks to be drawn again. A callback may call the engine.
//!
//! ```
//! use dynos_sync::{Record, SyncEngine};
//! # use dynos_sync::core::memory::MemoryServer;
//!
//! #[derive(Clone, serde::Serialize, serde::Deserialize)]
//! struct Task {
//!     id: String,
//!     title: String,
//! }
//!
//! impl Record for Task {
//!     const TABLE: &'static str = "tasks";
//! }
//!
//! # let dir = tempfile::tempdir()?;
//! # let (path, remote) = (dir.path().join("app.sqlite"), MemoryServer::new().remote("ada"));
//! let engine = SyncEngine::open(path, remote)?.record::<Task>().start_blocking()?;
//!
//! let (sender, titles) = std::sync::mpsc::channel();
//! let subscription = engine.table::<Task>().on_change("ORDER BY id", (), move |tasks| {
//!     let tasks = tasks.unwrap_or_default();
//!     let _ = sender.send(tasks.into_iter().map(|task| task.title).collect::<Vec<_>>());
//! })?;
//! assert!(titles.recv()?.is_empty());
//! engine.table().put(&Task { id: "t1".to_owned(), title: "milk".to_owned() })?;
//! assert_eq!(titles.recv()?, ["milk"]);
//!
//! drop(subscription);
//! engine.close();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{fmt, io, thread};

use dynos_sync_core::{
    Fields, ReplicaError,
    replica::{DeadLetter, Journaled, TableOptions},
};
use futures_channel::oneshot;
use futures_executor::{block_on, block_on_stream};
use futures_util::{
    Stream, StreamExt,
    future::{Either, select},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Decided, Params, Record, RecordState, Status, SyncError, TimedEvent, Transaction,
    report::{DrainReport, PullReport, SyncReport},
};

/// [`crate::SyncEngine`], with calls that wait. Cheap to clone; clones are the same engine.
#[derive(Clone, Debug)]
pub struct SyncEngine(crate::SyncEngine);

/// [`crate::Table`], with calls that wait. Cheap to clone.
pub struct Table<R>(crate::Table<R>);

/// A callback that is called until this is dropped. Dropping does not wait for a call that is under way.
#[derive(Debug)]
#[must_use = "dropped, it ends the callbacks"]
pub struct Subscription(#[expect(dead_code, reason = "dropping it is what counts")] oneshot::Sender<()>);

impl Subscription {
    /// Lets the callback go on for as long as the engine lives.
    pub fn forever(self) {
        std::mem::forget(self);
    }
}

/// Hands a stream's items to a callback, on a thread of its own.
fn call_back<T: Send + 'static>(
    mut stream: impl Stream<Item = T> + Send + Unpin + 'static,
    mut callback: impl FnMut(T) + Send + 'static,
) -> Result<Subscription, SyncError> {
    let (subscription, mut ended) = oneshot::channel::<()>();
    let work = move || {
        // Only the waiting is async: the callback may wait too, for a call of the engine's.
        while let Either::Left((Some(item), _)) = block_on(select(stream.next(), &mut ended)) {
            callback(item);
        }
    };
    let thread = thread::Builder::new().name("dynos-sync-callback".to_owned());
    thread.spawn(work).map_err(no_thread)?;
    Ok(Subscription(subscription))
}

fn no_thread(error: io::Error) -> SyncError {
    let message = "the callback's thread cannot be started".to_owned();
    SyncError::Replica(ReplicaError::Storage { message, source: Some(Box::new(error)) })
}

impl From<crate::SyncEngine> for SyncEngine {
    fn from(engine: crate::SyncEngine) -> Self {
        Self(engine)
    }
}

impl SyncEngine {
    /// The same engine, for async code.
    pub fn as_async(&self) -> &crate::SyncEngine {
        &self.0
    }

    /// See [`crate::SyncEngine::table`].
    pub fn table<R: Record>(&self) -> Table<R> {
        Table(self.0.table())
    }

    /// Makes edits that take effect together, here and on the server: `edits` adds them to the transaction.
    ///
    /// ```
    /// # use dynos_sync::{SyncEngine, fields, core::memory::MemoryServer};
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, remote) = (dir.path().join("app.sqlite"), MemoryServer::new().remote("ada"));
    /// # let engine = SyncEngine::open(path, remote)?.table("orders").table("carts").start_blocking()?;
    /// engine.transaction(|t| t.write("orders", "o1", fields([("customer", "ada".into())])).remove("carts", "ada"))?;
    /// # engine.close();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub fn transaction(&self, edits: impl FnOnce(Transaction) -> Transaction) -> Result<(), SyncError> {
        block_on(edits(self.0.transaction()).commit())
    }

    /// Calls back with each event from now on.
    ///
    /// # Errors
    /// [`SyncError::Replica`] where no thread can be started.
    pub fn on_event(
        &self,
        callback: impl FnMut(TimedEvent) + Send + 'static,
    ) -> Result<Subscription, SyncError> {
        call_back(self.0.events(), callback)
    }

    /// Calls back with the status: at once, and whenever it has changed. See [`crate::SyncEngine::watch_status`].
    ///
    /// # Errors
    /// As [`on_event`](Self::on_event).
    pub fn on_status(
        &self,
        callback: impl FnMut(Result<Status, SyncError>) + Send + 'static,
    ) -> Result<Subscription, SyncError> {
        call_back(self.0.watch_status(), callback)
    }

    /// Calls back with what a query answers: at once, and whenever that has changed. See [`crate::SyncEngine::watch`].
    ///
    /// # Errors
    /// As [`crate::SyncEngine::watch`]; [`SyncError::Replica`] where no thread can be started.
    pub fn on_change<R: DeserializeOwned + Send + 'static>(
        &self,
        sql: &str,
        params: impl Params,
        callback: impl FnMut(Result<Vec<R>, SyncError>) + Send + 'static,
    ) -> Result<Subscription, SyncError> {
        call_back(self.0.watch(sql, params)?, callback)
    }

    /// Calls back with the conflict journal: at once, and whenever it has changed. See [`crate::SyncEngine::watch_conflicts`].
    ///
    /// # Errors
    /// As [`on_event`](Self::on_event).
    pub fn on_conflicts(
        &self,
        callback: impl FnMut(Result<Vec<Journaled>, SyncError>) + Send + 'static,
    ) -> Result<Subscription, SyncError> {
        call_back(self.0.watch_conflicts(), callback)
    }

    /// Calls back with the dead letters: at once, and whenever they have changed. See [`crate::SyncEngine::watch_dead_letters`].
    ///
    /// # Errors
    /// As [`on_event`](Self::on_event).
    pub fn on_dead_letters(
        &self,
        callback: impl FnMut(Result<Vec<DeadLetter>, SyncError>) + Send + 'static,
    ) -> Result<Subscription, SyncError> {
        call_back(self.0.watch_dead_letters(), callback)
    }

    /// Events from now on, as an iterator that waits for the next.
    pub fn events(&self) -> impl Iterator<Item = TimedEvent> + Send + use<> {
        block_on_stream(self.0.events())
    }

    /// See [`crate::SyncEngine::close`].
    pub fn close(&self) {
        block_on(self.0.close());
    }
}

/// Methods that wait for those of the same name.
macro_rules! waits {
    ($(fn $name:ident $(<$generic:ident: $bound:path>)? (&self $(, $arg:ident: $type:ty)*) -> $answer:ty;)+) => {
        $(
            #[doc = concat!("Waits for the async method `", stringify!($name), "`, which says more.")]
            ///
            /// # Errors
            /// Its.
            pub fn $name$(<$generic: $bound>)?(&self $(, $arg: $type)*) -> Result<$answer, SyncError> {
                block_on(self.0.$name($($arg),*))
            }
        )+
    };
}

impl SyncEngine {
    waits! {
        fn write(&self, table: &str, id: &str, data: Fields) -> ();
        fn patch(&self, table: &str, id: &str, data: Fields) -> ();
        fn update(&self, table: &str, id: &str, change: impl FnMut(Fields) -> Result<Fields, SyncError>) -> ();
        fn remove(&self, table: &str, id: &str) -> bool;
        fn write_many(&self, table: &str, records: Vec<(String, Fields)>) -> ();
        fn get(&self, table: &str, id: &str) -> Option<Fields>;
        fn query<R: DeserializeOwned>(&self, sql: &str, params: impl Params) -> Vec<R>;
        fn drain(&self) -> DrainReport;
        fn pull_all(&self) -> PullReport;
        fn sync_all(&self) -> SyncReport;
        fn add_table(&self, table: &str, pull: bool) -> bool;
        fn add_table_with(&self, options: TableOptions) -> bool;
        fn remove_table(&self, table: &str) -> bool;
        fn status(&self) -> Status;
        fn initial_sync_done(&self) -> bool;
        fn record_state(&self, table: &str, id: &str) -> RecordState;
        fn record_states(&self, table: &str, ids: &[impl AsRef<str> + Sync]) -> Vec<RecordState>;
        fn dead_letters(&self) -> Vec<DeadLetter>;
        fn retry_dead_letter(&self, letter: i64) -> ();
        fn discard_dead_letter(&self, letter: i64) -> ();
        fn conflicts(&self) -> Vec<Journaled>;
        fn undo_conflict(&self, conflict: i64) -> ();
        fn discard_conflict(&self, conflict: i64) -> ();
        fn logout(&self, discard: bool) -> u64;
    }
}

impl<R> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Record> fmt::Debug for Table<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<R: Record> Table<R> {
    waits! {
        fn put(&self, record: &R) -> ();
        fn patch(&self, id: impl fmt::Display, data: &impl Serialize) -> ();
        fn update(&self, id: impl fmt::Display, change: impl FnMut(&mut R)) -> R;
        fn get(&self, id: impl fmt::Display) -> Option<R>;
        fn remove(&self, id: impl fmt::Display) -> bool;
        fn state(&self, id: impl fmt::Display) -> RecordState;
        fn states(&self, ids: &[impl AsRef<str> + Sync]) -> Vec<RecordState>;
        fn conflicts(&self) -> Vec<Decided<R>>;
        fn all(&self) -> Vec<R>;
        fn query(&self, rest: &str, params: impl Params) -> Vec<R>;
    }

    /// Waits for the async method `put_many`, which says more.
    ///
    /// # Errors
    /// Its.
    pub fn put_many<'a>(&self, records: impl IntoIterator<Item = &'a R>) -> Result<(), SyncError>
    where
        R: 'a,
    {
        block_on(self.0.put_many(records))
    }

    /// Calls back with the records that match: at once, and whenever they have changed. See [`crate::Table::watch`].
    ///
    /// # Errors
    /// As [`crate::Table::watch`]; [`SyncError::Replica`] where no thread can be started.
    pub fn on_change(
        &self,
        rest: &str,
        params: impl Params,
        callback: impl FnMut(Result<Vec<R>, SyncError>) + Send + 'static,
    ) -> Result<Subscription, SyncError>
    where
        R: Send + 'static,
    {
        call_back(block_on(self.0.watch(rest, params))?, callback)
    }

    /// Calls back with the table's conflicts: at once, and whenever one was decided, undone or discarded. See
    /// [`crate::Table::watch_conflicts`].
    ///
    /// # Errors
    /// [`SyncError::Replica`] where no thread can be started.
    pub fn on_conflicts(
        &self,
        callback: impl FnMut(Result<Vec<Decided<R>>, SyncError>) + Send + 'static,
    ) -> Result<Subscription, SyncError>
    where
        R: Send + 'static,
    {
        call_back(self.0.watch_conflicts(), callback)
    }
}
