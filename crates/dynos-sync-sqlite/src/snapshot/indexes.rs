//! Whether indexes hold what their tables do, without looking each row up.
//!
//! `PRAGMA integrity_check` looks every row up in every index: at random, where keys are in no order, which takes longer than everything else
//! once an index is larger than the page cache. Here a table and its index are read once each, from end to end. They hold the same where
//! they give as many entries and the same sum of keyed digests, which cannot be aimed at without the key; and every row is found where the
//! index is in order.

use std::hash::{BuildHasher, RandomState};

use rusqlite::{Connection, Result, Row, types::ValueRef};

use crate::sql::{ident, idents};

/// What is wrong with an index of any table, if something is. The structure of the file is for SQLite to look through.
pub(super) fn fault(db: &Connection) -> Result<Option<String>> {
    let sql = "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name <> 'sqlite_schema'";
    let mut tables = db.prepare(sql)?;
    let mut tables = tables.query([])?;
    while let Some(row) = tables.next()? {
        let (table, without_rowid): (String, bool) = (row.get(0)?, row.get(1)?);
        let indexes = indexes(db, &table)?;
        let rowid =
            rowid(db, &table)?.filter(|_| !without_rowid && indexes.iter().all(|index| index.is_plain));
        let found = match rowid {
            Some(rowid) => compared(db, &table, rowid, &indexes)?,
            None => looked_up(db, &table)?,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// SQLite's own way.
fn looked_up(db: &Connection, table: &str) -> Result<Option<String>> {
    let sql = format!("PRAGMA integrity_check({})", ident(table));
    let found: String = db.query_row(&sql, [], |row| row.get(0))?;
    Ok((found != "ok").then_some(found))
}

struct Index {
    name: String,
    columns: Vec<String>,
    unique: bool,
    /// Whether it has every row, in the order of [`Entry`].
    is_plain: bool,
}

fn indexes(db: &Connection, table: &str) -> Result<Vec<Index>> {
    let mut listed = db.prepare("SELECT name, \"unique\", partial FROM pragma_index_list(?1)")?;
    let listed = listed.query_map([table], |row| {
        let (name, unique, partial): (String, bool, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let mut index = Index { name, columns: Vec::new(), unique, is_plain: !partial };
        let mut parts =
            db.prepare("SELECT name, desc OR coll <> 'BINARY' FROM pragma_index_xinfo(?1) WHERE key")?;
        let mut parts = parts.query([&index.name])?;
        while let Some(part) = parts.next()? {
            match part.get::<_, Option<String>>(0)? {
                Some(column) => index.columns.push(column),
                None => index.is_plain = false,
            }
            index.is_plain &= !part.get::<_, bool>(1)?;
        }
        Ok(index)
    })?;
    listed.collect()
}

/// The name by which a table's rowid can be asked for.
fn rowid(db: &Connection, table: &str) -> Result<Option<&'static str>> {
    let mut taken = db.prepare("SELECT 1 FROM pragma_table_xinfo(?1) WHERE name = ?2 COLLATE NOCASE")?;
    for name in ["rowid", "_rowid_", "oid"] {
        if !taken.exists([table, name])? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// As [`looked_up`], by reading the table and each of its indexes once.
fn compared(db: &Connection, table: &str, rowid: &str, indexes: &[Index]) -> Result<Option<String>> {
    let keyed = RandomState::new();
    for index in indexes {
        let select = format!("SELECT {}, {rowid} FROM main.{}", idents(&index.columns), ident(table));
        let rows = read(db, &format!("{select} NOT INDEXED"), &keyed, |_, _| true)?;
        // All that is asked for is in the index: nothing of it comes from the table.
        let named = ident(&index.name);
        let entries = read(db, &format!("{select} INDEXED BY {named}"), &keyed, |last, next| {
            next.follows(last, index.unique)
        })?;
        let fault = match (rows, entries) {
            (Content::Other, _) | (_, Content::Other) => return looked_up(db, table),
            (_, Content::Disordered) => "is not in order, or has a key twice",
            (rows, entries) if rows == entries => continue,
            _ => "does not hold what its table does",
        };
        return Ok(Some(format!("index {named} {fault}")));
    }
    Ok(None)
}

/// What a table or an index holds.
#[derive(PartialEq)]
enum Content {
    /// So many entries, and the sum of their digests.
    Entries { count: u64, sum: u64 },
    /// One that does not follow the last as it has to.
    Disordered,
    /// One that has no [`Entry`].
    Other,
}

fn read(
    db: &Connection,
    sql: &str,
    keyed: &RandomState,
    follows: impl Fn(&Entry, &Entry) -> bool,
) -> Result<Content> {
    let mut statement = db.prepare(sql)?;
    let columns = statement.column_count();
    let (mut count, mut sum) = (0, 0u64);
    let (mut last, mut next) = (Entry::default(), Entry::default());
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if !next.take(row, columns)? {
            return Ok(Content::Other);
        }
        if count > 0 && !follows(&last, &next) {
            return Ok(Content::Disordered);
        }
        sum = sum.wrapping_add(keyed.hash_one(&next.bytes));
        count += 1;
        std::mem::swap(&mut last, &mut next);
    }
    Ok(Content::Entries { count, sum })
}

/// A key and its rowid as bytes, which compare as SQLite compares them where no value is a real number: they would need more care, and
/// are seldom a key.
#[derive(Default)]
struct Entry {
    bytes: Vec<u8>,
    /// How many of the bytes are the key.
    key: usize,
    has_null: bool,
}

impl Entry {
    /// Answers whether it could be.
    fn take(&mut self, row: &Row<'_>, columns: usize) -> Result<bool> {
        self.bytes.clear();
        self.has_null = false;
        for column in 0..columns {
            self.key = self.bytes.len();
            match row.get_ref(column)? {
                ValueRef::Null => {
                    self.has_null = true;
                    self.bytes.push(0);
                }
                ValueRef::Integer(integer) => {
                    self.bytes.push(1);
                    self.bytes.extend((integer ^ i64::MIN).to_be_bytes());
                }
                ValueRef::Real(_) => return Ok(false),
                ValueRef::Text(text) => self.push(2, text),
                ValueRef::Blob(blob) => self.push(3, blob),
            }
        }
        Ok(true)
    }

    /// What is longer comes after its own beginning: the end is less than any byte.
    fn push(&mut self, kind: u8, bytes: &[u8]) {
        self.bytes.push(kind);
        for (n, part) in bytes.split(|byte| *byte == 0).enumerate() {
            if n > 0 {
                self.bytes.extend([0, 1]);
            }
            self.bytes.extend(part);
        }
        self.bytes.extend([0, 0]);
    }

    fn follows(&self, last: &Self, unique: bool) -> bool {
        let is_same = self.bytes[..self.key] == last.bytes[..last.key];
        // No null is the same as another.
        self.bytes > last.bytes && !(unique && is_same && !self.has_null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "CREATE TABLE t (a TEXT PRIMARY KEY, b INTEGER, c, UNIQUE (b, c));
        WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500)
        INSERT INTO t SELECT hex(n * 7919 % 1009), nullif(n % 10, 3), iif(n % 7, 'c' || n, zeroblob(n % 5) || n) FROM n";

    /// Puts the index of another table in the place of one of `t`'s.
    fn with_index_of(other: &str) -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(TABLE).unwrap();
        db.execute_batch(other).unwrap();
        db.execute_batch(
            "PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'other')
             WHERE name = 'sqlite_autoindex_t_1';
             PRAGMA writable_schema = RESET",
        )
        .unwrap();
        db
    }

    #[test]
    fn sound_indexes_are_passed_whatever_is_in_them() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(TABLE).unwrap();
        assert_eq!(fault(&db).unwrap(), None);
        // Values that sort next to each other, and those that only SQLite itself is asked about.
        db.execute_batch(
            "CREATE TABLE u (a, b, UNIQUE (a, b));
             INSERT INTO u VALUES (NULL, 1), (NULL, 1), (-1, ''), (0, ''), (1, x''), ('', ''), ('', x'00'), (x'00', x'0001'),
                 (x'0000', NULL), (x'00', NULL), ('a', 'b'), ('ab', ''), (char(0), ''), (char(0) || 'a', ''), (9223372036854775807, 1),
                 (-9223372036854775808, 1);
             CREATE TABLE real (a UNIQUE); INSERT INTO real VALUES (1.5), (2), (1), ('x');
             CREATE TABLE nocase (a TEXT COLLATE NOCASE UNIQUE); INSERT INTO nocase VALUES ('b'), ('A'), ('C');
             CREATE TABLE wr (a TEXT PRIMARY KEY, b UNIQUE) WITHOUT ROWID; INSERT INTO wr VALUES ('b', 1), ('a', 2);
             CREATE TABLE named (rowid TEXT, oid TEXT, _rowid_ TEXT UNIQUE); INSERT INTO named VALUES ('b', 1, 2)",
        )
        .unwrap();
        assert_eq!(fault(&db).unwrap(), None);
    }

    #[test]
    fn an_index_that_is_not_its_tables_is_found_out() {
        let twin = |rows: &str, index: &str| {
            let select = format!("INSERT INTO o (rowid, a) SELECT rowid, a FROM t {rows}");
            fault(&with_index_of(&format!("CREATE TABLE o (a TEXT); {select}; {index}"))).unwrap()
        };
        let same = "CREATE INDEX other ON o (a)";
        assert_eq!(twin("", same), None);
        let other = "does not hold what its table does";
        assert!(twin("WHERE rowid <> 250", same).unwrap().ends_with(other), "it lacks a row");
        assert!(twin("UNION ALL SELECT 600, 'more'", same).unwrap().ends_with(other), "it has another");
        let moved = "; UPDATE o SET a = 'other' WHERE rowid = 7";
        assert!(twin(moved, same).unwrap().ends_with(other), "it has another key");
        let renamed = "; UPDATE o SET rowid = 700 WHERE rowid = 7";
        assert!(twin(renamed, same).unwrap().ends_with(other), "it has another row");
        let order = "is not in order, or has a key twice";
        assert!(twin("", "CREATE INDEX other ON o (a DESC)").unwrap().ends_with(order));
        let twice = "; UPDATE o SET a = (SELECT a FROM o WHERE rowid = 8) WHERE rowid = 7";
        assert!(twin(twice, same).unwrap().ends_with(order), "it has a key twice");
    }
}
