//! What a device may be doing when it happens.

use dynos_sync_core::{
    Cursor, Edit, Entry, Fields, RecordKey, Replica, ReplicaError, Schema,
    conflict::StrategyName,
    fields, json,
    replica::{Batch, DueLimits, Op, Outcome, Phase, Resolved, Revert, TableOptions},
};
use dynos_sync_sim::disk::Disk;
use dynos_sync_sqlite::SqliteReplica;
use futures_executor::block_on;
use rusqlite::Connection;

use crate::trial::{DATABASE, open_earlier};

type Act = Box<dyn Fn(&Disk, &SqliteReplica) -> Result<(), ReplicaError>>;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) prepare: Box<dyn Fn(&Disk)>,
    pub(crate) act: Act,
    /// Whether there is no file before.
    pub(crate) makes_the_file: bool,
}

const SCHEMA: &str =
    "CREATE TABLE tasks (id TEXT PRIMARY KEY, a, b); CREATE TABLE notes (id TEXT PRIMARY KEY, a, b)";

fn key(id: &str) -> RecordKey {
    RecordKey::new("tasks", id).unwrap()
}

fn row(value: i64) -> Fields {
    fields([("a", json!(value)), ("b", json!(value))])
}

fn write_op(id: &str, edit: Edit) -> Op {
    Op::Write { key: key(id), edit, at: 10 }
}

fn commit(replica: &SqliteReplica, ops: Vec<Op>) -> Result<(), ReplicaError> {
    let batch = Batch { ops, ..Batch::default() };
    assert_ne!(block_on(replica.commit(batch))?, Outcome::Stale);
    Ok(())
}

fn table() -> dynos_sync_core::TableName {
    "tasks".parse().unwrap()
}

/// Two tables that are synced, three rows that the server has, and whatever else is done.
fn prepared(more: impl Fn(&SqliteReplica) + 'static) -> Box<dyn Fn(&Disk)> {
    Box::new(move |disk| {
        sql(disk, SCHEMA).unwrap();
        let replica = open_earlier(disk);
        for table in ["tasks", "notes"] {
            block_on(replica.add_table(TableOptions::new(table.parse().unwrap()))).unwrap();
        }
        let mut ops: Vec<Op> =
            ["1", "2", "3"].map(|id| Op::Store { key: key(id), record: Some(row(0)) }).into();
        ops.push(advance("one"));
        ops.push(Op::Complete { table: table(), at: 5, passed: None });
        commit(&replica, ops).unwrap();
        more(&replica);
        block_on(replica.close());
    })
}

fn advance(cursor: &str) -> Op {
    Op::Advance { table: table(), cursor: Cursor::new(cursor), seen: vec!["1".parse().unwrap()] }
}

fn sql(disk: &Disk, sql: &str) -> Result<(), ReplicaError> {
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => ReplicaError::Full,
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::FileLockingProtocolFailed) => {
            ReplicaError::Busy
        }
        Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen) => {
            ReplicaError::ReadOnly(error.to_string())
        }
        _ => ReplicaError::Storage { message: error.to_string(), source: None },
    };
    let db = Connection::open(disk.path(DATABASE)).map_err(failed)?;
    db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    let done = db.execute_batch(&format!("BEGIN; {sql}; COMMIT"));
    if done.is_err() && !db.is_autocommit() {
        let _ = db.execute_batch("ROLLBACK");
    }
    done.map_err(failed)
}

/// A scenario of one commit.
fn commits(name: &'static str, prepare: Box<dyn Fn(&Disk)>, ops: impl Fn() -> Vec<Op> + 'static) -> Scenario {
    acts(name, prepare, move |_, replica| commit(replica, ops()))
}

fn acts(
    name: &'static str,
    prepare: Box<dyn Fn(&Disk)>,
    act: impl Fn(&Disk, &SqliteReplica) -> Result<(), ReplicaError> + 'static,
) -> Scenario {
    Scenario { name, prepare, act: Box::new(act), makes_the_file: false }
}

fn nothing(_: &SqliteReplica) {}

pub(crate) fn due(replica: &SqliteReplica) -> Result<Vec<Entry>, ReplicaError> {
    let limits = DueLimits { now: 0, longest_wait: i64::MAX, records: 10, bytes: 1 << 20, under_way: 0 };
    Ok(block_on(replica.due(&limits))?.groups.into_iter().flatten().collect())
}

/// A pending edit of a record that the server has.
fn pending(replica: &SqliteReplica) {
    commit(replica, vec![write_op("1", Edit::Patch(fields([("a", json!(1))])))]).unwrap();
}

fn send(replica: &SqliteReplica) -> Result<(), ReplicaError> {
    let sent = |entry: Entry| Op::Freeze(Entry { sent: Some(dynos_sync_core::Sent { base: None }), ..entry });
    commit(replica, due(replica)?.into_iter().map(sent).collect())
}

/// An edit that was sent, and a newer one.
fn sent(replica: &SqliteReplica) {
    pending(replica);
    send(replica).unwrap();
    commit(replica, vec![write_op("1", Edit::Patch(fields([("b", json!(2))])))]).unwrap();
}

const COUNTER: u64 = 1;

fn buried() -> Op {
    let (code, message) = ("invalid".to_owned(), "no".to_owned());
    Op::Bury { key: key("1"), counter: COUNTER, code, message, at: 20, revert: Revert::To(Some(row(7))) }
}

fn resolved() -> Op {
    let conflict = Resolved {
        key: key("1"),
        base: Some(row(0)),
        mine: Some(row(1)),
        theirs: Some(row(2)),
        outcome: Some(row(1)),
        strategy: StrategyName::ClientWins,
        at: 15,
        decided_at: 15,
    };
    Op::Resolve { conflict: Box::new(conflict), edit: Some(Edit::Patch(row(1))) }
}

pub(crate) fn write() -> Scenario {
    commits("write", prepared(nothing), || vec![write_op("4", Edit::Upsert(row(4)))])
}

pub(crate) fn patch() -> Scenario {
    commits("patch", prepared(nothing), || vec![write_op("1", Edit::Patch(fields([("a", json!(9))])))])
}

pub(crate) fn remove() -> Scenario {
    commits("remove", prepared(nothing), || vec![write_op("1", Edit::Delete)])
}

pub(crate) fn write_many() -> Scenario {
    let ops = || (0..40).map(|n| write_op(&format!("m{n}"), Edit::Upsert(row(n)))).collect();
    commits("write_many", prepared(nothing), ops)
}

pub(crate) fn write_over_two_tables() -> Scenario {
    acts("write_over_two_tables", prepared(nothing), |_, replica| {
        block_on(replica.write_with(|db| {
            db.execute_batch("INSERT INTO tasks VALUES ('4', 1, 1); UPDATE tasks SET a = 5; INSERT INTO notes VALUES ('1', 1, 1)")
        }))
    })
}

pub(crate) fn enqueue() -> Scenario {
    commits("enqueue", prepared(nothing), || {
        vec![Op::Enqueue { key: key("1"), edit: Edit::Upsert(row(3)), at: 10 }]
    })
}

const PROGRAM: &str = "INSERT INTO tasks VALUES ('4', 1, 1); UPDATE tasks SET a = 5 WHERE id < '3'; DELETE FROM tasks WHERE id = '3'";

pub(crate) fn capture() -> Scenario {
    acts("capture", prepared(nothing), |disk, _| sql(disk, PROGRAM))
}

pub(crate) fn collect() -> Scenario {
    let prepare = prepared(nothing);
    let prepare = Box::new(move |disk: &Disk| {
        prepare(disk);
        sql(disk, PROGRAM).unwrap();
    });
    acts("collect", prepare, |_, replica| due(replica).map(drop))
}

/// The file is made by being opened.
pub(crate) fn open_anew() -> Scenario {
    let scenario = acts("open_anew", Box::new(|_| ()), |_, replica| block_on(replica.state()).map(drop));
    Scenario { makes_the_file: true, ..scenario }
}

/// What a file of version 4 has in place of what later ones have.
const VERSION_4: &str = "
    DROP INDEX dynos_queue_tag; ALTER TABLE dynos_queue DROP COLUMN tag; CREATE INDEX dynos_queue_record ON dynos_queue (tbl, id, counter);
    DROP INDEX dynos_dead_record; ALTER TABLE dynos_state DROP COLUMN schema; DROP TABLE dynos_sent_as;
    ALTER TABLE dynos_table DROP COLUMN left_out; ALTER TABLE dynos_table DROP COLUMN gained;
    DROP INDEX dynos_queue_txn; DROP VIEW dynos_transaction;
    ALTER TABLE dynos_queue DROP COLUMN txn; ALTER TABLE dynos_dead DROP COLUMN txn;
    DROP INDEX dynos_queue_later; DROP INDEX dynos_queue_retry;
    CREATE INDEX dynos_queue_ready   ON dynos_queue (counter)  WHERE head = 1 AND sent = 0 AND retry_at IS NULL;
    CREATE INDEX dynos_queue_waiting ON dynos_queue (retry_at) WHERE head = 1 AND retry_at IS NOT NULL;
    ALTER TABLE dynos_state DROP COLUMN fresh; UPDATE dynos_queue SET head = head > 0;
    UPDATE dynos_state SET pending = (SELECT count(*) FROM dynos_queue), last_counter = max(last_counter, (SELECT max(counter) FROM dynos_queue));";

/// The file is of the first version.
pub(crate) fn migrate() -> Scenario {
    let prepare = prepared(pending);
    let prepare = Box::new(move |disk: &Disk| {
        prepare(disk);
        let sealed = ["state", "table", "queue", "base", "dead", "conflict"];
        let older = sealed.map(|table| format!("ALTER TABLE dynos_{table} DROP COLUMN sum;")).concat();
        let added = ["seal", "last_sent"].map(|name| format!("ALTER TABLE dynos_state DROP COLUMN {name};"));
        let older = format!("{older} {} {VERSION_4} DROP TABLE dynos_former", added.concat());
        sql(disk, &format!("{older}; UPDATE dynos_state SET version = 1")).unwrap();
    });
    acts("migrate", prepare, |_, replica| commit(replica, vec![write_op("2", Edit::Delete)]))
}

pub(crate) fn adopt() -> Scenario {
    let prepare = |disk: &Disk| {
        let rows = "INSERT INTO tasks VALUES ('1', 1, 1), ('2', 2, 2), ('3', 3, 3)";
        sql(disk, &format!("{SCHEMA}; {rows}")).unwrap();
        block_on(open_earlier(disk).close());
    };
    acts("adopt", Box::new(prepare), |_, replica| {
        block_on(replica.add_table(TableOptions::new(table()))).map(drop)
    })
}

/// The application's next version: its tables and what waits move together.
pub(crate) fn upgrade() -> Scenario {
    acts("upgrade", prepared(pending), |_, replica| {
        let schema = Schema::version(1).step(1, |part| part.rename("a", "c"));
        let sql = "ALTER TABLE tasks RENAME COLUMN a TO c";
        block_on(replica.migrate(&schema, move |db, _| db.execute_batch(sql))).map(drop)
    })
}

pub(crate) fn remove_table() -> Scenario {
    acts("remove_table", prepared(pending), |_, replica| block_on(replica.remove_table(&table())).map(drop))
}

pub(crate) fn mark_sent() -> Scenario {
    acts("mark_sent", prepared(pending), |_, replica| send(replica))
}

pub(crate) fn settle() -> Scenario {
    commits("settle", prepared(sent), || {
        let settle = Op::Settle { key: key("1"), counter: COUNTER, record: Some(row(5)) };
        vec![settle, Op::Skip { table: table(), from: Cursor::new("one"), to: Cursor::new("two") }]
    })
}

pub(crate) fn postpone() -> Scenario {
    commits("postpone", prepared(sent), || {
        vec![Op::Postpone { key: key("1"), counter: COUNTER, retry_at: 1000 }]
    })
}

pub(crate) fn bury() -> Scenario {
    commits("bury", prepared(sent), || vec![buried()])
}

pub(crate) fn set_aside() -> Scenario {
    commits("set_aside", prepared(sent), || {
        let (fields, message) = (["b".to_owned()].into(), "no such column".to_owned());
        vec![Op::SetAside { key: key("1"), counter: COUNTER, fields, message, at: 20 }]
    })
}

fn with_letter(replica: &SqliteReplica) {
    sent(replica);
    commit(replica, vec![buried()]).unwrap();
}

pub(crate) fn revive() -> Scenario {
    acts("revive", prepared(with_letter), |_, replica| {
        let letters = block_on(replica.dead_letters(0, 10))?;
        commit(replica, letters.iter().map(|letter| Op::Revive { letter: letter.id, at: 30 }).collect())
    })
}

pub(crate) fn discard() -> Scenario {
    acts("discard", prepared(with_letter), |_, replica| {
        let letters = block_on(replica.dead_letters(0, 10))?;
        commit(replica, letters.iter().map(|letter| Op::Discard { letter: letter.id }).collect())
    })
}

pub(crate) fn apply_page() -> Scenario {
    commits("apply_page", prepared(pending), || {
        let mut ops: Vec<Op> =
            (0..30).map(|n| Op::Store { key: key(&format!("p{n}")), record: Some(row(n)) }).collect();
        ops.push(Op::Store { key: key("2"), record: None });
        ops.extend([advance("two"), Op::Complete { table: table(), at: 9, passed: None }]);
        ops
    })
}

pub(crate) fn resolve_conflict() -> Scenario {
    commits("resolve_conflict", prepared(sent), || vec![resolved(), advance("two")])
}

pub(crate) fn undo_conflict() -> Scenario {
    let decided = |replica: &SqliteReplica| {
        sent(replica);
        commit(replica, vec![resolved(), advance("two")]).unwrap();
    };
    commits("undo_conflict", prepared(decided), || {
        vec![write_op("1", Edit::Replace(row(2))), Op::Forget { conflict: 1 }]
    })
}

fn restarted(phase: Phase) -> Op {
    Op::Restart { table: table(), phase, ahead: Some(Cursor::new("head")) }
}

pub(crate) fn restart() -> Scenario {
    commits("restart", prepared(sent), || vec![restarted(Phase::Resync)])
}

/// Rows that the server did not mention go, or are offered again.
fn ends(name: &'static str, phase: Phase) -> Scenario {
    let walked = move |replica: &SqliteReplica| {
        pending(replica);
        commit(replica, vec![restarted(phase)]).unwrap();
    };
    commits(name, prepared(walked), || {
        vec![advance("two"), Op::Complete { table: table(), at: 9, passed: Some(Cursor::new("head")) }]
    })
}

pub(crate) fn end_resync() -> Scenario {
    ends("end_resync", Phase::Resync)
}

pub(crate) fn end_restore() -> Scenario {
    ends("end_restore", Phase::Restore { common: 1, own: None })
}

pub(crate) fn rename() -> Scenario {
    commits("rename", prepared(sent), || vec![Op::Rename])
}

pub(crate) fn logout() -> Scenario {
    acts("logout", prepared(sent), |_, replica| block_on(replica.logout(true)).map(drop))
}
