//! Conflicts between records of a type: deciding them, and following what was decided.

use std::time::SystemTime;

use dynos_sync_core::{
    Fields, RecordId, Value,
    conflict::{Conflict, Resolution, Strategy, StrategyName, last_write_wins},
    replica::{Journaled, Resolved},
};
use futures_util::StreamExt;

use crate::{
    clock::system_time,
    error::SyncError,
    query::{LiveQuery, typed},
    table::{Record, Table, object},
};

/// The versions of a record that was changed on both sides. `None`: it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions<R> {
    /// What both sides started from.
    pub base: Option<R>,
    /// This device's.
    pub mine: Option<R>,
    /// The server's.
    pub theirs: Option<R>,
}

/// A decided conflict of the journal, as values of the record's type.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided<R> {
    /// Its number, for [`undo_conflict`](crate::SyncEngine::undo_conflict) and [`discard_conflict`](crate::SyncEngine::discard_conflict).
    pub conflict: i64,
    /// The record's id.
    pub record_id: RecordId,
    /// What it was decided between.
    pub versions: Versions<R>,
    /// What the record has become. `None`: it was deleted.
    pub outcome: Option<R>,
    /// Who decided.
    pub strategy: StrategyName,
    /// When.
    pub at: SystemTime,
}

impl<R: Record> Versions<R> {
    /// Reads them.
    ///
    /// # Errors
    /// [`SyncError::Mismatch`] where one is no `R`.
    pub fn of(conflict: &Conflict) -> Result<Self, SyncError> {
        let Conflict { key, base, local, remote, .. } = conflict;
        Self::read(&key.id, base, local, remote)
    }

    fn read(
        id: &RecordId,
        base: &Option<Fields>,
        mine: &Option<Fields>,
        theirs: &Option<Fields>,
    ) -> Result<Self, SyncError> {
        Ok(Self { base: read(id, base)?, mine: read(id, mine)?, theirs: read(id, theirs)? })
    }

    /// A strategy for the type's table: `decide` says what a record becomes, `None` that it is deleted. All devices must decide alike from the
    /// same versions.
    ///
    /// Fields that serde leaves out, or that the type does not have, stay as the server has them. Where a version is no `R`, the later edit
    /// wins, as it does by default.
    ///
    /// ```
    /// use dynos_sync::{Record, SyncConfig, Versions};
    ///
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Item {
    ///     id: String,
    ///     stock: i64,
    /// }
    ///
    /// impl Record for Item {
    ///     const TABLE: &'static str = "items";
    /// }
    ///
    /// /// What both have taken away is gone twice.
    /// fn count(versions: Versions<Item>) -> Option<Item> {
    ///     let Versions { base, mine, theirs } = versions;
    ///     let (mine, theirs) = (mine?, theirs?);
    ///     let before = base.map_or(0, |base| base.stock);
    ///     Some(Item { stock: mine.stock + theirs.stock - before, ..theirs })
    /// }
    ///
    /// let mut config = SyncConfig::default();
    /// config.table_strategies.insert(Item::TABLE.to_owned(), Versions::strategy(count));
    /// ```
    pub fn strategy(decide: impl Fn(Self) -> Option<R> + Send + Sync + 'static) -> Strategy {
        Strategy::custom(move |conflict| {
            let decided =
                Self::of(conflict).and_then(|versions| resolution(conflict, decide(versions).as_ref()));
            decided.unwrap_or_else(|_| last_write_wins(conflict))
        })
    }
}

/// A version as a value. Its fields are without those of its key.
fn read<R: Record>(id: &RecordId, version: &Option<Fields>) -> Result<Option<R>, SyncError> {
    let Some(fields) = version else { return Ok(None) };
    let with = |key: Vec<Value>| -> Result<R, SyncError> {
        let mut fields = fields.clone();
        for (name, value) in R::KEY.iter().zip(key) {
            fields.entry(*name).or_insert(value);
        }
        typed(fields, R::TABLE)
    };
    // The id of a text key is the text, of another key its JSON.
    let parsed = serde_json::from_str(id.as_str());
    match (R::KEY, parsed) {
        ([_], Ok(other)) => with(vec![id.as_str().into()]).or_else(|_| with(vec![other])),
        ([_], Err(_)) => with(vec![id.as_str().into()]),
        (_, Ok(Value::Array(parts))) => with(parts),
        _ => with(Vec::new()),
    }
    .map(Some)
}

/// What is to become of the record.
fn resolution<R: Record>(conflict: &Conflict, outcome: Option<&R>) -> Result<Resolution, SyncError> {
    let Some(outcome) = outcome else { return Ok(Resolution::Delete) };
    let mut record = conflict.remote.clone().or_else(|| conflict.local.clone()).unwrap_or_default();
    let has_key = |name: &str| record.contains_key(name);
    let is_key_alone = |name: &String| R::KEY.contains(&name.as_str()) && !has_key(name);
    let fields: Fields = object(outcome)?.into_iter().filter(|(name, _)| !is_key_alone(name)).collect();
    record.extend(fields);
    Ok(Resolution::Merged(record))
}

impl<R: Record> Decided<R> {
    fn new(conflict: i64, resolved: &Resolved) -> Result<Self, SyncError> {
        let Resolved { key, base, mine, theirs, outcome, strategy, decided_at, .. } = resolved;
        Ok(Self {
            conflict,
            record_id: key.id.clone(),
            versions: Versions::read(&key.id, base, mine, theirs)?,
            outcome: read(&key.id, outcome)?,
            strategy: *strategy,
            at: system_time(*decided_at),
        })
    }

    /// Those of the type's table that can be read.
    fn all(journal: &[Journaled]) -> Result<Vec<Self>, SyncError> {
        let of_table = |entry: &Journaled| {
            let resolved = entry.resolved.as_ref()?;
            (resolved.key.table.as_str() == R::TABLE).then(|| Self::new(entry.id, resolved))
        };
        journal.iter().filter_map(of_table).collect()
    }
}

impl<R: Record> Table<R> {
    /// The table's conflicts in the journal, newest first, without those that are damaged.
    ///
    /// # Errors
    /// As [`SyncEngine::conflicts`](crate::SyncEngine::conflicts); [`SyncError::Mismatch`] where a version is no `R`.
    pub async fn conflicts(&self) -> Result<Vec<Decided<R>>, SyncError> {
        Decided::all(&self.engine().conflicts().await?)
    }

    /// Follows the table's [`conflicts`](Self::conflicts).
    pub fn watch_conflicts(&self) -> LiveQuery<Decided<R>>
    where
        R: Send + 'static,
    {
        let journal = self.engine().watch_conflicts();
        LiveQuery::new(journal.map(|journal| Decided::all(&journal?)))
    }
}
