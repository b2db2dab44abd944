//! What the tables look like.

use std::collections::BTreeMap;

use dynos_sync_core::{TableName, TableSpec};
use rusqlite::Connection;

use super::{Rules, catalog};
use crate::store::{Caller, Scope, StoreError};

/// The largest declaration, as JSON.
const SPEC_BYTES: usize = 256 * 1024;

/// Joins declarations with those that are kept.
pub(super) fn declare(
    conn: &Connection,
    rules: &Rules,
    caller: &Caller,
    specs: &[TableSpec],
) -> Result<Vec<TableSpec>, StoreError> {
    specs.iter().map(|spec| one(conn, rules, &rules.scope(caller, &spec.name), spec)).collect()
}

fn one(conn: &Connection, rules: &Rules, owner: &Scope, spec: &TableSpec) -> Result<TableSpec, StoreError> {
    spec.validate()?;
    let Some(kept) = catalog::table(conn, owner, &spec.name)? else {
        let (scope, _) = catalog::make_scope(conn, owner)?;
        let count: usize = conn
            .prepare_cached("SELECT count(*) FROM tables WHERE scope = ?1")?
            .query_row([scope], |row| row.get(0))?;
        if count >= rules.tables {
            return Err(StoreError::Invalid(format!(
                "there are {count} tables already, the limit is {}",
                rules.tables
            )));
        }
        let insert = "INSERT INTO tables (scope, name, spec) VALUES (?1, ?2, ?3)";
        conn.execute(insert, (scope, spec.name.as_str(), json(spec)?))?;
        return Ok(spec.clone());
    };
    let joined = kept.spec.joined(spec)?;
    // What two valid declarations make together may have too many columns.
    joined.validate()?;
    if joined != kept.spec {
        conn.execute("UPDATE tables SET spec = ?2 WHERE tbl = ?1", (kept.id, json(&joined)?))?;
    }
    Ok(joined)
}

/// The tables that the caller sees, by name.
pub(super) fn tables(
    conn: &Connection,
    rules: &Rules,
    caller: &Caller,
) -> Result<Vec<TableSpec>, StoreError> {
    let mut seen: BTreeMap<TableName, TableSpec> = BTreeMap::new();
    for owner in [rules.user(caller), Scope::Shared] {
        let Some((scope, _)) = catalog::scope(conn, &owner)? else { continue };
        let mut all = conn.prepare_cached("SELECT spec FROM tables WHERE scope = ?1")?;
        let mut rows = all.query([scope])?;
        while let Some(row) = rows.next()? {
            let spec = catalog::parse_spec(&row.get::<_, String>(0)?)?;
            // A table that was once shared, or not, stays behind in the other scope.
            if rules.scope(caller, &spec.name) == owner {
                seen.insert(spec.name.clone(), spec);
            }
        }
    }
    Ok(seen.into_values().collect())
}

fn json(spec: &TableSpec) -> Result<String, StoreError> {
    let json =
        serde_json::to_string(spec).map_err(|_| StoreError::Invalid("not a declaration".to_owned()))?;
    if json.len() > SPEC_BYTES {
        let (name, bytes) = (&spec.name, json.len());
        return Err(StoreError::Invalid(format!("table {name}: {bytes} bytes, the limit is {SPEC_BYTES}")));
    }
    Ok(json)
}
