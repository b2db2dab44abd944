//! What a commit has to do to rows and cursors once the queue store has taken it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    image,
    stores::{LocalStore, Position, QueueChange, TimestampStore},
    text,
};
use crate::{
    ids::{RecordKey, TableName},
    memory::replica::{Pending, Store},
    record::Fields,
    replica::{ReplicaError, TableState},
};

/// Rows and cursors to be written. The queue store keeps it from the commit on, until the next one: a replica that is
/// opened in between does it again, which is without effect where it was done.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Work {
    /// Tables without rows from now on.
    pub(super) cleared: BTreeSet<TableName>,
    rows: Vec<(RecordKey, Option<Fields>)>,
    positions: Vec<(TableName, Option<Position>)>,
}

impl Work {
    /// What leads from one state's rows and positions to another's.
    pub(super) fn between(before: &Store, after: &Store) -> Self {
        let keys: BTreeSet<&RecordKey> = before.rows.keys().chain(after.rows.keys()).collect();
        let changed = keys.into_iter().filter(|key| !identical(before.rows.get(key), after.rows.get(key)));
        let rows = changed.map(|key| (key.clone(), after.rows.get(key).cloned())).collect();
        Self { cleared: BTreeSet::new(), rows, positions: moves(&before.tables, &after.tables) }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The change that leaves it in the queue store, or takes away what the commit before left there. A row that the
    /// queue implies is not kept twice: opening makes it from the base and the entries.
    pub(super) fn kept(&self, after: &Store) -> Result<QueueChange, ReplicaError> {
        let implied = |key, row| after.queue.get(key).is_some_and(|p| identical(replayed(p).as_ref(), row));
        let rows = self.rows.iter().filter(|(key, row)| !implied(key, row.as_ref())).cloned().collect();
        let kept = Self { cleared: self.cleared.clone(), rows, positions: self.positions.clone() };
        let key = image::WORK.to_owned();
        if kept.is_empty() {
            return Ok(QueueChange::Remove { key });
        }
        Ok(QueueChange::Set { key, value: text::text(&kept)? })
    }

    /// Does it: rows first, so that no cursor is ever ahead of its rows.
    pub(super) async fn carry_out(
        &self,
        local: &dyn LocalStore,
        timestamps: &dyn TimestampStore,
    ) -> Result<(), ReplicaError> {
        for table in &self.cleared {
            local.clear(table).await?;
        }
        for (key, row) in &self.rows {
            write(local, key, row.as_ref()).await?;
        }
        for (table, position) in &self.positions {
            match position {
                Some(position) => timestamps.set(table, position).await?,
                None => timestamps.remove(table).await?,
            }
        }
        Ok(())
    }
}

/// Brings the rows of records with pending entries to what those make of them.
pub(super) async fn replay(
    queue: &BTreeMap<RecordKey, Pending>,
    local: &dyn LocalStore,
) -> Result<(), ReplicaError> {
    for (key, pending) in queue {
        let row = replayed(pending);
        if !identical(local.get(key).await?.as_ref(), row.as_ref()) {
            write(local, key, row.as_ref()).await?;
        }
    }
    Ok(())
}

async fn write(local: &dyn LocalStore, key: &RecordKey, row: Option<&Fields>) -> Result<(), ReplicaError> {
    match row {
        Some(row) => local.put(key, row).await,
        None => local.delete(key).await,
    }
}

fn replayed(pending: &Pending) -> Option<Fields> {
    pending.entries.iter().fold(pending.base.clone(), |row, entry| entry.edit.apply(row))
}

fn moves(before: &[TableState], after: &[TableState]) -> Vec<(TableName, Option<Position>)> {
    let at = |tables: &[TableState]| -> BTreeMap<TableName, Position> {
        tables.iter().map(|table| (table.spec.name.clone(), Position::of(table))).collect()
    };
    let (before, after) = (at(before), at(after));
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name.clone(), None));
    let moved = after.iter().filter(|(name, position)| before.get(*name) != Some(position));
    gone.chain(moved.map(|(name, position)| (name.clone(), Some(position.clone())))).collect()
}

/// Equal to the last bit: 0.0 and -0.0 are equal numbers, but not the same row.
fn identical(one: Option<&Fields>, other: Option<&Fields>) -> bool {
    one == other && text::text(&one).ok() == text::text(&other).ok()
}
