//! What a device keeps its data in, as the checkers look at it.

use std::{collections::BTreeSet, sync::Arc};

use dynos_sync_core::{
    Entry, RecordId, Replica, TableName,
    memory::MemoryReplica,
    replica::{Seen, State},
};
use dynos_sync_sqlite::SqliteReplica;
use futures_executor::block_on;

/// See the module.
#[derive(Clone, Debug)]
pub enum Data {
    /// A file on the device's disk.
    File(Arc<SqliteReplica>),
    /// Nothing that outlives the process. Tables hold the records that the world has.
    Memory(Arc<MemoryReplica>, usize),
}

impl Data {
    /// As the engine sees it.
    pub fn replica(&self) -> Arc<dyn Replica> {
        match self {
            Self::File(file) => Arc::clone(file) as Arc<dyn Replica>,
            Self::Memory(memory, _) => Arc::clone(memory) as Arc<dyn Replica>,
        }
    }

    /// As a whole.
    pub fn state(&self) -> Option<State> {
        block_on(self.replica().state()).ok()
    }

    /// Everything that waits to be sent.
    pub fn queue(&self) -> Option<Vec<Entry>> {
        block_on(self.replica().queue(0, 100_000)).ok()
    }

    /// Every record of a table that is there, or has something in the queue.
    pub fn records(&self, table: &TableName, queue: &[Entry]) -> Option<Vec<Seen>> {
        let mut ids = match self {
            Self::File(file) => texts(file, format!("SELECT id FROM {table}"))?,
            Self::Memory(_, records) => (0..*records).map(|n| format!("r{n}")).collect(),
        };
        ids.extend(queue.iter().filter(|e| e.key.table == *table).map(|e| e.key.id.to_string()));
        let ids: Vec<RecordId> = ids.into_iter().filter_map(|id| RecordId::try_from(id).ok()).collect();
        block_on(self.replica().records(table, &ids, true)).ok()
    }

    /// The records whose server version the application's table refuses.
    pub fn aside(&self) -> BTreeSet<String> {
        match self {
            Self::File(file) => texts(file, "SELECT id FROM dynos_quarantine".to_owned()).unwrap_or_default(),
            Self::Memory(..) => BTreeSet::new(),
        }
    }
}

fn texts(file: &SqliteReplica, sql: String) -> Option<BTreeSet<String>> {
    let read = file.read_with(move |db| {
        let mut statement = db.prepare_cached(&sql)?;
        statement.query_map([], |row| row.get::<_, String>(0))?.collect()
    });
    block_on(read).ok()
}
