//! Where a cursor stands in the history that this database has.

use dynos_sync_core::{
    Cursor, Millis, Seq,
    sabotage::{Mutant, is_on},
    wire::Expired,
};
use rusqlite::{Connection, OptionalExtension as _};

use super::catalog::{ScopeId, Table};
use crate::store::{
    StoreError,
    cursor::{Incarnation, Position},
};

/// Appends an incarnation and returns its number.
pub(super) fn begin(conn: &Connection, now: Millis) -> Result<i64, StoreError> {
    let last: Option<String> = conn
        .query_row("SELECT id FROM incarnations ORDER BY n DESC LIMIT 1", [], |row| row.get(0))
        .optional()?;
    // Later than every earlier one, also where the clock was set back: see `rolled_back`.
    let earliest = last.as_deref().and_then(Incarnation::parse).map_or(0, |last| last.started() + 1);
    let random = getrandom::u64().map_err(|_| StoreError::Unavailable)?;
    let incarnation = Incarnation::new(now.max(earliest), random);
    conn.execute("INSERT INTO incarnations (id) VALUES (?1)", [incarnation.as_str()])?;
    Ok(conn.last_insert_rowid())
}

/// Notes that an incarnation changes a scope which has reached `seq`, if this is its first change there.
pub(super) fn note(conn: &Connection, incarnation: i64, scope: ScopeId, seq: Seq) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR IGNORE INTO epochs (scope, n, start) VALUES (?1, ?2, ?3)")?.execute((
        scope,
        incarnation,
        seq,
    ))?;
    Ok(())
}

/// The cursor of a place in a scope's history.
pub(super) fn cursor(conn: &Connection, scope: ScopeId, seq: Seq) -> Result<Cursor, StoreError> {
    cursor_within(conn, scope, seq, 0, seq)
}

/// The cursor of a place in a walk. `floor` and `end`: see [`Position`].
pub(super) fn cursor_within(
    conn: &Connection,
    scope: ScopeId,
    seq: Seq,
    floor: Seq,
    end: Seq,
) -> Result<Cursor, StoreError> {
    let mut made = conn.prepare_cached(
        "SELECT id FROM incarnations JOIN epochs USING (n) WHERE scope = ?1 AND start < ?2 ORDER BY n DESC LIMIT 1",
    )?;
    let made = made.query_row((scope, end), |row| row.get(0)).optional()?;
    let incarnation = match made {
        Some(id) => id,
        None => first(conn)?,
    };
    Ok(Position { incarnation: known(&incarnation)?, seq, floor, end }.cursor())
}

/// The cursor of a table in which nothing happened yet.
pub(super) fn zero(conn: &Connection) -> Result<Cursor, StoreError> {
    Ok(Position { incarnation: known(&first(conn)?)?, seq: 0, floor: 0, end: 0 }.cursor())
}

/// What a cursor is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It can be continued from.
    Valid(Position),
    /// It cannot.
    Expired(Expired),
    /// No server of ours made it.
    Malformed,
}

/// Judges a cursor of a table.
pub(super) fn judge(conn: &Connection, table: &Table, cursor: &Cursor) -> Result<Standing, StoreError> {
    let Some(position) = Position::parse(cursor) else { return Ok(Standing::Malformed) };
    if let Some(common) = rolled_back(conn, table.scope, &position)?
        && !is_on(Mutant::RestoreUnnoticed)
    {
        return Ok(Standing::Expired(Expired::RolledBack { common, own: None }));
    }
    Ok(match table.purged > position.seq.max(position.floor) && !is_on(Mutant::PurgeUnnoticed) {
        true => Standing::Expired(Expired::Purged),
        false => Standing::Valid(position),
    })
}

/// The newest seq that the cursor's history and this one share, if they are not the same up to the cursor.
fn rolled_back(conn: &Connection, scope: ScopeId, position: &Position) -> Result<Option<Seq>, StoreError> {
    let id = position.incarnation.as_str();
    let n: Option<i64> = conn
        .prepare_cached("SELECT n FROM incarnations WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    if let Some(n) = n {
        let end = end(conn, scope, n)?;
        return Ok((position.end > end).then_some(end));
    }
    // It began after the copy was made that this history goes on from. What began before it is in both. (What
    // began in the same millisecond is its like in this history, made where the clock stands still.) The cursor's
    // own change is in the lost part.
    let before: Option<i64> = conn
        .prepare_cached("SELECT max(n) FROM incarnations WHERE id < ?1")?
        .query_row([position.incarnation.time()], |row| row.get(0))?;
    let common = before.map(|n| end(conn, scope, n)).transpose()?.unwrap_or(0);
    Ok(Some(common.min(position.end.saturating_sub(1))))
}

/// The last seq of a scope that belongs to an incarnation or an earlier one.
fn end(conn: &Connection, scope: ScopeId, n: i64) -> Result<Seq, StoreError> {
    let mut end = conn.prepare_cached(
        "SELECT coalesce((SELECT min(start) FROM epochs WHERE scope = ?1 AND n > ?2),
                         (SELECT seq FROM scopes WHERE scope = ?1), 0)",
    )?;
    Ok(end.query_row((scope, n), |row| row.get(0))?)
}

fn first(conn: &Connection) -> Result<String, StoreError> {
    let mut first = conn.prepare_cached("SELECT id FROM incarnations ORDER BY n LIMIT 1")?;
    Ok(first.query_row([], |row| row.get(0))?)
}

fn known(id: &str) -> Result<Incarnation, StoreError> {
    Incarnation::parse(id).ok_or_else(|| StoreError::Corrupt("an incarnation's id".to_owned()))
}
