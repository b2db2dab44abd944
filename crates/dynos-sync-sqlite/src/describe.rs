//! Reads from SQLite's catalogue what a table looks like.

use dynos_sync_core::{Column, ForeignKey, Index, Invalid, ReplicaError, Shape, TableName, TableSpec};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::{
    error::{Result, of_table},
    replica::Candidates,
};

/// The declared type that marks the one data column of a document table.
pub(crate) const DOCUMENT_TYPE: &str = "DYNOS_DOCUMENT_TEXT";

/// What the catalogue says about a table, beyond its [`TableSpec`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Description {
    pub(crate) spec: TableSpec,
    /// Each column's default, as an SQL expression, in the order of the columns.
    pub(crate) defaults: Vec<Option<String>>,
    /// Sets of columns whose values are unique, each with its collations: what `REPLACE` may delete other rows for.
    pub(crate) uniques: Vec<Vec<(String, String)>>,
    /// Whether a change of a row may change other rows, or the row again: the application's own triggers, and
    /// references to the table that act.
    pub(crate) reactive: bool,
}

/// Describes a table; `None` where the database has none of that name.
///
/// # Errors
/// [`Invalid`] for a table that cannot be synced: a view, a virtual table, one without a primary key.
pub(crate) fn describe(db: &Connection, name: &TableName) -> Result<Option<Description>> {
    let kind = "SELECT type, wr, strict, name FROM pragma_table_list(?1) WHERE schema = 'main'";
    let read =
        |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?));
    let found = db.query_row(kind, [name.as_str()], read).optional().map_err(of_table)?;
    let Some((kind, without_rowid, strict, spelling)) = found else { return Ok(None) };
    if spelling != name.as_str() {
        // SQLite does not tell the two apart; the server and other devices do.
        return Err(unsuitable(
            name,
            &format!("the table is spelled {spelling}"),
            "use the table's own spelling",
        ));
    }
    if kind != "table" {
        return Err(unsuitable(name, &format!("it is a {kind}, not a table"), "sync the tables behind it"));
    }
    let columns = columns(db, name)?;
    let key = key(&columns);
    if key.is_empty() {
        return Err(unsuitable(name, "it has no primary key", "give it one"));
    }
    let defaults = columns.iter().map(|column| column.default.clone()).collect();
    let (indexes, mut uniques) = indexes(db, name)?;
    uniques.push(key.iter().map(|column| (column.clone(), collation(db, name, column))).collect());
    let shape = Shape::Columns {
        columns: columns.iter().map(|column| column.declare(collation(db, name, &column.name))).collect(),
        key,
        indexes,
        foreign_keys: foreign_keys(db, name)?,
        without_rowid,
        strict,
        autoincrement: autoincrement(db, name)?,
    };
    let shape = if is_document(&columns) { Shape::Document } else { shape };
    let spec = TableSpec { name: name.clone(), shape };
    Ok(Some(Description { spec, defaults, uniques, reactive: reactive(db, name)? }))
}

fn unsuitable(name: &TableName, problem: &str, remedy: &str) -> ReplicaError {
    Invalid::new("table", format!("{name} cannot be synced: {problem}")).remedy(remedy).into()
}

struct Info {
    name: String,
    declared: String,
    not_null: bool,
    default: Option<String>,
    /// Its place in the key, from 1; 0 outside.
    key: i64,
}

impl Info {
    fn declare(&self, collation: String) -> Column {
        Column {
            name: self.name.clone(),
            declared: self.declared.clone(),
            not_null: self.not_null,
            default: self.default.clone().filter(|default| is_literal(default)),
            collation: (collation != "BINARY").then_some(collation),
        }
    }
}

/// The columns that hold data: generated ones are left out, every device computes its own.
fn columns(db: &Connection, name: &TableName) -> Result<Vec<Info>> {
    let info = |row: &Row<'_>| {
        Ok(Info {
            name: row.get(0)?,
            declared: row.get(1)?,
            not_null: row.get(2)?,
            default: row.get(3)?,
            key: row.get(4)?,
        })
    };
    rows(
        db,
        "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_xinfo(?1) WHERE hidden = 0",
        name.as_str(),
        info,
    )
}

fn key(columns: &[Info]) -> Vec<String> {
    let mut key: Vec<&Info> = columns.iter().filter(|column| column.key > 0).collect();
    key.sort_by_key(|column| column.key);
    key.into_iter().map(|column| column.name.clone()).collect()
}

fn is_document(columns: &[Info]) -> bool {
    matches!(columns, [id, data] if id.name == "id" && data.declared == DOCUMENT_TYPE)
}

fn collation(db: &Connection, table: &TableName, column: &str) -> String {
    let metadata = db.column_metadata(Some("main"), table.as_str(), column);
    let collation = metadata.ok().and_then(|(_, collation, ..)| collation?.into_string().ok());
    collation.unwrap_or_else(|| "BINARY".to_owned())
}

type Uniques = Vec<Vec<(String, String)>>;

fn indexes(db: &Connection, table: &TableName) -> Result<(Vec<Index>, Uniques)> {
    let list = "SELECT name, \"unique\", origin, partial FROM pragma_index_list(?1) WHERE origin <> 'pk' ORDER BY seq DESC";
    let found: Vec<(String, bool, String, bool)> =
        rows(db, list, table.as_str(), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let (mut indexes, mut uniques) = (Vec::new(), Vec::new());
    for (name, unique, origin, partial) in found {
        let terms = "SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno";
        let terms: Vec<(Option<String>, String)> =
            rows(db, terms, &name, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let terms: Option<Vec<(String, String)>> =
            terms.into_iter().map(|(column, collation)| Some((column?, collation))).collect();
        // An index on an expression has terms without a name: it is neither shared nor watched.
        let Some(terms) = terms else { continue };
        if !partial {
            let columns = terms.iter().map(|(column, _)| column.clone()).collect();
            let name = (origin == "c").then_some(name);
            indexes.push(Index { name, unique, columns });
        }
        if unique {
            uniques.push(terms);
        }
    }
    Ok((indexes, uniques))
}

fn foreign_keys(db: &Connection, table: &TableName) -> Result<Vec<ForeignKey>> {
    let list = "SELECT id, \"table\", \"from\", \"to\", on_update, on_delete FROM pragma_foreign_key_list(?1) ORDER BY id DESC, seq";
    type Term = (i64, String, String, Option<String>, String, String);
    let terms: Vec<Term> = rows(db, list, table.as_str(), |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    })?;
    let mut found: Vec<(i64, ForeignKey)> = Vec::new();
    for (id, parent, from, to, on_update, on_delete) in terms {
        if found.last().is_none_or(|(last, _)| *last != id) {
            let (columns, parent_columns) = (Vec::new(), Vec::new());
            found.push((id, ForeignKey { columns, parent, parent_columns, on_delete, on_update }));
        }
        if let Some((_, foreign)) = found.last_mut() {
            foreign.columns.push(from);
            foreign.parent_columns.extend(to);
        }
    }
    Ok(found.into_iter().map(|(_, foreign)| foreign).collect())
}

fn autoincrement(db: &Connection, table: &TableName) -> Result<bool> {
    let sql = "SELECT sql LIKE '%AUTOINCREMENT%' FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    let found = db.query_row(sql, [table.as_str()], |row| row.get::<_, Option<bool>>(0)).optional();
    Ok(found.map_err(of_table)?.flatten().unwrap_or(false))
}

fn reactive(db: &Connection, table: &TableName) -> Result<bool> {
    let sql = "
        SELECT EXISTS (SELECT 1 FROM sqlite_schema
                       WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE AND name NOT LIKE 'dynos\\_%' ESCAPE '\\')
            OR EXISTS (SELECT 1 FROM sqlite_schema AS child, pragma_foreign_key_list(child.name) AS foreign_key
                       WHERE child.type = 'table' AND foreign_key.\"table\" = ?1 COLLATE NOCASE
                         AND (foreign_key.on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT')
                              OR foreign_key.on_update IN ('CASCADE', 'SET NULL', 'SET DEFAULT')))";
    db.query_row(sql, [table.as_str()], |row| row.get(0)).map_err(of_table)
}

/// Whether a default is a literal: only those are shared, an expression from another device is never run.
pub(crate) fn is_literal(default: &str) -> bool {
    let upper = default.to_uppercase();
    let word = matches!(
        upper.as_str(),
        "NULL" | "TRUE" | "FALSE" | "CURRENT_TIME" | "CURRENT_DATE" | "CURRENT_TIMESTAMP"
    );
    let number = default.parse::<f64>().is_ok_and(f64::is_finite);
    let text = default
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
        .is_some_and(|inner| !inner.replace("''", "").contains('\''));
    word || number || text
}

fn rows<T>(
    db: &Connection,
    sql: &str,
    name: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>> {
    let mut statement = db.prepare(sql).map_err(of_table)?;
    let rows = statement.query_map([name], read).map_err(of_table)?;
    rows.collect::<rusqlite::Result<_>>().map_err(of_table)
}

/// All tables of the application, described.
pub(crate) fn candidates(db: &Connection) -> Result<Candidates> {
    let list = "SELECT name FROM pragma_table_list WHERE schema = ?1 AND type IN ('table', 'virtual') \
                AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE 'dynos\\_%' ESCAPE '\\' ORDER BY name";
    let names: Vec<String> = rows(db, list, "main", |row| row.get(0))?;
    let mut found = Candidates::default();
    for name in names {
        let described =
            name.parse::<TableName>().map_err(ReplicaError::from).and_then(|name| describe(db, &name));
        match described {
            Ok(Some(description)) => found.suitable.push(description.spec),
            Ok(None) => {}
            Err(ReplicaError::Invalid(invalid)) => found.unsuitable.push((name, invalid.to_string())),
            Err(error) => return Err(error),
        }
    }
    found.suitable = TableSpec::parents_first(found.suitable);
    Ok(found)
}
