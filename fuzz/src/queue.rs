//! A device's database whose own tables hold something else than was written there: a bad disk, or another program.
//!
//! An input is what is found in which place, one a line: a letter for the place (see [`PLACES`]) and the text.

use std::{cell::RefCell, fs, path::PathBuf};

use dynos_sync_core::{
    Edit, RecordKey, Replica, ReplicaError, TableName,
    conflict::StrategyName,
    fields,
    replica::{Batch, DueLimits, Op, Outcome, Resolved, Revert, TableOptions},
};
use dynos_sync_sqlite::{Random, SqliteOptions, SqliteReplica, Threads};
use futures_executor::block_on;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::script;

/// Where something else can be found: a table's column, and in which rows.
const PLACES: [(u8, &str, &str, &str); 22] = [
    (b'a', "dynos_queue", "data", "counter = 1"),
    (b'b', "dynos_queue", "data", "counter = 2"),
    (b'c', "dynos_queue", "data", "counter > 2"),
    (b'd', "dynos_queue", "id", "counter = 1"),
    (b'e', "dynos_queue", "id", "counter = 2"),
    (b'f', "dynos_queue", "base", "sent = 1"),
    (b'g', "dynos_base", "data", "1"),
    (b'h', "dynos_base", "id", "1"),
    (b'i', "dynos_dead", "edits", "1"),
    (b'j', "dynos_dead", "record", "1"),
    (b'k', "dynos_dead", "message", "1"),
    (b'l', "dynos_conflict", "resolved", "1"),
    (b'm', "dynos_table", "spec", "n = 1"),
    (b'n', "dynos_table", "policy", "n = 1"),
    (b'o', "dynos_table", "phase", "n = 1"),
    (b'p', "dynos_table", "captured", "n = 1"),
    (b'q', "dynos_table", "name", "n = 1"),
    (b'r', "dynos_table", "cursor", "n = 1"),
    (b's', "dynos_table", "ahead", "n = 1"),
    (b't', "dynos_state", "replica", "1"),
    (b'u', "dynos_state", "server", "1"),
    (b'v', "dynos_log", "c0", "1"),
];

/// The places at which a text concerns single edits: others have to go on.
const EDITS: &[u8] = b"abcdefghijk";

thread_local! {
    static SHELF: RefCell<Option<Shelf>> = const { RefCell::new(None) };
}

/// The body of the target.
pub fn run(data: &[u8]) {
    SHELF.with_borrow_mut(|shelf| {
        let shelf = shelf.get_or_insert_with(Shelf::new);
        let lines = script::text_lines(data);
        let places: Vec<u8> = shelf.lay_out(&lines);
        let replica = match SqliteReplica::open(&shelf.path, &options()) {
            Ok(replica) => replica,
            Err(error) => return is_typed(&error),
        };
        block_on(async {
            look(&replica, places.iter().all(|place| EDITS.contains(place))).await;
            work(&replica).await;
            replica.close().await;
        });
    });
}

/// Everything that only looks. Where only edits are damaged, those that are not go on.
async fn look(replica: &SqliteReplica, edits_only: bool) {
    let limits = DueLimits { now: 1 << 40, longest_wait: 1 << 40, records: 100, bytes: 1 << 20 };
    let due = replica.due(&limits).await;
    let again = replica.due(&limits).await;
    if edits_only {
        let due = due.as_ref().expect("what is sound can be sent");
        let whole = |group: &Vec<dynos_sync_core::Entry>| !group.is_empty();
        assert!(due.groups.iter().all(whole), "{due:?}");
        assert_eq!(Some(due), again.as_ref().ok(), "the second look shows the same");
    }
    if edits_only {
        let (table, ids) = (name("d"), ["x", "y"].map(|id| id.parse().expect("an id")));
        replica.records(&table, &ids, false).await.expect("what is sound can be pulled");
    }
    is_answer(due);
    is_answer(again);
    is_answer(replica.state().await);
    is_answer(replica.queue(0, 100).await);
    is_answer(replica.dead_letters(0, 100).await);
    is_answer(replica.conflicts(i64::MAX, 100).await);
    for table in ["d", "c"].map(name) {
        let ids = ["x", "y", "z", "1", "2"].map(|id| id.parse().expect("an id"));
        is_answer(replica.unsettled(&table, 100).await);
        is_answer(replica.records(&table, &ids, true).await);
        is_answer(replica.records(&table, &ids, false).await);
        is_answer(replica.get(&RecordKey { table, id: "x".parse().expect("an id") }).await);
    }
}

/// What a user and a sync would do next.
async fn work(replica: &SqliteReplica) {
    let key = |id| RecordKey::new("d", id).expect("a key");
    let edit = Edit::Upsert(fields([("n", 7.into())]));
    for op in [
        Op::Write { key: key("x"), edit: edit.clone(), at: 9 },
        Op::Store { key: key("y"), record: None },
        Op::Settle { key: key("x"), counter: 1, record: Some(fields([])) },
        Op::Revive { letter: 1, at: 9 },
        Op::Bury {
            key: key("y"),
            counter: 2,
            code: "constraint".to_owned(),
            message: String::new(),
            at: 9,
            revert: Revert::ToBase,
        },
        Op::Complete { table: name("d"), at: 9, passed: None },
        Op::Rename,
    ] {
        is_answer(replica.commit(Batch { ops: vec![op], ..Batch::default() }).await);
    }
    is_answer(replica.remove_table(&name("c")).await);
    is_answer(replica.logout(true).await);
}

/// An answer, or an error that says that the database is damaged.
fn is_answer<T>(answer: Result<T, ReplicaError>) {
    answer.err().iter().for_each(is_typed);
}

fn is_typed(error: &ReplicaError) {
    use ReplicaError::{Constraint, Corrupt, Invalid, NotFound, UnknownTable};
    let typed = matches!(error, Corrupt(_) | Invalid(_) | UnknownTable(_) | NotFound(_) | Constraint { .. });
    assert!(typed, "{error:?}");
}

fn name(name: &str) -> TableName {
    name.parse().expect("a name")
}

fn options() -> SqliteOptions {
    SqliteOptions { threads: Threads::Caller, random: Random::new(|| [7; 16]), ..SqliteOptions::default() }
}

/// A sound database, and room for a damaged copy of it.
struct Shelf {
    sound: Vec<u8>,
    path: PathBuf,
    _folder: TempDir,
}

impl Shelf {
    fn new() -> Self {
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
        Self { sound, path: folder.path().join("damaged.db"), _folder: folder }
    }

    /// A copy with what the input says, and the places that it names.
    fn lay_out(&self, lines: &[&str]) -> Vec<u8> {
        for beside in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{beside}", self.path.display()));
        }
        fs::write(&self.path, &self.sound).expect("a copy");
        let db = Connection::open(&self.path).expect("the copy");
        db.execute_batch("PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY").expect("settings");
        let found = lines.iter().filter_map(|line| Some((line.bytes().next()?, line.get(1..)?)));
        let mut places = Vec::new();
        for (letter, text) in found {
            let Some((_, table, column, rows)) = PLACES.iter().find(|place| place.0 == letter) else {
                continue;
            };
            // A unique name stays one: SQLite refuses the rest.
            let sql = format!("UPDATE OR IGNORE {table} SET {column} = ? WHERE {rows}");
            db.execute(&sql, [text]).expect("the damage");
            places.push(letter);
        }
        places
    }
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
