//! Devices' databases to be damaged, without making one for each input.
//!
//! Most inputs meet a database that stays open: its rows are put back, and what opening does is done again. Some meet one in a
//! new file, which is opened and goes through everything that changes its schema.

use std::{fs, path::PathBuf};

use dynos_sync_core::{
    Edit, RecordKey, Replica as _,
    conflict::StrategyName,
    fields,
    replica::{Batch, Op, Outcome, Resolved, Revert, TableOptions},
};
use dynos_sync_sqlite::{Random, SqliteOptions, SqliteReplica, Threads};
use futures_executor::block_on;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{damage::Damage, name};
use crate::script;

/// A sound database, and copies of it to be damaged.
pub(super) struct Shelf {
    sound: Vec<u8>,
    folder: TempDir,
    open: Option<OpenDevice>,
}

impl Shelf {
    pub(super) fn new() -> Self {
        let folder = script::folder();
        let path = folder.path().join("sound.db");
        let program = Connection::open(&path).expect("a database");
        program
            .execute_batch("CREATE TABLE c (id INTEGER PRIMARY KEY, body TEXT, num REAL)")
            .expect("a table");
        let replica = SqliteReplica::open(&path, &options()).expect("a replica");
        block_on(fill(&replica));
        program.execute_batch("INSERT INTO c VALUES (3, 'noted', 0)").expect("a row");
        program.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE").ok();
        block_on(replica.close());
        drop((program, replica));
        let program = Connection::open(&path).expect("a database");
        program.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).expect("one file");
        drop(program);
        let sound = fs::read(&path).expect("the database");
        Self { sound, folder, open: None }
    }

    /// A path at which the sound database lies.
    fn copy(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        for beside in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{beside}", path.display()));
        }
        fs::write(&path, &self.sound).expect("a copy");
        path
    }

    /// A file with what the input says, to be opened.
    pub(super) fn file(&self, lines: &[&str]) -> (PathBuf, Damage) {
        let path = self.copy("damaged.db");
        let db = Connection::open(&path).expect("the copy");
        db.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY").expect("settings");
        let damage = Damage::of(&db, lines);
        (path, damage)
    }

    /// The device that stays open, as it was before any input.
    pub(super) fn device(&mut self) -> &mut OpenDevice {
        if self.open.as_ref().is_some_and(|open| open.schema() != open.sound_schema) {
            self.open = None;
        }
        let (path, sound) = (self.folder.path().join("open.db"), self.folder.path().join("sound.db"));
        if self.open.is_none() {
            self.copy("open.db");
        }
        self.open.get_or_insert_with(|| OpenDevice::new(path, &sound.display().to_string()))
    }
}

/// A database that stays open, and the program that damages it and puts it back.
pub(super) struct OpenDevice {
    pub(super) replica: SqliteReplica,
    program: Connection,
    tables: Vec<String>,
    sound_schema: i64,
    /// Whether what the replica knows of its tables may be of a damaged one.
    afresh: bool,
}

impl OpenDevice {
    fn new(path: PathBuf, sound: &str) -> Self {
        let replica = SqliteReplica::open(&path, &options()).expect("a replica");
        let program = Connection::open(&path).expect("the copy");
        program.set_prepared_statement_cache_capacity(256);
        program.execute_batch("PRAGMA synchronous = OFF").expect("a setting");
        program.execute("ATTACH ? AS sound", [sound]).expect("the sound database");
        // The memory is quicker to read from than a file that might have changed.
        program.execute_batch("ATTACH ':memory:' AS kept").expect("memory");
        let tables = tables(&program);
        for table in &tables {
            let copy = format!("CREATE TABLE kept.\"kept {table}\" AS SELECT * FROM sound.{table}");
            program.execute_batch(&copy).expect("a table of rows");
        }
        program.execute_batch("DETACH sound").expect("the sound database");
        let sound_schema = schema(&program);
        Self { replica, program, tables, sound_schema, afresh: true }
    }

    fn schema(&self) -> i64 {
        schema(&self.program)
    }

    /// Puts every row back, does what the input says, and lets the replica begin again with what is there then.
    ///
    /// # Errors
    /// As opening the database would answer.
    pub(super) fn begin(&mut self, lines: &[&str]) -> Result<Damage, dynos_sync_core::ReplicaError> {
        self.run("BEGIN IMMEDIATE");
        // The log is last: the rows of the application's tables are noted in it.
        for table in &self.tables {
            self.run(&format!("DELETE FROM main.{table}"));
            self.run(&format!("INSERT INTO main.{table} SELECT * FROM kept.\"kept {table}\""));
        }
        let damage = Damage::of(&self.program, lines);
        self.run("COMMIT");
        let afresh = std::mem::replace(&mut self.afresh, damage.tables) || damage.tables;
        block_on(self.replica.begin_again("another file", afresh))?;
        Ok(damage)
    }

    fn run(&self, sql: &str) {
        let done = self.program.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        done.expect("the program's SQL");
    }
}

/// The tables, the log last.
fn tables(db: &Connection) -> Vec<String> {
    let sql = "SELECT name FROM sound.sqlite_schema WHERE type = 'table' ORDER BY name = 'dynos_log', name";
    let mut statement = db.prepare(sql).expect("a query");
    let names = statement.query_map([], |row| row.get(0)).expect("names");
    names.collect::<Result<_, _>>().expect("names")
}

fn schema(db: &Connection) -> i64 {
    let mut statement = db.prepare_cached("PRAGMA main.schema_version").expect("a query");
    statement.query_row([], |row| row.get(0)).expect("a version")
}

pub(super) fn options() -> SqliteOptions {
    SqliteOptions { threads: Threads::Caller, random: Random::new(|| [7; 16]), ..SqliteOptions::default() }
}

/// A bit of everything: edits that are new, sent and waiting, a dead letter, a conflict.
async fn fill(replica: &SqliteReplica) {
    for table in ["d", "c"] {
        replica.add_table(TableOptions::new(name(table))).await.expect("a table");
    }
    let key = |table, id| RecordKey::new(table, id).expect("a key");
    let write = |table, id, edit| Op::Write { key: key(table, id), edit, at: 5 };
    let document =
        |n: i64| Edit::Upsert(fields([("n", n.into()), ("deep", dynos_sync_core::json!({"a": [1]}))]));
    commit(replica, vec![Op::Store { key: key("d", "y"), record: document(0).fields().cloned() }]).await;
    let row = Edit::Upsert(fields([("body", "text".into()), ("num", 0.5.into())]));
    commit(replica, vec![write("d", "x", document(1)), write("d", "y", document(2))]).await;
    commit(replica, vec![write("c", "1", row.clone()), write("c", "2", row), write("d", "z", document(3))])
        .await;
    let mut sent = replica.queue(0, 1).await.expect("the queue").remove(0);
    sent.sent = Some(dynos_sync_core::Sent { base: None });
    commit(replica, vec![Op::Freeze(sent)]).await;
    commit(replica, vec![Op::Postpone { key: key("c", "1"), counter: 3, retry_at: 1 << 50 }]).await;
    let bury = Op::Bury {
        key: key("d", "z"),
        counter: 5,
        code: "forbidden".to_owned(),
        message: "no".to_owned(),
        at: 7,
        revert: Revert::ToBase,
    };
    commit(replica, vec![bury]).await;
    let conflict = Resolved {
        key: key("c", "2"),
        base: None,
        mine: document(1).fields().cloned(),
        theirs: None,
        outcome: None,
        strategy: StrategyName::Merge,
        at: 8,
        decided_at: 9,
    };
    commit(replica, vec![Op::Resolve { conflict: Box::new(conflict), edit: None }]).await;
}

async fn commit(replica: &SqliteReplica, ops: Vec<Op>) {
    let outcome = replica.commit(Batch { ops, ..Batch::default() }).await.expect("a commit");
    assert!(matches!(outcome, Outcome::Committed(_)));
}
