//! What any program writes to a synced table is queued, in that program's own transaction.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use dynos_sync_core::{
    Edit, Entry, Fields, Replica, Sent, Value, fields, json,
    replica::{Batch, DueLimits, Existing, Op, Outcome, State, TableOptions},
};
use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
use futures_executor::block_on;
use rusqlite::Connection;
use tempfile::TempDir;

/// A database that a program uses without knowing of us, and the replica on it.
struct Shared {
    program: Connection,
    replica: SqliteReplica,
    _dir: TempDir,
}

impl Shared {
    fn new(schema: &str, tables: &[&str]) -> Self {
        Self::with(schema, tables, Existing::Push)
    }

    fn with(schema: &str, tables: &[&str], existing: Existing) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sqlite");
        let program = Connection::open(&path).unwrap();
        program.pragma_update(None, "foreign_keys", true).unwrap();
        program.execute_batch(schema).unwrap();
        let replica = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap();
        for table in tables {
            let options = TableOptions { existing, ..TableOptions::new(table.parse().unwrap()) };
            assert!(block_on(replica.add_table(options)).unwrap());
        }
        Self { program, replica, _dir: dir }
    }

    fn run(&self, sql: &str) {
        self.program.execute_batch(sql).unwrap();
    }

    /// The queue: table, id, edit.
    fn queue(&self) -> Vec<(String, String, Edit)> {
        let entries = block_on(self.replica.queue(0, 1000)).unwrap();
        entries.into_iter().map(|e| (e.key.table.to_string(), e.key.id.to_string(), e.edit)).collect()
    }

    /// What was queued since the last look: all of it has reached the server.
    fn changes(&self) -> Vec<(String, String, Edit)> {
        let changes = self.queue();
        let entries = block_on(self.replica.queue(0, 1000)).unwrap();
        let settle = |entry: Entry| Op::Settle { key: entry.key, counter: entry.counter, record: None };
        self.commit(entries.into_iter().map(settle).collect());
        changes
    }

    fn commit(&self, ops: Vec<Op>) {
        let outcome = block_on(self.replica.commit(Batch { ops, ..Batch::default() })).unwrap();
        assert_ne!(outcome, Outcome::Stale);
    }

    fn state(&self) -> State {
        block_on(self.replica.state()).unwrap()
    }
}

fn change(table: &str, id: &str, edit: Edit) -> (String, String, Edit) {
    (table.to_owned(), id.to_owned(), edit)
}

fn object(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields,
        other => panic!("not an object: {other}"),
    }
}

const NOTES: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL, n, code TEXT UNIQUE)";

#[test]
fn inserts_updates_and_deletes_are_queued_as_what_they_did() {
    let shared = Shared::new(NOTES, &["notes"]);
    shared.run("INSERT INTO notes VALUES (1, 'a', 1.5, NULL), (2, 'b', x'00ff', 'k')");
    let one = object(json!({"title": "a", "n": 1.5, "code": null}));
    let two = object(json!({"title": "b", "n": {"$blob": "AP8="}, "code": "k"}));
    assert_eq!(
        shared.changes(),
        [change("notes", "1", Edit::Upsert(one)), change("notes", "2", Edit::Upsert(two))]
    );
    shared.run("UPDATE notes SET n = n + 1 WHERE id = 1; DELETE FROM notes WHERE id = 2");
    assert_eq!(
        shared.changes(),
        [change("notes", "1", Edit::Patch(fields([("n", json!(2.5))]))), change("notes", "2", Edit::Delete)]
    );
    assert_eq!(shared.state().pending, 0);
}

#[test]
fn many_changes_of_a_record_are_one_entry_and_none_if_they_cancel() {
    let shared = Shared::new(NOTES, &["notes"]);
    shared.run(
        "INSERT INTO notes VALUES (1, 'a', 1, 'x'); UPDATE notes SET n = 2; UPDATE notes SET title = 'b'",
    );
    let whole = object(json!({"title": "b", "n": 2, "code": "x"}));
    assert_eq!(shared.changes(), [change("notes", "1", Edit::Upsert(whole.clone()))]);
    shared.run("UPDATE notes SET n = 5; UPDATE notes SET n = 2");
    assert_eq!(shared.changes(), []);
    shared.run("INSERT INTO notes VALUES (7, '', 0, NULL); DELETE FROM notes WHERE id = 7");
    assert_eq!(shared.changes(), []);
    shared.run("DELETE FROM notes; INSERT INTO notes VALUES (1, 'b', 2, 'x')");
    assert_eq!(shared.changes(), [change("notes", "1", Edit::Replace(whole))]);
}

#[test]
fn a_rolled_back_transaction_queues_nothing() {
    let shared = Shared::new(NOTES, &["notes"]);
    shared.run("BEGIN; INSERT INTO notes VALUES (1, 'a', 1, NULL); ROLLBACK");
    assert_eq!(shared.changes(), []);
}

#[test]
fn rows_that_replace_deletes_silently_are_noticed() {
    let shared = Shared::new(NOTES, &["notes"]);
    shared.run("INSERT INTO notes VALUES (1, 'a', 1, 'x'), (2, 'b', 2, 'y'), (3, 'c', 3, 'z')");
    shared.changes();
    // Takes the place of 1 by its key and of 2 by its code.
    shared.run("INSERT OR REPLACE INTO notes VALUES (1, 'new', 9, 'y')");
    let patch = object(json!({"title": "new", "n": 9, "code": "y"}));
    let mut changes = shared.changes();
    changes.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(changes, [change("notes", "1", Edit::Patch(patch)), change("notes", "2", Edit::Delete)]);
    shared.run("UPDATE OR REPLACE notes SET code = 'y' WHERE id = 3");
    let mut changes = shared.changes();
    changes.sort_by(|a, b| a.1.cmp(&b.1));
    let patch = Edit::Patch(fields([("code", json!("y"))]));
    assert_eq!(changes, [change("notes", "1", Edit::Delete), change("notes", "3", patch)]);
}

#[test]
fn a_changed_key_is_a_delete_and_an_insert() {
    let shared = Shared::new(NOTES, &["notes"]);
    shared.run("INSERT INTO notes VALUES (1, 'a', 1, 'x')");
    shared.changes();
    shared.run("UPDATE notes SET id = 5");
    let whole = object(json!({"title": "a", "n": 1, "code": "x"}));
    assert_eq!(
        shared.changes(),
        [change("notes", "1", Edit::Delete), change("notes", "5", Edit::Upsert(whole))]
    );
}

#[test]
fn cascades_and_the_programs_own_triggers_are_captured() {
    let shared = Shared::new(
        "CREATE TABLE parent (id TEXT PRIMARY KEY, children INTEGER DEFAULT 0);
         CREATE TABLE child (a INTEGER, b TEXT, parent TEXT REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE,
                             PRIMARY KEY (a, b)) WITHOUT ROWID;
         CREATE TRIGGER counts AFTER INSERT ON child
         BEGIN UPDATE parent SET children = children + 1 WHERE id = NEW.parent; END",
        &["parent", "child"],
    );
    shared.run("INSERT INTO parent (id) VALUES ('p'); INSERT INTO child VALUES (1, 'x', 'p'), (2, 'y', 'p')");
    let child = |id: &str| change("child", id, Edit::Upsert(fields([("parent", json!("p"))])));
    let parent = change("parent", "p", Edit::Upsert(fields([("children", json!(2))])));
    assert_eq!(shared.changes(), [parent, child("[1,\"x\"]"), child("[2,\"y\"]")]);
    shared.run("DELETE FROM parent");
    let mut changes = shared.changes();
    changes.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(
        changes,
        [
            change("child", "[1,\"x\"]", Edit::Delete),
            change("child", "[2,\"y\"]", Edit::Delete),
            change("parent", "p", Edit::Delete)
        ]
    );
}

#[test]
fn an_engine_write_that_cascades_queues_what_it_caused() {
    use dynos_sync_core::{
        RecordKey,
        replica::{Batch, Op},
    };
    let shared = Shared::new(
        "CREATE TABLE parent (id TEXT PRIMARY KEY, v);
         CREATE TABLE child (id TEXT PRIMARY KEY, parent TEXT REFERENCES parent ON DELETE CASCADE);
         INSERT INTO parent VALUES ('p', 1); INSERT INTO child VALUES ('c', 'p')",
        &["parent", "child"],
    );
    shared.changes();
    let write = |edit| Batch {
        ops: vec![Op::Write { key: RecordKey::new("parent", "p").unwrap(), edit, at: 5 }],
        ..Batch::default()
    };
    block_on(shared.replica.commit(write(Edit::Upsert(fields([("v", json!(1))]))))).unwrap();
    let same = Edit::Upsert(fields([("v", json!(1))]));
    assert_eq!(
        shared.changes(),
        [change("parent", "p", same)],
        "a write is queued even if it changes nothing"
    );
    block_on(shared.replica.commit(write(Edit::Delete))).unwrap();
    let mut changes = shared.changes();
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(changes.len(), 2);
    assert!(changes.contains(&change("child", "c", Edit::Delete)));
    assert!(changes.contains(&change("parent", "p", Edit::Delete)));
}

#[test]
fn existing_rows_are_adopted_or_left_alone() {
    let rows = format!("{NOTES}; INSERT INTO notes VALUES (1, 'a', 1, NULL), (2, 'b', 2, NULL)");
    assert_eq!(Shared::new(&rows, &["notes"]).queue().len(), 2);
    let ignored = Shared::with(&rows, &["notes"], Existing::Ignore);
    assert_eq!(ignored.queue().len(), 0);
    ignored.run("UPDATE notes SET n = 7 WHERE id = 2");
    // The server knows nothing of it that could be patched.
    let whole = fields([("title", "b".into()), ("n", 7.into()), ("code", Value::Null)]);
    assert_eq!(ignored.queue(), [change("notes", "2", Edit::Upsert(whole))]);
}

#[test]
fn a_column_that_is_added_is_captured_from_then_on() {
    let shared = Shared::new(NOTES, &["notes"]);
    shared.run("INSERT INTO notes VALUES (1, 'a', 1, NULL)");
    shared.changes();
    shared.run("ALTER TABLE notes ADD COLUMN extra TEXT; UPDATE notes SET extra = 'x'");
    assert_eq!(shared.changes(), [change("notes", "1", Edit::Patch(fields([("extra", json!("x"))])))]);
    assert!(!shared.state().tables[0].declared);
    shared.run("UPDATE notes SET extra = 'y'");
    assert_eq!(shared.changes(), [change("notes", "1", Edit::Patch(fields([("extra", json!("y"))])))]);
}

#[test]
fn any_names_can_be_synced() {
    let shared = Shared::new(
        "CREATE TABLE \"a\"\"b'c]é😀\" (\"k\"\"1\" TEXT PRIMARY KEY, \"select\" INT, \"new.x'\" BLOB)",
        &["a\"b'c]é😀"],
    );
    shared.run("INSERT INTO \"a\"\"b'c]é😀\" VALUES ('it''s', 1, NULL)");
    let row = object(json!({"select": 1, "new.x'": null}));
    assert_eq!(shared.queue(), [change("a\"b'c]é😀", "it's", Edit::Upsert(row))]);
}

#[test]
fn unsuitable_tables_are_refused_with_the_reason() {
    let shared = Shared::new("CREATE TABLE t (a, b); CREATE VIEW v AS SELECT 1 AS x", &[]);
    for (name, reason) in [("t", "primary key"), ("v", "view")] {
        let refused = block_on(shared.replica.add_table(TableOptions::new(name.parse().unwrap())));
        assert!(refused.unwrap_err().to_string().contains(reason), "{name}");
    }
}

#[test]
fn a_row_without_a_key_is_passed_over() {
    let shared = Shared::new("CREATE TABLE t (id TEXT PRIMARY KEY, v)", &["t"]);
    shared.run("INSERT INTO t VALUES (NULL, 1), ('a', 2)");
    assert_eq!(shared.queue(), [change("t", "a", Edit::Upsert(fields([("v", json!(2))])))]);
}

#[test]
fn a_table_that_is_dropped_holds_nobody_up() {
    let shared = Shared::new(
        "CREATE TABLE gone (id INTEGER PRIMARY KEY, v); CREATE TABLE kept (id INTEGER PRIMARY KEY, v)",
        &["gone", "kept"],
    );
    shared.run("INSERT INTO gone VALUES (1, 1); INSERT INTO kept VALUES (1, 1)");
    assert_eq!(shared.queue().len(), 2);
    let first = block_on(shared.replica.queue(0, 1)).unwrap().remove(0);
    shared.run("ALTER TABLE gone RENAME TO hidden");
    shared.run("INSERT INTO kept VALUES (2, 2)");
    let tables: Vec<String> = shared.queue().into_iter().map(|(table, ..)| table).collect();
    assert_eq!(tables, ["kept", "kept"]);
    for sent in [false, true] {
        if sent {
            shared.run("ALTER TABLE hidden RENAME TO gone");
            shared.commit(vec![Op::Freeze(Entry { sent: Some(Sent { base: None }), ..first.clone() })]);
            shared.run("DROP TABLE gone");
        }
        let limits = DueLimits { now: 0, longest_wait: i64::MAX, records: 1, bytes: 1000, under_way: 0 };
        let due = block_on(shared.replica.due(&limits)).unwrap();
        assert_eq!(due.groups[0][0].key.to_string(), "kept/1");
    }
    assert_eq!(shared.state().tables.len(), 1);
    assert!(block_on(shared.replica.remove_table(&"gone".parse().unwrap())).unwrap());
    assert_eq!(shared.state().pending, 2);
}

#[test]
fn one_table_is_not_synced_under_two_spellings() {
    let shared = Shared::new("CREATE TABLE users (id INTEGER PRIMARY KEY)", &["users"]);
    let refused =
        block_on(shared.replica.add_table(TableOptions::new("USERS".parse().unwrap()))).unwrap_err();
    assert!(refused.to_string().contains("users"), "{refused}");
}

#[test]
fn a_mask_does_not_overwrite_what_the_device_knows() {
    use dynos_sync_core::{
        RecordKey,
        replica::{Batch, Op, TablePolicy},
    };
    let shared =
        Shared::new("CREATE TABLE person (id INTEGER PRIMARY KEY, ssn TEXT NOT NULL, city TEXT)", &[]);
    let policy = TablePolicy { sensitive_fields: vec!["ssn".into()], ..TablePolicy::default() };
    let options = TableOptions { policy, ..TableOptions::new("person".parse().unwrap()) };
    block_on(shared.replica.add_table(options)).unwrap();
    shared.run("INSERT INTO person VALUES (1, '123', 'Ulm')");
    shared.changes();
    let masked = |city: &str| Some(fields([("ssn", json!("[REDACTED]")), ("city", json!(city))]));
    let store = |id: &str, record| Op::Store { key: RecordKey::new("person", id).unwrap(), record };
    let ops = vec![store("1", masked("Bonn")), store("2", masked("Kiel"))];
    block_on(shared.replica.commit(Batch { ops, ..Batch::default() })).unwrap();
    let rows = "SELECT group_concat(ssn || ' ' || city, ', ') FROM person";
    let rows: String = shared.program.query_row(rows, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, "123 Bonn, [REDACTED] Kiel");
}

#[test]
fn a_programs_trigger_may_write_texts_in_double_quotes() {
    use dynos_sync_core::{
        RecordKey,
        replica::{Batch, Op},
    };
    let shared = Shared::new(
        "CREATE TABLE note (id INTEGER PRIMARY KEY, v); CREATE TABLE log (what TEXT);
         CREATE TRIGGER logs AFTER INSERT ON note BEGIN INSERT INTO log VALUES (\"inserted\"); END",
        &["note"],
    );
    let store =
        Op::Store { key: RecordKey::new("note", "1").unwrap(), record: Some(fields([("v", json!(1))])) };
    block_on(shared.replica.commit(Batch { ops: vec![store], ..Batch::default() })).unwrap();
    let logged: String = shared.program.query_row("SELECT what FROM log", [], |row| row.get(0)).unwrap();
    assert_eq!(logged, "inserted");
}

#[test]
fn a_queued_edit_that_cannot_be_read_holds_nobody_up() {
    for damage in ["data = '{\"v\": '", "op = 9", "data = '[]'"] {
        for sent in [0, 1] {
            let shared = Shared::new(NOTES, &["notes"]);
            shared.run("INSERT INTO notes VALUES (1, 'a', 1, NULL), (2, 'b', 2, NULL)");
            shared.queue();
            shared.run(&format!("UPDATE dynos_queue SET {damage}, sent = {sent} WHERE id = '1'"));
            let limits = DueLimits { now: 0, longest_wait: i64::MAX, records: 10, bytes: 1000, under_way: 0 };
            let due = || block_on(shared.replica.due(&limits)).unwrap().groups;
            let groups = due();
            let ids: Vec<&str> = groups.iter().map(|group| group[0].key.id.as_str()).collect();
            assert_eq!(ids, ["2"], "{damage}");
            let letters = block_on(shared.replica.dead_letters(0, 10)).unwrap();
            assert_eq!((letters[0].key.id.as_str(), letters[0].code.as_str()), ("1", "damaged"));
            assert_eq!(shared.state().pending, 1);
        }
    }
}

#[test]
fn an_edit_whose_base_cannot_be_read_holds_up_neither_a_push_nor_a_pull() {
    for pulls in [true, false] {
        let shared = Shared::new(NOTES, &["notes"]);
        shared.run("INSERT INTO notes VALUES (1, 'a', 1, NULL), (2, 'b', 2, NULL)");
        shared.queue();
        shared.run("INSERT INTO dynos_base (tbl, id, data) SELECT tbl, id, '{\"v\": ' FROM dynos_queue WHERE id = '1'");
        let ids = ["1", "2"].map(|id| id.parse().unwrap());
        let limits = DueLimits { now: 0, longest_wait: i64::MAX, records: 10, bytes: 1000, under_way: 0 };
        let pending: Vec<_> = if pulls {
            let seen = block_on(shared.replica.records(&"notes".parse().unwrap(), &ids, false)).unwrap();
            seen.into_iter().map(|seen| seen.id).collect()
        } else {
            let due = block_on(shared.replica.due(&limits)).unwrap();
            due.groups.into_iter().map(|group| group[0].key.id.clone()).collect()
        };
        assert_eq!(pending, [ids[1].clone()]);
        let letters = block_on(shared.replica.dead_letters(0, 10)).unwrap();
        assert_eq!((letters[0].key.id.as_str(), letters[0].code.as_str()), ("1", "damaged"));
    }
}

#[test]
fn an_applications_own_transaction_is_queued_whole_or_not_at_all() {
    let shared = Shared::new(NOTES, &["notes"]);
    let insert = |sql: &'static str| block_on(shared.replica.write_with(move |db| db.execute_batch(sql)));
    insert("INSERT INTO notes VALUES (1, 'a', 1, 'x'); INSERT INTO notes VALUES (2, 'b', 2, 'y')").unwrap();
    assert_eq!(shared.queue().len(), 2);
    let failed =
        insert("INSERT INTO notes VALUES (3, 'c', 3, 'z'); INSERT INTO notes VALUES (4, 'd', 4, 'x')");
    assert!(failed.is_err());
    assert_eq!(shared.queue().len(), 2);
    let count = |db: &Connection| db.query_row("SELECT count(*) FROM notes", [], |row| row.get::<_, i64>(0));
    assert_eq!(block_on(shared.replica.read_with(count)).unwrap(), 2);
    let written = block_on(shared.replica.read_with(|db| db.execute("DELETE FROM notes", [])));
    assert!(written.is_err(), "a reader cannot write");
}

#[test]
fn writes_that_wait_together_fail_alone() {
    use dynos_sync_core::{
        RecordKey,
        replica::{Batch, Op, Outcome},
    };
    let shared = Shared::new(
        "CREATE TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL
                             REFERENCES parent DEFERRABLE INITIALLY DEFERRED, code TEXT UNIQUE);
         INSERT INTO parent VALUES (1)",
        &["parent", "child"],
    );
    // Every fifth has no parent, which shows only at the commit; every seventh takes a code that is taken.
    let write = |n: i64| {
        let parent = if n % 5 == 0 { 99 } else { 1 };
        let code = if n % 7 == 0 { "taken".to_owned() } else { format!("c{n}") };
        let edit = Edit::Upsert(fields([("parent", json!(parent)), ("code", json!(code))]));
        let key = RecordKey::new("child", &n.to_string()).unwrap();
        shared.replica.commit(Batch { ops: vec![Op::Write { key, edit, at: 1 }], ..Batch::default() })
    };
    block_on(write(1)).unwrap();
    shared.run("UPDATE child SET code = 'taken' WHERE id = 1");
    let outcomes = block_on(futures_util::future::join_all((2..60).map(write)));
    for (n, outcome) in (2..60).zip(outcomes) {
        let fits = n % 5 != 0 && n % 7 != 0;
        assert_eq!(matches!(outcome, Ok(Outcome::Committed(_))), fits, "{n}: {outcome:?}");
    }
    let rows = "SELECT count(*) FROM child";
    let rows: i64 = shared.program.query_row(rows, [], |row| row.get(0)).unwrap();
    let queued = shared.queue().into_iter().filter(|(table, ..)| table == "child").map(|(_, id, _)| id);
    let queued: std::collections::BTreeSet<String> = queued.collect();
    assert_eq!(queued.len() as i64, rows, "a row and its entry are there together");
}

#[test]
fn what_panics_in_the_database_is_undone_and_the_next_one_is_served() {
    let shared = Shared::new(NOTES, &["notes"]);
    let insert = "INSERT INTO notes VALUES (1, 'a', 1, 'x')";
    let panics = shared.replica.write_with(move |db| {
        db.execute_batch(insert)?;
        if db.is_autocommit() { Ok(()) } else { panic!("on purpose") }
    });
    let failed = block_on(panics).unwrap_err();
    assert!(matches!(failed, dynos_sync_core::ReplicaError::Storage { .. }), "{failed:?}");
    assert!(!format!("{failed} {failed:?}").contains("on purpose"), "what it said is its own");
    for _ in 0..10 {
        block_on(shared.replica.read_with(|_| -> rusqlite::Result<()> { panic!("on purpose") })).unwrap_err();
    }
    assert_eq!(shared.queue().len(), 0);
    block_on(shared.replica.write_with(move |db| db.execute_batch(insert))).unwrap();
    assert_eq!((shared.queue().len(), shared.state().pending), (1, 1));
}

/// The engine's own writes run no triggers where all of them are the engine's and none was needed for long.
#[test]
fn whatever_was_written_before_what_programs_and_their_triggers_do_is_noticed() {
    let shared = Shared::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v); CREATE TABLE seen (v)", &["t"]);
    let write = |v: i64| {
        let edit = Edit::Upsert(fields([("v", json!(v))]));
        shared.commit(vec![Op::Write {
            key: dynos_sync_core::RecordKey::new("t", "1").unwrap(),
            edit,
            at: v,
        }]);
    };
    let by_hand = |sql: &'static str| {
        block_on(shared.replica.write_with(move |db| db.execute_batch(sql))).unwrap();
    };
    let seen = || -> Vec<i64> {
        let mut statement = shared.program.prepare("SELECT v FROM seen ORDER BY rowid").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let upsert = |id: &str, v: i64| change("t", id, Edit::Upsert(object(json!({ "v": v }))));

    write(1);
    by_hand("INSERT INTO t VALUES (2, 2)");
    write(3);
    shared.run("INSERT INTO t VALUES (4, 4)");
    assert_eq!(shared.changes(), [upsert("1", 1), upsert("2", 2), upsert("1", 3), upsert("4", 4)]);

    let trigger = "CREATE TRIGGER theirs AFTER UPDATE ON t BEGIN INSERT INTO seen VALUES (NEW.v); END";
    shared.run(trigger);
    write(5);
    shared.run("DROP TRIGGER theirs");
    write(6);
    by_hand(trigger);
    write(7);
    by_hand("DROP TRIGGER theirs; UPDATE t SET v = 8 WHERE id = 1");
    assert_eq!(seen(), [5, 7]);
    let patch = |v: i64| change("t", "1", Edit::Patch(object(json!({ "v": v }))));
    assert_eq!(shared.changes(), [upsert("1", 5), upsert("1", 6), upsert("1", 7), patch(8)]);

    (0..150).for_each(write);
    by_hand("UPDATE t SET v = 9 WHERE id = 1");
    assert_eq!(shared.changes()[150..], [patch(9)]);
}

/// The header is not written with each edit. Whoever comes next knows all the same how far numbers and times have gone.
#[test]
fn numbers_and_times_go_on_whoever_writes() {
    let shared = Shared::new("CREATE TABLE t (id INTEGER PRIMARY KEY, v)", &["t"]);
    let other = SqliteReplica::open(shared.replica.path(), &SqliteOptions::default()).unwrap();
    let far = 1 << 45;
    let write = |replica: &SqliteReplica, id: &str, at: i64| {
        let edit = Edit::Upsert(fields([("v", json!(at))]));
        let key = dynos_sync_core::RecordKey::new("t", id).unwrap();
        let ops = vec![Op::Write { key, edit, at }];
        block_on(replica.commit(Batch { ops, ..Batch::default() })).unwrap();
    };
    write(&shared.replica, "1", far);
    write(&other, "2", 1);
    write(&shared.replica, "2", 1);
    // This clock is behind.
    shared.run("UPDATE t SET v = 'plain' WHERE id = 2");
    write(&other, "1", 1);
    for replica in [&shared.replica, &other] {
        let state = block_on(replica.state()).unwrap();
        assert_eq!((state.pending, state.last_counter, state.clock), (5, 5, far + 4));
    }
    let entries = block_on(other.queue(0, 10)).unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (entry.counter, entry.key.id.as_str(), entry.at)).collect();
    let expected =
        [(1, "1", far), (2, "2", far + 1), (3, "2", far + 2), (4, "2", far + 3), (5, "1", far + 4)];
    assert_eq!(told, expected);
}

/// The transactions of what is queued, in the queue's order: the first is 1, the next 2; 0 for none.
fn transactions(replica: &SqliteReplica) -> Vec<(String, usize)> {
    let queue = block_on(replica.queue(0, 10_000)).unwrap();
    let mut known = Vec::new();
    let mut number = |transaction: Option<u64>| {
        let Some(transaction) = transaction else { return 0 };
        let place = known.iter().position(|other| *other == transaction);
        place.unwrap_or_else(|| {
            known.push(transaction);
            known.len() - 1
        }) + 1
    };
    queue.iter().map(|entry| (entry.key.id.to_string(), number(entry.transaction))).collect()
}

#[test]
fn a_program_says_what_of_its_sql_takes_effect_together() {
    const BEGIN: &str = "BEGIN; INSERT INTO dynos_transaction VALUES ('begin');";
    const END: &str = "INSERT INTO dynos_transaction VALUES ('end'); COMMIT;";
    let insert = |ids: &[&str]| -> String {
        ids.iter().map(|id| format!("INSERT OR REPLACE INTO t VALUES ('{id}', random());")).collect()
    };
    let many: Vec<String> = (0..=1000).map(|n| format!("m{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let pairs = |pairs: &[(&str, usize)]| -> Vec<(String, usize)> {
        pairs.iter().map(|(id, number)| ((*id).to_owned(), *number)).collect()
    };
    for (what, sql, expected) in [
        ("none", insert(&["a", "b"]), pairs(&[("a", 0), ("b", 0)])),
        (
            "two, and others",
            [
                &insert(&["a"]),
                BEGIN,
                &insert(&["b", "c"]),
                END,
                &insert(&["d"]),
                BEGIN,
                &insert(&["e", "f"]),
                END,
            ]
            .concat(),
            pairs(&[("a", 0), ("b", 1), ("c", 1), ("d", 0), ("e", 2), ("f", 2)]),
        ),
        (
            "two with a record in common",
            [BEGIN, &insert(&["a", "b"]), END, BEGIN, &insert(&["c"]), END, BEGIN, &insert(&["d", "b"]), END]
                .concat(),
            pairs(&[("a", 1), ("b", 1), ("c", 2), ("d", 1)]),
        ),
        (
            "one without an end",
            [BEGIN, &insert(&["a", "b"]), "COMMIT;", BEGIN, &insert(&["c", "d"]), END].concat(),
            pairs(&[("a", 0), ("b", 0), ("c", 1), ("d", 1)]),
        ),
        ("undone", [BEGIN, &insert(&["a"]), "ROLLBACK;", &insert(&["b"])].concat(), pairs(&[("b", 0)])),
        (
            "an end alone",
            [&insert(&["a"]), "BEGIN;", END, &insert(&["b"])].concat(),
            pairs(&[("a", 0), ("b", 0)]),
        ),
        (
            "too many",
            [BEGIN, &insert(&many), END].concat(),
            many.iter().map(|id| ((*id).to_owned(), 0)).collect(),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sqlite");
        let program = Connection::open(&path).unwrap();
        program.execute_batch("CREATE TABLE t (id TEXT PRIMARY KEY, n)").unwrap();
        let replica = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap();
        block_on(replica.add_table(TableOptions::new("t".parse().unwrap()))).unwrap();
        program.execute_batch(&sql).unwrap();
        let due = block_on(replica.due(&DueLimits {
            now: i64::MAX,
            longest_wait: i64::MAX,
            records: 10_000,
            bytes: usize::MAX,
            under_way: 0,
        }));
        assert_eq!(due.unwrap().groups.len(), expected.len(), "{what}");
        assert_eq!(transactions(&replica), expected, "{what}");
    }
}

#[test]
fn a_mark_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sqlite");
    let replica = SqliteReplica::open(&path, &SqliteOptions::default()).unwrap();
    let program = Connection::open(&path).unwrap();
    for mark in ["'start'", "NULL"] {
        let refused = program.execute(&format!("INSERT INTO dynos_transaction VALUES ({mark})"), []);
        assert!(refused.unwrap_err().to_string().contains("begin and end"));
    }
    block_on(replica.close());
}
