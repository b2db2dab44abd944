//! What is wrong with a database. Each check looks at one thing; one that cannot be carried out is a finding itself.

use std::{collections::BTreeMap, path::Path};

use dynos_sync_core::{
    ReplicaError, TableName,
    doctor::{Depth, Finding, Level},
};
use rusqlite::Connection;

use super::{Tables, survey::wal_bytes, tables};
use crate::{
    capture,
    describe::describe,
    error::{Result, of_table, of_theirs, translate},
    header::Header,
    letters,
    listing::{self, Listed},
    queue,
    raw::raws,
    replica::file_identity,
    table::{Catalog, Table},
};

type Findings = Result<Vec<Finding>>;
type Check = fn(&Connection, &Header) -> Findings;

pub(super) fn findings(db: &Connection, path: &Path, depth: Depth) -> Vec<Finding> {
    let mut found = told("pages", pages(db, depth));
    let schema = tables(db);
    let is_current = matches!(schema, Ok(Tables::Current));
    found.extend(told("version", schema.map(version)));
    if is_current {
        found.extend(of_ours(db, path));
    }
    found.extend(told("foreign_keys", foreign_keys(db)));
    found.extend(journal(path));
    found
}

/// What is wrong with the engine's tables. Where the header cannot be read, nothing else of them can.
fn of_ours(db: &Connection, path: &Path) -> Vec<Finding> {
    let checks: [(&str, Check); 6] = [
        ("state", state),
        ("tables", synced_tables),
        ("queue", queued),
        ("bases", bases),
        ("dead_letters", dead_letters),
        ("conflicts", conflicts),
    ];
    let header = match Header::read(db) {
        Ok(header) => header,
        Err(error) => return told("state", Err(error)),
    };
    let found = checks.into_iter().flat_map(|(check, look)| told(check, look(db, &header)));
    found.chain(copy(&header, path)).collect()
}

/// What was found, or why nothing could be.
fn told(check: &'static str, findings: Findings) -> Vec<Finding> {
    let failed = |error: ReplicaError| match error {
        ReplicaError::Busy => {
            let problem = "another program holds the database";
            vec![Finding::new(
                Level::Warning,
                check,
                problem,
                "end that program's transaction, and look again",
            )]
        }
        error => vec![Finding::new(Level::Fault, check, error.to_string(), PUT_BACK)],
    };
    findings.unwrap_or_else(failed)
}

const PUT_BACK: &str = "copy the file with all that lies beside it, put back a sound copy, or begin anew from the server: what was not pushed is only here";

/// Whether pages, values and indexes are as SQLite wants them.
fn pages(db: &Connection, depth: Depth) -> Findings {
    const MOST: usize = 20;
    let sql = match depth {
        Depth::Quick => "PRAGMA quick_check",
        Depth::Full => "PRAGMA integrity_check",
    };
    let mut statement = db.prepare(&format!("{sql}({MOST})")).map_err(of_theirs)?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0)).map_err(of_theirs)?;
    let lines: Vec<String> = lines.collect::<rusqlite::Result<_>>().map_err(of_theirs)?;
    Ok(lines.into_iter().filter(|line| line != "ok").map(page_fault).collect())
}

fn page_fault(line: String) -> Finding {
    let about_index =
        line.starts_with("wrong # of entries in index ") || line.contains(" missing from index ");
    let remedy = match about_index {
        true if line.contains(" dynos_queue_") => "sync: the index is made anew when the database is opened",
        true => "make the index anew with SQLite's REINDEX; no row is lost",
        false => PUT_BACK,
    };
    Finding::new(Level::Fault, "pages", line, remedy)
}

fn version(tables: Tables) -> Vec<Finding> {
    let (level, problem, remedy) = match tables {
        Tables::Current => return Vec::new(),
        Tables::Missing => (Level::Note, "no table of the database is synced", "choose tables to sync"),
        Tables::Older => {
            let problem = "an earlier version of dynos-sync has made the engine's tables";
            (Level::Note, problem, "sync: they are brought up to date when the database is opened")
        }
        Tables::Newer => {
            let problem = "a newer version of dynos-sync has made the engine's tables";
            (Level::Fault, problem, "use that version; nothing is wrong with the file")
        }
    };
    vec![Finding::new(level, "version", problem, remedy)]
}

/// The replica's identity and numbers.
fn state(_: &Connection, header: &Header) -> Findings {
    if !header.scrub {
        return Ok(Vec::new());
    }
    let problem =
        "after a logout the file could not be scrubbed: pages of it may hold what the last user deleted";
    Ok(vec![Finding::new(
        Level::Warning,
        "state",
        problem,
        "end other programs that read the file, and open it",
    )])
}

/// Whether the file has been copied from another one.
fn copy(header: &Header, path: &Path) -> Option<Finding> {
    let (known, found) = (header.file.as_ref()?, file_identity(path)?);
    let problem = "the file is a copy of the one that was synced last";
    let remedy = "nothing: it takes an identity of its own when it is opened";
    (*known != found).then(|| Finding::new(Level::Note, "copy", problem, remedy))
}

/// Whether each synced table is there, as it was, and noted by its triggers.
fn synced_tables(db: &Connection, header: &Header) -> Findings {
    let mut found = Vec::new();
    for listed in listing::all(db, header.seal)? {
        found.extend(synced_table(db, &listed)?);
    }
    Ok(found)
}

fn synced_table(db: &Connection, listed: &Listed) -> Result<Option<Finding>> {
    let unreadable = |what: &str| ReplicaError::Corrupt(format!("dynos_table.{what}"));
    let name: TableName = listed.name.parse()?;
    let policy = serde_json::from_str(&listed.policy).map_err(|_| unreadable("policy"))?;
    let captured = serde_json::from_str(&listed.captured).map_err(|_| unreadable("captured"))?;
    let warning =
        |problem: String, remedy| Ok(Some(Finding::new(Level::Warning, "tables", problem, remedy).of(&name)));
    let description = match describe(db, &name) {
        Ok(Some(description)) => description,
        Ok(None) => {
            let problem = "it is not in the database any more; what is queued of it waits".to_owned();
            return warning(problem, "put the table back, or end its syncing");
        }
        Err(ReplicaError::Invalid(invalid)) => {
            return warning(invalid.problem, "put it right, or end its syncing");
        }
        Err(error) => return Err(error),
    };
    let table = Table::new(listed.n, description, policy, captured);
    if !capture::installed(db, &table)? && !table.outdated {
        let problem =
            "its triggers are not as they were made: what other programs write to it is not noted".to_owned();
        let remedy = "sync: they are put back; then write what was changed meanwhile once more";
        return warning(problem, remedy);
    }
    if table.outdated {
        let problem = "its columns have changed since its triggers were made";
        return Ok(Some(Finding::new(Level::Note, "tables", problem, "sync: they are made anew").of(&name)));
    }
    Ok(None)
}

/// How many entries are read at a time.
const PAGE: i64 = 1000;

/// Whether the queue is what was put into it, as far as that shows.
fn queued(db: &Connection, header: &Header) -> Findings {
    let (mut count, mut damaged, mut after) = (0, 0, i64::MIN);
    loop {
        let page = raws(db, "NOT INDEXED WHERE counter > ? ORDER BY counter LIMIT ?", [after, PAGE])?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        count += page.len() as i64;
        let intact = |raw: &Result<crate::raw::Raw>| raw.as_ref().is_ok_and(|raw| raw.is_intact(header.seal));
        damaged += page.iter().filter(|(_, raw)| !intact(raw)).count();
    }
    let mut found = Vec::new();
    if damaged > 0 {
        let problem = format!("{damaged} queued edits are not as they were written");
        let remedy = "sync: what can be read of them goes to the dead letters; write those records again";
        found.push(Finding::new(Level::Fault, "queue", problem, remedy));
    }
    if count != header.pending {
        let problem = format!("{count} edits are queued, and there should be {}", header.pending);
        let remedy = "sync: the queue is compared with its indexes when the database is opened";
        found.push(Finding::new(Level::Fault, "queue", problem, remedy));
    }
    let lost = "SELECT count(*) FROM dynos_queue AS q WHERE (head IN (1, 2) OR (head = 3 AND txn IS NOT NULL)) IS NOT \
                (counter = (SELECT min(o.counter) FROM dynos_queue AS o WHERE o.tag = q.tag AND o.tbl = q.tbl AND o.id = q.id)) \
                OR (counter < ? AND head = 1 AND sent = 0 AND retry_at IS NULL)";
    let lost: i64 = db.query_row(lost, [header.fresh as i64], |row| row.get(0)).map_err(translate)?;
    if lost > 0 {
        let problem = format!("{lost} queued edits are not in their record's order, and would not be sent");
        found.push(Finding::new(Level::Fault, "queue", problem, PUT_BACK));
    }
    Ok(found)
}

fn bases(db: &Connection, header: &Header) -> Findings {
    let mut statement = db.prepare("SELECT tbl, id FROM dynos_base").map_err(translate)?;
    let mut rows = statement.query([]).map_err(translate)?;
    let mut damaged = 0;
    while let Some(row) = rows.next().map_err(translate)? {
        let read = || -> rusqlite::Result<(i64, String)> { Ok((row.get(0)?, row.get(1)?)) };
        let is_sound = read().map_err(translate).and_then(|(n, id)| queue::base(db, header.seal, n, &id));
        damaged += u64::from(is_sound.is_err());
    }
    if damaged == 0 {
        return Ok(Vec::new());
    }
    let problem = format!("of {damaged} records, what they were before their pending edits cannot be read");
    let remedy = "sync: their edits go to the dead letters, where they can be taken up again";
    Ok(vec![Finding::new(Level::Fault, "bases", problem, remedy)])
}

fn dead_letters(db: &Connection, header: &Header) -> Findings {
    let catalog = Catalog::read(db, header.seal, (0, 0))?;
    let mut damaged = 0;
    letters::each(db, &catalog, |letter| {
        damaged += u64::from(letter.edits.is_empty());
        Ok(())
    })?;
    if damaged == 0 {
        return Ok(Vec::new());
    }
    let problem = format!("of {damaged} dead letters, no edit can be read any more");
    let remedy = "write those records again, and discard the letters";
    Ok(vec![Finding::new(Level::Fault, "dead_letters", problem, remedy)])
}

fn conflicts(db: &Connection, header: &Header) -> Findings {
    let (mut damaged, mut before) = (0, i64::MAX);
    loop {
        let page = letters::conflicts(db, header.seal, before, PAGE as usize)?;
        let Some(last) = page.last() else { break };
        before = last.id;
        damaged += page.iter().filter(|journaled| journaled.resolved.is_none()).count();
    }
    if damaged == 0 {
        return Ok(Vec::new());
    }
    let problem = format!("{damaged} entries of the conflict journal cannot be read any more");
    Ok(vec![Finding::new(
        Level::Fault,
        "conflicts",
        problem,
        "discard them: what was decided holds all the same",
    )])
}

/// Rows whose parents are not here. Devices do not enforce foreign keys between each other.
fn foreign_keys(db: &Connection) -> Findings {
    let mut statement = db.prepare("PRAGMA foreign_key_check").map_err(of_table)?;
    let mut rows = match statement.query([]) {
        Ok(rows) => rows,
        Err(error) => return Err(of_table(error)),
    };
    let mut dangling: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        match rows.next() {
            Ok(Some(row)) => *dangling.entry(row.get(0).map_err(of_table)?).or_default() += 1,
            Ok(None) => break,
            // The application's declarations do not fit each other: SQLite cannot tell.
            Err(error) if error.to_string().contains("foreign key mismatch") => {
                let remedy = "correct the foreign key's declaration";
                return Ok(vec![Finding::new(Level::Warning, "foreign_keys", error.to_string(), remedy)]);
            }
            Err(error) => return Err(of_table(error)),
        }
    }
    let finding = |(table, count): (String, u64)| {
        let problem = format!("rows of {table} that refer to rows that are not here: {count}");
        let remedy = "write the parents again, or delete the children: both sides' edits have survived";
        let finding = Finding::new(Level::Warning, "foreign_keys", problem, remedy);
        match table.parse::<TableName>() {
            Ok(name) => finding.of(&name),
            Err(_) => finding,
        }
    };
    Ok(dangling.into_iter().map(finding).collect())
}

/// A journal that is longer than anybody writes who checkpoints.
fn journal(path: &Path) -> Option<Finding> {
    const LONG: u64 = 64 * 1024 * 1024;
    let bytes = wal_bytes(path);
    let problem = format!("the journal beside the file has {} MiB", bytes / 1024 / 1024);
    let remedy = "end transactions that have been open for long: while one reads, the journal cannot be moved into the file";
    (bytes > LONG).then(|| Finding::new(Level::Warning, "journal", problem, remedy))
}
