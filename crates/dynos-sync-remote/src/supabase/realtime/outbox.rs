//! What is to be hinted and was not yet taken.

use std::{collections::BTreeSet, future, time::Duration};

use dynos_sync_core::{TableName, wire::Hint};
use tokio::{sync::mpsc, time::Instant};

/// Joins changes to as few hints as possible. Holds at most the subscribed tables' names, however slow the listener is.
pub(super) struct Outbox {
    sender: mpsc::Sender<Hint>,
    gather: Duration,
    waiting: Option<Waiting>,
}

struct Waiting {
    /// Empty: everything.
    tables: BTreeSet<TableName>,
    due: Instant,
}

impl Outbox {
    /// `gather`: how long a first change waits for others.
    pub(super) fn new(sender: mpsc::Sender<Hint>, gather: Duration) -> Self {
        Self { sender, gather, waiting: None }
    }

    /// Something changed in `table`.
    pub(super) fn table(&mut self, table: &TableName) {
        let due = Instant::now() + self.gather;
        let waiting = self.waiting.get_or_insert_with(|| Waiting { tables: [table.clone()].into(), due });
        if !waiting.tables.is_empty() {
            waiting.tables.insert(table.clone());
        }
    }

    /// Something changed in a table that is not known.
    pub(super) fn any_table(&mut self) {
        let due = Instant::now() + self.gather;
        self.waiting.get_or_insert(Waiting { tables: BTreeSet::new(), due }).tables.clear();
    }

    /// Anything may have changed unseen: this is not put off.
    pub(super) fn everything(&mut self) {
        self.waiting = Some(Waiting { tables: BTreeSet::new(), due: Instant::now() });
    }

    /// Ends when a hint was handed over, so never where there is none. May be dropped at any time.
    pub(super) async fn deliver(&mut self) {
        let Some(waiting) = &self.waiting else { return future::pending().await };
        tokio::time::sleep_until(waiting.due).await;
        let Ok(permit) = self.sender.reserve().await else { return future::pending().await };
        if let Some(waiting) = self.waiting.take() {
            permit.send(Hint { tables: waiting.tables.into_iter().collect() });
        }
    }
}
