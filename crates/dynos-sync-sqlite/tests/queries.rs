//! The application's own queries, and following what they answer.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use dynos_sync_core::{
    Edit, Fields, Queries, RecordKey, Replica, ReplicaError, Rows, Value, fields, json,
    replica::{Batch, Op, TableOptions},
};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
use futures_executor::block_on;
use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use rusqlite::Connection;

struct Database {
    replica: SqliteReplica,
    program: Connection,
    _dir: tempfile::TempDir,
}

impl Database {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sqlite");
        let program = Connection::open(&path).unwrap();
        program
            .execute_batch(
                "CREATE TABLE tasks (id TEXT PRIMARY KEY, title TEXT, done BOOLEAN, more JSON, raw BLOB);
                 CREATE TABLE notes (id TEXT PRIMARY KEY, text TEXT);
                 CREATE VIEW open_tasks AS SELECT * FROM tasks WHERE NOT done;
                 CREATE TABLE counts (notes INTEGER);
                 INSERT INTO counts VALUES (0);
                 CREATE TABLE counted (id TEXT PRIMARY KEY);
                 CREATE TRIGGER count AFTER INSERT ON counted BEGIN UPDATE counts SET notes = notes + 1; END",
            )
            .unwrap();
        let replica = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap();
        for table in ["tasks", "notes", "counted"] {
            block_on(replica.add_table(TableOptions::new(table.parse().unwrap()))).unwrap();
        }
        Self { replica, program, _dir: dir }
    }

    fn write(&self, table: &str, id: &str, data: Fields) {
        let key = RecordKey::new(table, id).unwrap();
        let ops = vec![Op::Write { key, edit: Edit::Upsert(data), at: 1 }];
        block_on(self.replica.commit(Batch { ops, ..Batch::default() })).unwrap();
    }

    fn query(&self, sql: &str, params: Vec<Value>) -> Result<Rows, ReplicaError> {
        block_on(self.replica.query(sql, params))
    }

    fn watch(&self, sql: &str) -> Live {
        Live(self.replica.watch(sql.to_owned(), Vec::new()))
    }
}

struct Live(BoxStream<'static, Result<Rows, ReplicaError>>);

impl Live {
    fn next(&mut self) -> Value {
        json!(block_on(self.0.next()).unwrap().unwrap())
    }

    /// Whether nothing new has come. What was committed before has had its time: the thread that reads has been asked since.
    fn is_quiet(&mut self, database: &Database) -> bool {
        (0..3).all(|_| {
            let quiet = self.0.next().now_or_never().is_none();
            database.query("SELECT 1", vec![]).unwrap();
            quiet
        })
    }
}

fn title(text: &str) -> Fields {
    fields([("title", text.into()), ("done", false.into())])
}

#[test]
fn a_query_answers_rows_as_records_are_read() {
    let database = Database::new();
    let task = fields([
        ("title", "milk".into()),
        ("done", true.into()),
        ("more", json!({"a": [1]})),
        ("raw", json!({"$blob": "AP8="})),
    ]);
    database.write("tasks", "t1", task.clone());
    let found = database.query("SELECT title, done, more, raw FROM tasks WHERE id = ?", vec!["t1".into()]);
    assert_eq!(found.unwrap(), [task]);
    let found = database.query("SELECT count(*) AS n, ?1 || ?2 AS text", vec!["a".into(), 1.into()]);
    assert_eq!(json!(found.unwrap()), json!([{"n": 1, "text": "a1"}]));
}

#[test]
fn a_query_that_cannot_be_answered_is_refused_by_name() {
    let database = Database::new();
    for (sql, params, field) in [
        ("SELEC 1", vec![], "sql"),
        ("SELECT * FROM nowhere", vec![], "sql"),
        ("DELETE FROM tasks", vec![], "sql"),
        ("SELECT 1; SELECT 2", vec![], "sql"),
        ("SELECT ?, ?", vec![1.into()], "params"),
        ("SELECT 1", vec![1.into()], "params"),
        ("SELECT ?", vec![u64::MAX.into()], "params[0]"),
    ] {
        let refused = database.query(sql, params.clone());
        assert!(
            matches!(&refused, Err(ReplicaError::Invalid(invalid)) if invalid.field == field),
            "{sql}: {refused:?}"
        );
        let mut live = database.replica.watch(sql.to_owned(), params);
        let refused = block_on(live.next());
        assert!(matches!(&refused, Some(Err(ReplicaError::Invalid(_)))), "{sql}: {refused:?}");
    }
}

#[test]
fn what_is_written_here_is_seen_in_what_is_followed() {
    let database = Database::new();
    let mut live = database.watch("SELECT title FROM open_tasks ORDER BY id");
    assert_eq!(live.next(), json!([]));
    database.write("tasks", "t1", title("milk"));
    assert_eq!(live.next(), json!([{"title": "milk"}]));
    database.write("tasks", "t2", title("bread"));
    database.write("tasks", "t3", title("salt"));
    assert_eq!(
        live.next(),
        json!([{"title": "milk"}, {"title": "bread"}, {"title": "salt"}]),
        "one for both"
    );
    let done = |db: &Connection| db.execute("UPDATE tasks SET done = 1 WHERE id < 't3'", []);
    block_on(database.replica.write_with(done)).unwrap();
    assert_eq!(live.next(), json!([{"title": "salt"}]));
    assert!(live.is_quiet(&database));
}

#[test]
fn only_what_touches_a_querys_tables_makes_it_be_asked_again() {
    let database = Database::new();
    // Answers something else each time.
    let mut live = database.watch("SELECT count(*), random() FROM open_tasks");
    live.next();
    database.write("notes", "n1", fields([("text", "x".into())]));
    assert!(live.is_quiet(&database));
    database.write("tasks", "t1", title("milk"));
    live.next();
    assert!(live.is_quiet(&database));
}

#[test]
fn what_triggers_do_is_seen_too() {
    let database = Database::new();
    let mut live = database.watch("SELECT notes FROM counts");
    assert_eq!(live.next(), json!([{"notes": 0}]));
    database.write("counted", "c1", Fields::new());
    assert_eq!(live.next(), json!([{"notes": 1}]));
}

#[test]
fn what_has_not_changed_is_not_told_again() {
    let database = Database::new();
    let mut live = database.watch("SELECT count(*) AS n FROM tasks WHERE done");
    assert_eq!(live.next(), json!([{"n": 0}]));
    database.write("tasks", "t1", title("milk"));
    assert!(live.is_quiet(&database));
}

/// Where the platform does not say when a file is written to, engines look by themselves.
#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn what_other_programs_write_is_heard_without_looking() {
    let database = Database::new();
    let mut live = database.watch("SELECT title FROM tasks ORDER BY id");
    assert_eq!(live.next(), json!([]));
    let mut foreign = database.replica.foreign_commits().unwrap();
    block_on(foreign.next()).unwrap();
    for n in 0..5 {
        let sql = "INSERT INTO tasks (id, title) VALUES (?1, ?1)";
        database.program.execute(sql, [format!("t{n}")]).unwrap();
        block_on(foreign.next()).unwrap();
        assert_eq!(live.next().as_array().unwrap().len(), n + 1);
    }
    // A table that was not there before.
    let mut live = database.watch("SELECT a FROM later");
    assert!(block_on(live.0.next()).unwrap().is_err());
    database.program.execute_batch("CREATE TABLE later (a); INSERT INTO later VALUES (1)").unwrap();
    let mut answers = std::iter::repeat_with(|| block_on(live.0.next()).unwrap());
    assert_eq!(
        json!(answers.find_map(Result::ok).filter(|rows| !rows.is_empty()).unwrap()),
        json!([{"a": 1}])
    );
}

#[test]
#[cfg(any(target_os = "linux", target_os = "android"))]
fn what_is_written_here_is_nobody_elses() {
    let database = Database::new();
    let mut foreign = database.replica.foreign_commits().unwrap();
    block_on(foreign.next()).unwrap();
    for n in 0..200 {
        database.write("tasks", &format!("t{n}"), title("x"));
    }
    assert!(foreign.next().now_or_never().is_none());
}

#[test]
fn what_is_followed_ends_when_the_database_is_closed() {
    let database = Database::new();
    let mut live = database.watch("SELECT * FROM tasks");
    live.next();
    block_on(database.replica.close());
    assert!(block_on(live.0.next()).is_none());
    assert!(block_on(database.watch("SELECT 1").0.next()).is_none());
}
