//! Scopes, tables and writers, by the numbers under which the database knows them.

use dynos_sync_core::{Counter, ReplicaId, Seq, TableName, TableSpec};
use rusqlite::{Connection, OptionalExtension as _};

use crate::store::{Scope, StoreError};

/// A scope's number.
pub(super) type ScopeId = i64;

/// A writer's number.
pub(super) type WriterId = i64;

impl Scope {
    /// The name under which the scope is kept. No subject can take another scope's.
    fn name(&self) -> String {
        match self {
            Self::User(subject) => format!("u:{subject}"),
            Self::Shared => "s".to_owned(),
        }
    }
}

/// A scope, if anything was ever kept in it.
pub(super) fn scope(conn: &Connection, scope: &Scope) -> Result<Option<(ScopeId, Seq)>, StoreError> {
    let mut find = conn.prepare_cached("SELECT scope, seq FROM scopes WHERE name = ?1")?;
    Ok(find.query_row([scope.name()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// A scope, made if it is missing.
pub(super) fn make_scope(conn: &Connection, wanted: &Scope) -> Result<(ScopeId, Seq), StoreError> {
    if let Some(found) = scope(conn, wanted)? {
        return Ok(found);
    }
    conn.execute("INSERT INTO scopes (name, seq) VALUES (?1, 0)", [wanted.name()])?;
    Ok((conn.last_insert_rowid(), 0))
}

/// A table as the database keeps it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Its number.
    pub(super) id: i64,
    /// Its scope's number.
    pub(super) scope: ScopeId,
    /// Its declaration.
    pub(super) spec: TableSpec,
    /// The seq of its newest change.
    pub(super) head: Seq,
    /// The seq of the newest tombstone that was forgotten.
    pub(super) purged: Seq,
}

/// A declared table.
pub(super) fn table(conn: &Connection, owner: &Scope, name: &TableName) -> Result<Option<Table>, StoreError> {
    let mut find = conn.prepare_cached(
        "SELECT tbl, scope, spec, head, purged FROM tables
         WHERE scope = (SELECT scope FROM scopes WHERE name = ?1) AND name = ?2",
    )?;
    let found = find
        .query_row((owner.name(), name.as_str()), |row| {
            Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    let Some((id, scope, spec, head, purged)) = found else { return Ok(None) };
    Ok(Some(Table { id, scope, spec: parse_spec(&spec)?, head, purged }))
}

/// Reads a declaration that was kept as JSON.
pub(super) fn parse_spec(json: &str) -> Result<TableSpec, StoreError> {
    serde_json::from_str(json).map_err(|_| StoreError::Corrupt("a table's declaration".to_owned()))
}

/// A user's replica, if it ever wrote: its number, and the highest counter seen.
pub(super) fn writer(
    conn: &Connection,
    user: &Scope,
    replica: ReplicaId,
) -> Result<Option<(WriterId, Counter)>, StoreError> {
    let mut find = conn.prepare_cached(
        "SELECT writer, counter FROM writers
         WHERE scope = (SELECT scope FROM scopes WHERE name = ?1) AND replica = ?2",
    )?;
    Ok(find.query_row((user.name(), replica.to_string()), |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// A user's replica, made if it is missing.
pub(super) fn make_writer(
    conn: &Connection,
    user: &Scope,
    replica: ReplicaId,
) -> Result<(WriterId, Counter), StoreError> {
    if let Some(found) = writer(conn, user, replica)? {
        return Ok(found);
    }
    let (scope, _) = make_scope(conn, user)?;
    let insert = "INSERT INTO writers (scope, replica, counter) VALUES (?1, ?2, 0)";
    conn.execute(insert, (scope, replica.to_string()))?;
    Ok((conn.last_insert_rowid(), 0))
}
