//! Taking over from the Dart package dynos_sync, whose Drift adapter keeps a queue and times in the application's database.

use std::collections::{BTreeMap, BTreeSet};

use dynos_sync_core::{
    Edit, Fields, Invalid, Limits, Millis, Operation, RecordKey, Replica, TableName,
    replica::{Batch, Existing, Op, Outcome, TableOptions, TablePolicy},
};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::{
    commit::commit,
    error::{Result, of_theirs},
    replica::SqliteReplica,
    rows,
    session::Session,
};

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TakenOver {
    /// The tables that are synced now and were not before.
    pub tables: Vec<TableName>,
    /// How many records had changes that the package had not pushed. They are queued.
    pub records: usize,
    /// Changes that could not be taken over, and stay where they are.
    pub left: Vec<Left>,
}

/// A queued change of the Dart package that could not be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its id in `dynos_sync_queue`.
    pub entry: String,
    /// Why.
    pub problem: String,
}

/// A row of the package's queue.
struct Queued {
    entry: String,
    table: String,
    record: String,
    operation: String,
    payload: String,
    created_at: i64,
}

impl SqliteReplica {
    /// Takes over from the Dart package dynos_sync in the same database file: the tables that it has synced (those in
    /// `dynos_sync_timestamps` and `dynos_sync_queue`) are added with `policy` (one that is synced already keeps its own), and the changes that it has not pushed are queued, in their order and with
    /// their times. In the package's own tables they count as pushed from then on, so that this may be called again, and an entry
    /// that could not be taken over is tried again. Rows that have no such change are left as they are, until the server or the application changes them.
    ///
    /// The package's times are of no use as cursors (it skips rows that are committed late): the first sync pulls each table whole.
    ///
    /// # Errors
    /// [`ReplicaError::Invalid`](dynos_sync_core::ReplicaError::Invalid) where the file has no such queue, or a table of it cannot be synced; then nothing was queued.
    pub async fn take_over_from_dart(&self, policy: &TablePolicy) -> Result<TakenOver> {
        let (queued, names) = self.on_reading(|db| found(db)).await?;
        let mut tables = Vec::new();
        let known = self.state().await?;
        for name in names.into_iter().filter(|name| known.table(name).is_none()) {
            let existing = Existing::Ignore;
            let options =
                TableOptions { policy: policy.clone(), existing, ..TableOptions::new(name.clone()) };
            if self.add_table(options).await? {
                tables.push(name);
            }
        }
        let (records, left) = self.session(move |session| take_over(session, queued)).await?;
        Ok(TakenOver { tables, records, left })
    }
}

/// What was not pushed, and the package's tables that are there.
fn found(db: &Connection) -> Result<(Vec<Queued>, Vec<TableName>)> {
    let queued = queued(db)?;
    let mut names: BTreeSet<String> = queued.iter().map(|row| row.table.clone()).collect();
    names.extend(synced_tables(db)?);
    let mut tables = Vec::new();
    for name in names {
        if exists(db, &name)? {
            tables.push(name.try_into()?);
        }
    }
    Ok((queued, tables))
}

fn queued(db: &Connection) -> Result<Vec<Queued>> {
    let sql = "SELECT id, table_name, record_id, operation, payload, created_at FROM dynos_sync_queue \
               WHERE synced_at IS NULL ORDER BY created_at, rowid";
    let mut statement = db.prepare(sql).map_err(|error| {
        Invalid::new("dynos_sync_queue", error.to_string())
            .remedy("open the database that the Dart application has used")
    })?;
    let read = |row: &Row<'_>| {
        Ok(Queued {
            entry: row.get(0)?,
            table: row.get(1)?,
            record: row.get(2)?,
            operation: row.get(3)?,
            payload: row.get(4)?,
            created_at: row.get(5)?,
        })
    };
    statement.query_map([], read).and_then(Iterator::collect).map_err(of_theirs)
}

fn synced_tables(db: &Connection) -> Result<Vec<String>> {
    if !exists(db, "dynos_sync_timestamps")? {
        return Ok(Vec::new());
    }
    let mut statement = db.prepare("SELECT table_name FROM dynos_sync_timestamps").map_err(of_theirs)?;
    statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(of_theirs)
}

fn exists(db: &Connection, name: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE";
    Ok(db.query_row(sql, [name], |_| Ok(())).optional().map_err(of_theirs)?.is_some())
}

/// Queues what was not pushed. Answers of how many records, and what could not be.
fn take_over(session: &mut Session<'_>, queued: Vec<Queued>) -> Result<(usize, Vec<Left>)> {
    let mut left = Vec::new();
    let mut records: BTreeMap<RecordKey, Vec<(Queued, Edit)>> = BTreeMap::new();
    let (mut order, mut blocked) = (Vec::new(), BTreeSet::new());
    for row in queued {
        let record = (row.table.clone(), row.record.clone());
        if blocked.contains(&record) {
            left.push(Left {
                entry: row.entry,
                problem: "an earlier change of the record was left".to_owned(),
            });
            continue;
        }
        match read(session, &row) {
            Ok((key, edit)) => {
                order.push(key.clone());
                records.entry(key).or_default().push((row, edit));
            }
            Err(problem) => {
                left.push(Left { entry: row.entry, problem: problem.to_string() });
                blocked.insert(record);
            }
        }
    }
    let mut taken = 0;
    for key in order {
        let Some(edits) = records.remove(&key) else { continue };
        match queue(session, &key, &edits) {
            Ok(()) => taken += 1,
            Err(problem) => {
                let of = |(row, _): (Queued, Edit)| Left { entry: row.entry, problem: problem.to_string() };
                left.extend(edits.into_iter().map(of));
            }
        }
    }
    Ok((taken, left))
}

/// What an entry changes.
fn read(session: &Session<'_>, row: &Queued) -> Result<(RecordKey, Edit)> {
    let key = RecordKey::new(&row.table, &row.record)?;
    let table = session.catalog.named(&key.table)?;
    let decoded = table.key_of(&key.id)?;
    let operation = match row.operation.as_str() {
        "upsert" => Operation::Upsert,
        "patch" => Operation::Patch,
        "delete" => return Ok((key, Edit::Delete)),
        other => {
            let problem = format!("{other:?} is neither upsert, patch nor delete");
            return Err(Invalid::new("operation", problem).into());
        }
    };
    let fields: Fields = serde_json::from_str(&row.payload)
        .map_err(|error| Invalid::new("payload", format!("no JSON object: {error}")))?;
    let fields = match table.document {
        true => fields,
        false => rows::prepare(table, &decoded, &fields)?.fields.into_owned(),
    };
    Ok((key, Edit::new(operation, fields)))
}

/// Queues a record's changes as one. The row has them already, unless the application died in between.
fn queue(session: &mut Session<'_>, key: &RecordKey, edits: &[(Queued, Edit)]) -> Result<()> {
    let Some(edit) = edits.iter().map(|(_, edit)| edit.clone()).reduce(Edit::then) else { return Ok(()) };
    let at = edits.iter().map(|(row, _)| millis(row.created_at)).fold(1, Millis::max);
    let table = session.catalog.named(&key.table)?;
    let decoded = table.key_of(&key.id)?;
    let row = rows::select(session.db, table, &decoded)?;
    table.guard(&key.id, row.as_deref())?;
    let op = match (&edit, &row) {
        (Edit::Delete, None) | (Edit::Upsert(_) | Edit::Replace(_) | Edit::Patch(_), Some(_)) => {
            Op::Offer { key: key.clone(), base: None, edit, at }
        }
        _ => Op::Write { key: key.clone(), edit, at },
    };
    let batch = Batch { ops: vec![op], ..Batch::default() };
    session.part(|session| commit(session, &batch), |outcome| *outcome != Outcome::Stale)?;
    let pushed = "UPDATE dynos_sync_queue SET synced_at = ? WHERE id = ?";
    let mut statement = session.db.prepare_cached(pushed).map_err(of_theirs)?;
    for (row, _) in edits {
        statement.execute((session.header.clock.max(at), &row.entry)).map_err(of_theirs)?;
    }
    Ok(())
}

/// The package writes milliseconds; Drift itself, seconds.
fn millis(time: i64) -> Millis {
    /// As milliseconds, a day in 1973; as seconds, a year beyond 5000.
    const SECONDS: i64 = 100_000_000_000;
    let millis = if (0..SECONDS).contains(&time) { time.saturating_mul(1000) } else { time };
    millis.clamp(1, Limits::LATEST)
}
