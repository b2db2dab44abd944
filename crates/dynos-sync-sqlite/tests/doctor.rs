//! Looking at a database: everything is seen, and nothing is touched.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod edits;

use std::{collections::BTreeMap, fs, path::PathBuf};

use dynos_sync_core::{
    Replica, ReplicaError,
    doctor::{Account, Depth, Inspection, Level, Noted},
    replica::{Existing, Revert, TableOptions},
};
use dynos_sync_sqlite::{
    SqliteOptions, SqliteReplica,
    doctor::{Examiner, Tables},
};
use edits::{bury, commit, key, resolve, upsert};
use futures_executor::block_on;
use rusqlite::Connection;
use tempfile::TempDir;

struct Device {
    dir: TempDir,
}

impl Device {
    /// A closed database with two edits in the queue, a dead letter, and a conflict.
    fn new() -> Self {
        let device = Self { dir: tempfile::tempdir().unwrap() };
        device.sql(
            "CREATE TABLE t (id TEXT PRIMARY KEY, v); CREATE TABLE c (id TEXT PRIMARY KEY, t REFERENCES t);
             INSERT INTO t VALUES ('old', 'before')",
        );
        let replica = device.open();
        let add = |table: &str| TableOptions {
            existing: Existing::Ignore,
            ..TableOptions::new(table.parse().unwrap())
        };
        block_on(replica.add_table(add("t"))).unwrap();
        block_on(replica.add_table(add("c"))).unwrap();
        bury(&replica, "given-up", Revert::Keep);
        resolve(&replica, "old");
        commit(&replica, vec![upsert("old"), upsert("new")]).unwrap();
        block_on(replica.close());
        device
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("app ?#%.sqlite")
    }

    fn open(&self) -> SqliteReplica {
        SqliteReplica::open(self.path(), &SqliteOptions::default()).unwrap()
    }

    fn sql(&self, statements: &str) {
        Connection::open(self.path()).unwrap().execute_batch(statements).unwrap();
    }

    fn examiner(&self) -> Examiner {
        Examiner::open(self.path()).unwrap()
    }

    fn inspect(&self) -> Inspection {
        self.examiner().inspect(Depth::Full)
    }

    /// All files, to the byte.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }
}

/// What was found, as words.
fn found(inspection: &Inspection) -> Vec<(Level, &str)> {
    inspection.findings.iter().map(|finding| (finding.level, finding.check)).collect()
}

#[test]
fn nothing_is_written_and_no_file_is_made() {
    let device = Device::new();
    // A copy of a file is adopted where it is opened to sync: not by looking.
    let files = device.files();
    assert_eq!(files.len(), 1, "{:?}", files.keys());
    let mut examiner = device.examiner();
    assert_eq!(examiner.tables().unwrap(), Tables::Current);
    assert_eq!(examiner.state().unwrap().pending, 2);
    examiner.account(&key("old")).unwrap();
    for depth in [Depth::Quick, Depth::Full] {
        let inspection = examiner.inspect(depth);
        assert_eq!(found(&inspection), [], "{inspection:?}");
    }
    drop(examiner);
    assert!(device.files() == files);
}

#[test]
fn an_examiner_tells_what_a_replica_tells() {
    let device = Device::new();
    let mut examiner = device.examiner();
    let records = ["old", "new", "given-up", "none"];
    let seen: Vec<Account> = records.iter().map(|id| examiner.account(&key(id)).unwrap()).collect();
    let (state, inspection) = (examiner.state().unwrap(), examiner.inspect(Depth::Full));
    let replica = device.open();
    assert_eq!(state, block_on(replica.state()).unwrap());
    for account in seen {
        assert_eq!(account, block_on(replica.account(&account.key)).unwrap());
    }
    let survey = block_on(replica.inspect(Depth::Full)).unwrap().survey;
    assert_eq!(inspection.survey.tables, survey.tables);
    let t = &survey.tables[&"t".parse().unwrap()];
    assert_eq!((t.rows, t.queued.values().sum::<u64>()), (Some(3), 2));
    block_on(replica.close());
}

#[test]
fn what_another_program_has_open_is_seen_as_it_is() {
    let device = Device::new();
    let replica = device.open();
    commit(&replica, vec![upsert("in the journal")]).unwrap();
    let program = Connection::open(device.path()).unwrap();
    program.execute_batch("BEGIN IMMEDIATE; DELETE FROM t").unwrap();
    let mut examiner = device.examiner();
    assert_eq!(examiner.account(&key("in the journal")).unwrap().entries.len(), 1);
    assert_eq!(found(&examiner.inspect(Depth::Full)), []);
    program
        .execute_batch(
            "ROLLBACK; UPDATE t SET v = 'x' WHERE id = 'old'; UPDATE t SET v = 'y' WHERE id = 'old'",
        )
        .unwrap();

    // What the program has changed is told, and left for the next sync to collect.
    let Noted { changes, at } = examiner.account(&key("old")).unwrap().noted.unwrap();
    assert!(at > 10);
    let none = examiner.account(&key("in the journal")).unwrap();
    assert_eq!((changes >= 2, none.noted), (true, None));
    assert_eq!(block_on(replica.account(&key("old"))).unwrap().noted, Some(Noted { changes, at }));
    block_on(replica.close());
}

#[test]
fn who_opens_the_file_while_it_is_looked_at_is_seen() {
    let device = Device::new();
    let mut examiner = device.examiner();
    assert_eq!(examiner.state().unwrap().pending, 2);
    let replica = device.open();
    commit(&replica, vec![upsert("later")]).unwrap();
    assert_eq!(examiner.state().unwrap().pending, 3);
    assert_eq!(found(&examiner.inspect(Depth::Full)), []);
    block_on(replica.close());
}

#[test]
fn what_is_damaged_is_found_and_stays_as_it_is() {
    for (damage, level, check) in [
        ("UPDATE dynos_queue SET data = replace(data, 'edit', 'exit')", Level::Fault, "queue"),
        (
            "DELETE FROM dynos_queue WHERE counter = (SELECT min(counter) FROM dynos_queue)",
            Level::Fault,
            "queue",
        ),
        ("UPDATE dynos_queue SET head = 0", Level::Fault, "queue"),
        ("UPDATE dynos_base SET data = '{}'", Level::Fault, "bases"),
        ("UPDATE dynos_dead SET edits = '[]'", Level::Fault, "dead_letters"),
        ("UPDATE dynos_conflict SET resolved = '{}'", Level::Fault, "conflicts"),
        ("UPDATE dynos_state SET last_counter = 77", Level::Fault, "state"),
        ("UPDATE dynos_table SET cursor = '7'", Level::Fault, "tables"),
        ("DROP TABLE dynos_dead", Level::Fault, "dead_letters"),
        ("DROP TABLE c", Level::Warning, "tables"),
        ("ALTER TABLE c ADD COLUMN more", Level::Note, "tables"),
        ("INSERT INTO c VALUES ('1', 'nobody')", Level::Warning, "foreign_keys"),
        ("UPDATE dynos_state SET version = 1000", Level::Fault, "version"),
        ("UPDATE dynos_state SET version = 3", Level::Note, "version"),
    ] {
        let device = Device::new();
        device.sql(&format!("PRAGMA foreign_keys = 0; {damage}"));
        let files = device.files();
        let inspection = device.inspect();
        assert!(found(&inspection).contains(&(level, check)), "{damage}: {inspection:?}");
        assert!(inspection.findings.iter().all(|finding| !finding.remedy.is_empty()));
        assert!(device.files() == files, "{damage}");
    }
}

#[test]
fn a_trigger_that_is_gone_is_found_with_its_table() {
    let device = Device::new();
    device.sql("DROP TRIGGER dynos_1_update");
    let inspection = device.inspect();
    assert_eq!(found(&inspection), [(Level::Warning, "tables")], "{inspection:?}");
    assert_eq!(inspection.findings[0].table, Some("t".parse().unwrap()));
}

#[test]
fn a_damaged_edit_is_counted_in_its_records_account() {
    let device = Device::new();
    device.sql("UPDATE dynos_queue SET at = at + 1 WHERE id = 'old'");
    let account = device.examiner().account(&key("old")).unwrap();
    assert_eq!((account.damaged, account.entries.len()), (1, 0));
    assert_eq!(device.examiner().account(&key("new")).unwrap().damaged, 0);
}

#[test]
fn damaged_pages_are_findings_and_no_failures() {
    let device = Device::new();
    let sound = fs::read(device.path()).unwrap();
    let page = 4096;
    for number in 1..sound.len() / page {
        let mut bytes = sound.clone();
        bytes[number * page..][..page].fill(0x5a);
        fs::write(device.path(), &bytes).unwrap();
        let Ok(mut examiner) = Examiner::open(device.path()) else { continue };
        let inspection = examiner.inspect(Depth::Full);
        assert_eq!(inspection.worst(), Some(Level::Fault), "page {number}: {inspection:?}");
        // Answered one way or the other.
        let _ = (examiner.state(), examiner.account(&key("old")));
    }
}

#[test]
fn what_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, [0x5a; 8192]).unwrap();
    assert!(matches!(Examiner::open(&path), Err(ReplicaError::Corrupt(_))));
    assert!(matches!(Examiner::open(dir.path().join("none")), Err(ReplicaError::ReadOnly(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_database_that_syncs_nothing_is_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plain");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (id)").unwrap();
    let mut examiner = Examiner::open(&path).unwrap();
    assert_eq!(examiner.tables().unwrap(), Tables::Missing);
    assert_eq!(found(&examiner.inspect(Depth::Full)), [(Level::Note, "version")]);
    assert!(matches!(examiner.state(), Err(ReplicaError::Storage { .. })));
}
