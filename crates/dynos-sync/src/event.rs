//! What an engine tells its listeners.

use std::{
    pin::Pin,
    sync::{PoisonError, RwLock},
    task::{Context, Poll},
};

use dynos_sync_core::{Entry, Fields, Millis, RecordKey, TableName, conflict::StrategyName, replica::Phase};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use crate::report::{DrainReport, SyncReport};

/// An event and its time, in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedEvent {
    /// When.
    pub at: Millis,
    /// What.
    pub event: SyncEvent,
}

/// Something happened. Sensitive fields are masked in all of them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum SyncEvent {
    /// A drain has ended.
    DrainComplete(DrainReport),
    /// A table's pull has reached the end.
    PullComplete {
        /// The table.
        table: TableName,
        /// How many records changed here.
        row_count: usize,
    },
    /// A sync has ended.
    SyncComplete(SyncReport),
    /// Somebody has to sign in. The queue waits.
    AuthRequired {
        /// What the server said.
        error: String,
    },
    /// A record was changed on both sides, and the conflict was decided.
    Conflict {
        /// The record's table.
        table: TableName,
        /// The record's id.
        record_id: String,
        /// What both sides started from.
        base: Option<Fields>,
        /// This device's version.
        local: Option<Fields>,
        /// The server's version.
        remote: Option<Fields>,
        /// What it ended with.
        resolved: Option<Fields>,
        /// Who decided.
        strategy_used: StrategyName,
    },
    /// An edit was refused for good and is among the dead letters now.
    PoisonPill {
        /// The edit.
        entry: Entry,
        /// Why.
        error: String,
    },
    /// An edit was refused and will be tried again.
    RetryScheduled {
        /// The edit.
        entry: Entry,
        /// When.
        next_retry_at: Millis,
        /// Why.
        error: String,
    },
    /// An operation failed.
    SyncError {
        /// Why.
        error: String,
        /// What it was.
        context: &'static str,
    },
    /// A record was pushed.
    Pushed {
        /// The record.
        key: RecordKey,
    },
    /// A long operation has come this far.
    Progress {
        /// The table.
        table: TableName,
        /// Changes pulled so far.
        rows: usize,
    },
    /// A table is pulled from the beginning again.
    Resync {
        /// The table.
        table: TableName,
        /// Why.
        phase: Phase,
    },
    /// The server sent a row of somebody else; it was left out.
    ForeignRow {
        /// The record.
        key: RecordKey,
    },
    /// The server sent columns that the local table does not have; they were left out.
    UnknownColumns {
        /// The table.
        table: TableName,
        /// The columns.
        columns: Vec<String>,
    },
    /// The local table refuses a row of the server's. It is kept aside and tried again.
    Quarantined {
        /// The record.
        key: RecordKey,
        /// Why.
        error: String,
    },
    /// The server can be reached again.
    Online,
    /// The server cannot be reached.
    Offline {
        /// Why.
        error: String,
    },
    /// This listener was too slow: so many events were not kept for it.
    Missed {
        /// How many.
        count: u64,
    },
}

/// The sending side. Events without a listener are dropped; a slow listener never holds anybody up.
#[derive(Debug)]
pub(crate) struct Events(RwLock<Option<broadcast::Sender<TimedEvent>>>);

impl Events {
    const KEPT: usize = 1024;

    pub(crate) fn new() -> Self {
        Self(RwLock::new(Some(broadcast::channel(Self::KEPT).0)))
    }

    fn sender(&self) -> Option<broadcast::Sender<TimedEvent>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn send(&self, at: Millis, event: SyncEvent) {
        if let Some(sender) = self.sender() {
            // An error only says that nobody listens.
            let _ = sender.send(TimedEvent { at, event });
        }
    }

    /// No event comes after this one: the streams end.
    pub(crate) fn end(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn stream(&self, now: impl Fn() -> Millis + Send + Sync + 'static) -> EventStream {
        let Some(sender) = self.sender() else { return EventStream(Box::pin(stream::empty())) };
        let events = BroadcastStream::new(sender.subscribe()).map(move |event| match event {
            Ok(event) => event,
            Err(BroadcastStreamRecvError::Lagged(count)) => {
                TimedEvent { at: now(), event: SyncEvent::Missed { count } }
            }
        });
        EventStream(Box::pin(events))
    }
}

/// Events from the moment of subscribing on. Ends when the engine does.
pub struct EventStream(Pin<Box<dyn Stream<Item = TimedEvent> + Send + Sync>>);

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventStream")
    }
}

impl EventStream {
    /// The next event. `None`: it has ended.
    pub async fn next(&mut self) -> Option<TimedEvent> {
        StreamExt::next(&mut self.0).await
    }
}

impl Stream for EventStream {
    type Item = TimedEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TimedEvent>> {
        self.0.poll_next_unpin(context)
    }
}
