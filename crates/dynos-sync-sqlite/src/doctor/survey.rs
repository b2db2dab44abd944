//! What there is in a database, counted.

use std::{fs, path::Path};

use dynos_sync_core::doctor::{Depth, Survey};
use rusqlite::Connection;

use super::{known, open::beside};
use crate::{
    error::{Result, of_table, translate},
    header::versions,
    letters,
    raw::raws,
};

/// How many entries or letters are read at a time.
const PAGE: i64 = 1000;

/// Counts what there is of each synced table. What is damaged is told by the findings, and left out here.
pub(super) fn count(db: &Connection, depth: Depth, survey: &mut Survey) -> Result<()> {
    let (_, catalog) = known(db)?;
    for table in catalog.all() {
        let rows = match depth {
            Depth::Quick => None,
            Depth::Full => {
                let sql = format!("SELECT count(*) FROM {}", table.sql_name());
                let rows: i64 = db.query_row(&sql, [], |row| row.get(0)).map_err(of_table)?;
                Some(rows as u64)
            }
        };
        let noted = "SELECT count(*) FROM dynos_log WHERE tbl = ?";
        let noted: i64 = db.query_row(noted, [table.n], |row| row.get(0)).map_err(translate)?;
        let counted = survey.table(table.name());
        (counted.rows, counted.noted) = (rows, noted as u64);
    }
    let mut after = i64::MIN;
    loop {
        let page = raws(db, "WHERE counter > ? ORDER BY counter LIMIT ?", [after, PAGE])?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        let entries = page.into_iter().filter_map(|(_, raw)| raw.ok()?.check(&catalog).ok().flatten());
        entries.for_each(|entry| survey.entry(&entry));
    }
    letters::each(db, &catalog, |letter| {
        survey.letter(&letter);
        Ok(())
    })?;
    let sql = "SELECT tbl, error FROM dynos_quarantine";
    let mut statement = db.prepare(sql).map_err(translate)?;
    let mut rows = statement.query([]).map_err(translate)?;
    while let Some(row) = rows.next().map_err(translate)? {
        let read = || -> rusqlite::Result<(i64, String)> { Ok((row.get(0)?, row.get(1)?)) };
        let (n, error) = read().map_err(translate)?;
        if let Some(table) = catalog.numbered(n) {
            survey.quarantined(table.name(), &error);
        }
    }
    Ok(())
}

/// About the file. What cannot be read is left out.
pub(super) fn storage(db: &Connection, path: &Path, survey: &mut Survey) {
    let mut tell = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            survey.storage.insert(name, value);
        }
    };
    tell("sqlite", Some(rusqlite::version().to_owned()));
    for name in ["page_size", "page_count", "freelist_count", "auto_vacuum"] {
        let read = db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        tell(name, read.ok().map(|value| value.to_string()));
    }
    tell("tables_version", versions(db).ok().map(|(found, _)| found.to_string()));
    tell("wal_bytes", Some(wal_bytes(path).to_string()));
}

/// How long the journal is that lies beside the file.
pub(super) fn wal_bytes(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).map_or(0, |metadata| metadata.len())
}
