//! The application's own tables: what reaches devices, and what devices may do to them.

use dynos_sync_core::{Value, json};

use crate::{
    caller::{Caller, status, statuses},
    database::Database,
};

const TYPES: &str = "
    CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE TABLE everything (
        id uuid PRIMARY KEY, user_id text NOT NULL, t text, i2 int2, i8 int8, n numeric, n2 numeric(10,2), b bool,
        f4 float4, f8 float8, at timestamptz, plain timestamp, d date, j jsonb, tags text[], bytes bytea, m mood,
        code text DEFAULT 'none', twice int8 GENERATED ALWAYS AS (i8 * 2) STORED
    );
    GRANT ALL ON everything TO authenticated;
    SELECT dynos_track('everything', 'user_id');";

const ID: &str = "8c5f0f3e-7a43-4a2c-9a53-0d6f2b8e9c11";

fn entry(counter: u64, id: &str, op: &str, data: Value) -> Value {
    Caller::entry(counter, "everything", id, op, data)
}

#[tokio::test]
async fn values_of_real_types_travel_exactly() {
    let database = Database::installed().await;
    database.sql(TYPES).await;
    let [ada, tablet] = [Caller::new(&database, "ada", 1).await, Caller::new(&database, "ada", 2).await];
    let sent = json!({
        "user_id": "ada", "t": "quote ' \" \\ \u{1} é 😀", "i2": -32768, "i8": 4_000_000_000_000_000_003_i64, "n": "12345678901234567890.123456789",
        "n2": 0.99, "b": true, "f4": 0.1, "f8": 1e308, "at": "2026-01-01T00:00:00.123456Z", "plain": "2026-01-01 10:00:00",
        "d": "2026-02-28", "j": {"a": [1, null, {"b": "c"}]}, "tags": ["x", "y,z", "q\"", null],
        "bytes": {"$blob": "AP8QgA=="}, "m": "good", "code": null
    });
    let results = ada.push(json!([entry(1, ID, "upsert", sent.clone())])).await;
    assert_eq!(status(&results[0]), "applied", "{results:?}");
    let mut expected = sent;
    // What the database makes itself comes back.
    expected["twice"] = json!(8_000_000_000_000_000_006_i64);
    assert_eq!(results[0]["record"], expected);
    let results = ada.push(json!([entry(2, ID, "patch", json!({"i8": 21}))])).await;
    expected["i8"] = json!(21);
    expected["twice"] = json!(42);
    assert_eq!(results[0]["record"], expected);
    assert_eq!(tablet.records("everything").await[ID], expected);
}

#[tokio::test]
async fn overflow_is_refused_and_names_no_other_record() {
    let database = Database::installed().await;
    database.sql(TYPES).await;
    let ada = Caller::new(&database, "ada", 1).await;
    // twice = i8 * 2 overflows; a word is no number; an enum has its labels; a date has days.
    for (counter, data, code) in [
        (1, json!({"i8": i64::MAX}), "invalid"),
        (2, json!({"i8": "many"}), "invalid"),
        (3, json!({"m": "so so"}), "invalid"),
        (4, json!({"d": "2026-02-30"}), "invalid"),
        (5, json!({"nothing": 1}), "unknown_column"),
        (6, json!({"user_id": "bob"}), "forbidden"),
    ] {
        let results = ada.push(json!([entry(counter, ID, "upsert", data)])).await;
        assert_eq!(statuses(&results), [code], "{counter}: {results:?}");
    }
    let results = ada
        .push(json!([
            entry(7, "not a uuid", "upsert", json!({})),
            entry(8, &ID.to_uppercase(), "upsert", json!({}))
        ]))
        .await;
    assert_eq!(statuses(&results), ["invalid", "invalid"], "an id is written as the key is: {results:?}");
    assert_eq!(ada.records("everything").await, json!({}));
}

#[tokio::test]
async fn what_any_program_changes_reaches_devices() {
    let database = Database::installed().await;
    let sql = "CREATE TABLE t (a int, b text, user_id text, n int, PRIMARY KEY (a, b)); GRANT ALL ON t TO authenticated;
               INSERT INTO t VALUES (1, 'was here', 'ada', 0), (2, 'nobody''s', NULL, 0);
               SELECT dynos_track('t', 'user_id')";
    database.sql(sql).await;
    let [ada, bob] = [Caller::new(&database, "ada", 1).await, Caller::new(&database, "bob", 1).await];
    assert_eq!(ada.records("t").await, json!({"[1,\"was here\"]": {"user_id": "ada", "n": 0}}));
    let mut seen = ada.head("t").await;
    let changed = |id: &str, lives: bool| (id.to_owned(), lives);
    for (sql, expected) in [
        ("INSERT INTO t VALUES (3, 'x', 'ada', 1)", vec![changed("[3,\"x\"]", true)]),
        ("UPDATE t SET n = 2 WHERE a = 3", vec![changed("[3,\"x\"]", true)]),
        // A key that changes is another record.
        ("UPDATE t SET b = 'y' WHERE a = 3", vec![changed("[3,\"x\"]", false), changed("[3,\"y\"]", true)]),
        ("UPDATE t SET user_id = 'bob' WHERE a = 3", vec![changed("[3,\"y\"]", false)]),
        ("UPDATE t SET user_id = 'ada' WHERE a = 2", vec![changed("[2,\"nobody's\"]", true)]),
        (
            "INSERT INTO t VALUES (1, 'was here', 'ada', 5) ON CONFLICT (a, b) DO UPDATE SET n = 5",
            vec![changed("[1,\"was here\"]", true)],
        ),
        (
            "WITH gone AS (DELETE FROM t WHERE a = 2 RETURNING *) INSERT INTO t SELECT 9, b, user_id, n FROM gone",
            vec![changed("[2,\"nobody's\"]", false), changed("[9,\"nobody's\"]", true)],
        ),
        ("BEGIN; INSERT INTO t VALUES (5, 'z', 'ada', 1); ROLLBACK", vec![]),
        (
            "BEGIN; INSERT INTO t VALUES (6, 'z', 'ada', 1); DELETE FROM t WHERE a = 6; COMMIT",
            vec![changed("[6,\"z\"]", false)],
        ),
        (
            "SET CONSTRAINTS ALL IMMEDIATE; INSERT INTO t VALUES (7, 'z', 'ada', 1)",
            vec![changed("[7,\"z\"]", true)],
        ),
        ("COPY (SELECT 1) TO '/dev/null'", vec![]),
    ] {
        database.sql(sql).await;
        let mut changes = ada.changes("t", &seen).await;
        changes.sort();
        assert_eq!(changes, expected, "{sql}");
        seen = ada.head("t").await;
    }
    assert_eq!(bob.records("t").await, json!({"[3,\"y\"]": {"user_id": "bob", "n": 2}}));
    database.sql("TRUNCATE t").await;
    assert_eq!((ada.records("t").await, bob.records("t").await), (json!({}), json!({})));
    assert!(ada.changes("t", &seen).await.iter().all(|(_, lives)| !lives), "a deletion of each");
}

#[tokio::test]
async fn what_the_database_does_on_its_own_reaches_the_author_too() {
    let database = Database::installed().await;
    let sql = "CREATE TABLE parent (id int PRIMARY KEY, user_id text NOT NULL DEFAULT 'x', children int DEFAULT 0);
        CREATE TABLE child (id int PRIMARY KEY, user_id text NOT NULL, parent int NOT NULL REFERENCES parent ON DELETE CASCADE,
                            made text DEFAULT 'by default', shout text);
        CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.shout := upper(NEW.shout); RETURN NEW; END $$;
        CREATE TRIGGER loud BEFORE INSERT OR UPDATE ON child FOR EACH ROW EXECUTE FUNCTION loud();
        -- A name that only the session's search path finds, as people write them.
        CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE parent SET children = children + 1 WHERE id = NEW.parent; RETURN NULL; END $$;
        CREATE TRIGGER counted AFTER INSERT ON child FOR EACH ROW EXECUTE FUNCTION counted();
        GRANT ALL ON parent, child TO authenticated;
        SELECT dynos_track('parent', 'user_id'), dynos_track('child', 'user_id')";
    database.sql(sql).await;
    let [ada, tablet] = [Caller::new(&database, "ada", 1).await, Caller::new(&database, "ada", 2).await];
    let parent = Caller::entry(1, "parent", "1", "upsert", json!({"user_id": "ada", "children": 0}));
    assert_eq!(statuses(&ada.push(json!([parent])).await), ["applied"]);
    let seen = ada.head("parent").await;
    let child =
        Caller::entry(2, "child", "7", "upsert", json!({"user_id": "ada", "parent": 1, "shout": "hey"}));
    let answer = ada.answer(json!([child])).await;
    let record = json!({"user_id": "ada", "parent": 1, "made": "by default", "shout": "HEY"});
    assert_eq!(answer["results"][0]["record"], record, "the stored form");
    // The parent was changed by the database, not by the device: it is pulled.
    let page = ada
        .call("pull", &json!({"replica": ada.replica, "table": "parent", "cursor": seen, "limit": 10}))
        .await
        .unwrap();
    assert_eq!(page["changes"][0]["record"]["children"], 1, "{page}");
    let patch = Caller::entry(3, "child", "7", "patch", json!({"shout": "hoho"}));
    assert_eq!(ada.push(json!([patch])).await[0]["record"]["shout"], "HOHO");
    // A cascade reaches everybody.
    let (head, cursor) = (tablet.head("child").await, ada.head("child").await);
    let mut gone = Caller::entry(4, "parent", "1", "delete", Value::Null);
    assert_eq!(
        statuses(&ada.push(json!([gone.clone()])).await),
        ["conflict"],
        "it has not seen that the parent changed"
    );
    gone["base"] = ada.head("parent").await;
    assert_eq!(statuses(&ada.push(json!([gone])).await), ["applied"]);
    for caller in [&ada, &tablet] {
        let cursor = if caller.replica == ada.replica { &cursor } else { &head };
        let page = caller
            .call(
                "pull",
                &json!({"replica": caller.replica, "table": "child", "cursor": cursor, "limit": 10}),
            )
            .await
            .unwrap();
        assert_eq!(page["changes"][0]["id"], "7", "{page}");
        assert_eq!(page["changes"][0].get("record"), None);
    }
}

#[tokio::test]
async fn children_that_a_cascade_took_before_their_turn_are_deleted_all_the_same() {
    let database = Database::installed().await;
    let sql = "CREATE TABLE parent (id int PRIMARY KEY, user_id text NOT NULL);
        CREATE TABLE child (id int PRIMARY KEY, user_id text NOT NULL, parent int NOT NULL REFERENCES parent ON DELETE CASCADE);
        INSERT INTO parent VALUES (1, 'ada'); INSERT INTO child VALUES (10, 'ada', 1), (11, 'ada', 1);
        GRANT ALL ON parent, child TO authenticated;
        SELECT dynos_track('parent', 'user_id'), dynos_track('child', 'user_id')";
    database.sql(sql).await;
    let ada = Caller::new(&database, "ada", 1).await;
    let bases = json!({"parent": ada.head("parent").await, "child": ada.head("child").await});
    let entries = [("parent", "1"), ("child", "10"), ("child", "11")].into_iter().zip(1..).map(
        |((table, id), counter)| {
            let mut entry = Caller::entry(counter, table, id, "delete", Value::Null);
            entry["base"] = bases[table].clone();
            entry
        },
    );
    assert_eq!(statuses(&ada.push(entries.collect()).await), ["applied"; 3]);
    assert_eq!(ada.records("child").await, json!({}));
}

#[tokio::test]
async fn a_side_effect_in_the_same_table_is_not_skipped() {
    let database = Database::installed().await;
    let sql = "CREATE TABLE t (id int PRIMARY KEY, user_id text NOT NULL, current bool);
        CREATE FUNCTION only_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            UPDATE t SET current = false WHERE current AND id <> NEW.id; RETURN NULL; END $$;
        CREATE TRIGGER only_one AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION only_one();
        GRANT ALL ON t TO authenticated; SELECT dynos_track('t', 'user_id')";
    database.sql(sql).await;
    let ada = Caller::new(&database, "ada", 1).await;
    let entry = |counter: u64| {
        Caller::entry(
            counter,
            "t",
            &counter.to_string(),
            "upsert",
            json!({"user_id": "ada", "current": true}),
        )
    };
    let first = ada.answer(json!([entry(1)])).await;
    let cursor = first["heads"]["t"]["after"].clone();
    let second = ada.answer(json!([entry(2)])).await;
    assert_ne!(
        second["heads"]["t"]["before"], cursor,
        "the device has to pull, and must not jump over the first record's change"
    );
    let request = json!({"replica": ada.replica, "table": "t", "cursor": cursor, "limit": 10});
    let page = ada.call("pull", &request).await.unwrap();
    assert_eq!(page["changes"][0]["record"], json!({"user_id": "ada", "current": false}), "{page}");
}

#[tokio::test]
async fn constraints_refuse_one_entry_and_let_the_others_pass() {
    let database = Database::installed().await;
    let sql = "CREATE TABLE list (id int PRIMARY KEY, user_id text NOT NULL);
        CREATE TABLE item (id int PRIMARY KEY, user_id text NOT NULL, list int NOT NULL REFERENCES list DEFERRABLE INITIALLY DEFERRED,
                           name text UNIQUE, n int CHECK (n > 0));
        CREATE FUNCTION no_seven() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.n = 7 THEN RAISE EXCEPTION 'seven is taken'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER no_seven BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION no_seven();
        GRANT ALL ON list, item TO authenticated;
        INSERT INTO list VALUES (1, 'ada'); INSERT INTO item VALUES (100, 'ada', 1, 'taken', 1);
        SELECT dynos_track('list', 'user_id'), dynos_track('item', 'user_id')";
    database.sql(sql).await;
    let ada = Caller::new(&database, "ada", 1).await;
    let entry =
        |counter: u64, data: Value| Caller::entry(counter, "item", &counter.to_string(), "upsert", data);
    let item = |list: i32, name: &str, n: i32| json!({"user_id": "ada", "list": list, "name": name, "n": n});
    let results = ada
        .push(json!([
            entry(1, item(1, "a", 1)),
            entry(2, item(1, "taken", 1)),
            entry(3, item(1, "b", 0)),
            entry(4, item(2, "c", 1)),
            entry(5, json!({"user_id": "ada", "name": "d", "n": 1})),
            entry(6, item(1, "e", 7)),
            entry(7, item(1, "f", 1)),
        ]))
        .await;
    let expected =
        ["applied", "constraint", "constraint", "constraint", "constraint", "constraint", "applied"];
    assert_eq!(statuses(&results), expected, "{results:?}");
    assert!(results[5]["message"].as_str().unwrap().contains("seven is taken"));
    let records = ada.records("item").await;
    assert_eq!(records.as_object().unwrap().keys().collect::<Vec<_>>(), ["1", "100", "7"]);
    // A child before its parent in one batch: the constraint is deferred, and holds in the end.
    let results = ada
        .push(json!([
            entry(8, item(9, "g", 1)),
            Caller::entry(9, "list", "9", "upsert", json!({"user_id": "ada"}))
        ]))
        .await;
    assert_eq!(statuses(&results), ["applied", "applied"], "{results:?}");
}

#[tokio::test]
async fn a_table_is_tracked_on_purpose() {
    let database = Database::installed().await;
    database.sql("CREATE TABLE secrets (id int PRIMARY KEY, word text); CREATE TABLE keyless (x int);
                  CREATE TABLE odd (at timestamptz PRIMARY KEY, user_id text); CREATE VIEW seen AS SELECT * FROM secrets").await;
    let client = database.client().await;
    for (sql, problem) in [
        ("SELECT dynos_track('secrets')", "say shared => true"),
        ("SELECT dynos_track('secrets', 'user_id')", "no column"),
        ("SELECT dynos_track('secrets', 'word', shared => true)", "say shared => true"),
        ("SELECT dynos_track('keyless', 'x')", "no primary key"),
        ("SELECT dynos_track('odd', 'user_id')", "no device can keep"),
        ("SELECT dynos_track('seen', 'word')", "not a table"),
        ("SELECT dynos_track('secrets', 'word', name => 'dynos_x')", "not a name"),
    ] {
        let error = client.batch_execute(sql).await.expect_err(sql);
        let message = error.as_db_error().unwrap().message().to_owned();
        assert!(message.contains(problem), "{sql}: {message}");
    }
    let ada = Caller::new(&database, "ada", 1).await;
    let declare = json!({"tables": [{"name": "secrets", "shape": {"kind": "document"}}]});
    let error = ada.call("declare", &declare).await.expect_err("a table of the database's own");
    assert!(error.as_db_error().unwrap().message().contains("is not synced"), "{error:?}");
    assert_eq!(ada.records("secrets").await, json!({}));
}

#[tokio::test]
async fn a_table_that_was_tracked_before_is_compared() {
    let database = Database::installed().await;
    database.sql("CREATE TABLE t (id int PRIMARY KEY, user_id text, n int); GRANT ALL ON t TO authenticated;
                  INSERT INTO t SELECT g, 'ada', g FROM generate_series(1, 5) g; SELECT dynos_track('t', 'user_id')").await;
    let ada = Caller::new(&database, "ada", 1).await;
    let head = ada.head("t").await;
    database.sql("SELECT dynos_track('t', 'user_id')").await;
    assert_eq!(ada.head("t").await, head, "nothing was missed");
    database.sql("ALTER TABLE t DISABLE TRIGGER USER; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (6, 'ada', 6);
                  ALTER TABLE t ENABLE TRIGGER USER; SELECT dynos_track('t', 'user_id')").await;
    let mut changes = ada.changes("t", &head).await;
    changes.sort();
    assert_eq!(changes, [("1".to_owned(), false), ("6".to_owned(), true)]);
    database.sql("SELECT dynos_untrack('t'); UPDATE t SET n = 0; SELECT dynos_track('t', 'user_id')").await;
    assert_eq!(ada.records("t").await["3"]["n"], 0);
}

#[tokio::test]
async fn the_owner_may_be_left_out_on_devices() {
    let database = Database::installed().await;
    database
        .sql(
            "CREATE TABLE t (id int PRIMARY KEY, user_id text NOT NULL, n int NOT NULL);
                  GRANT ALL ON t TO authenticated; SELECT dynos_track('t', 'user_id')",
        )
        .await;
    let ada = Caller::new(&database, "ada", 1).await;
    let tables = ada.call("tables", &Value::Null).await.unwrap();
    let columns = tables["tables"][0]["shape"]["columns"].as_array().unwrap();
    let required: Vec<_> =
        columns.iter().filter(|column| column["not_null"] == true).map(|column| &column["name"]).collect();
    assert_eq!(required, ["id", "n"]);
    let results =
        ada.push(json!([Caller::entry(1, "t", "1", "upsert", json!({"user_id": null, "n": 1}))])).await;
    assert_eq!(statuses(&results), ["applied"], "{results:?}");
    assert_eq!(ada.records("t").await, json!({"1": {"user_id": "ada", "n": 1}}));
}

/// A table, a device that has pulled its first row and not yet that another one came and the first went.
async fn behind() -> (Database, Caller, Value) {
    let database = Database::installed().await;
    database.sql("CREATE TABLE t (id int PRIMARY KEY, user_id text, n int); GRANT ALL ON t TO authenticated;
                  INSERT INTO t VALUES (1, 'ada', 1), (2, 'ada', 2), (3, 'ada', 3); SELECT dynos_track('t', 'user_id')").await;
    let ada = Caller::new(&database, "ada", 1).await;
    let declare = json!({"tables": [{"name": "t", "shape": {"kind": "columns", "key": ["id"], "columns": [
        {"name": "id", "type": "INTEGER"}, {"name": "user_id", "type": "TEXT"}, {"name": "n", "type": "INTEGER"}]}}]});
    ada.call("declare", &declare).await.unwrap();
    let head = ada.head("t").await;
    database.sql("DELETE FROM t WHERE id = 1; UPDATE t SET n = 20 WHERE id = 2").await;
    (database, ada, head)
}

#[tokio::test]
async fn of_a_table_that_is_no_longer_tracked_devices_keep_what_they_have() {
    for stop in ["SELECT dynos_untrack('t')", "DROP TABLE t"] {
        let (database, ada, cursor) = behind().await;
        database.sql(stop).await;
        let page = ada.page("t", &cursor, 10).await;
        assert_eq!((&page["changes"], &page["next"]), (&json!([]), &cursor), "{stop}");
        let results = ada
            .push(json!([
                Caller::entry(1, "t", "2", "patch", json!({"n": 5})),
                Caller::entry(2, "t", "9", "upsert", json!({"n": 5})),
            ]))
            .await;
        assert_eq!(statuses(&results), ["unknown_table"; 2], "{stop}: {results:?}");
    }
}

#[tokio::test]
async fn what_came_and_went_while_a_table_was_not_tracked_is_told_when_it_is_again() {
    let (database, ada, cursor) = behind().await;
    database
        .sql("SELECT dynos_untrack('t'); DELETE FROM t WHERE id = 3; SELECT dynos_track('t', 'user_id')")
        .await;
    let mut changes = ada.changes("t", &cursor).await;
    changes.sort();
    assert_eq!(changes, [("1".to_owned(), false), ("2".to_owned(), true), ("3".to_owned(), false)]);
}

#[tokio::test]
async fn the_name_of_a_table_that_was_dropped_is_free_once_it_is_untracked() {
    let (database, ada, cursor) = behind().await;
    database.sql("DROP TABLE t").await;
    let declare = json!({"tables": [{"name": "t", "shape": {"kind": "document"}}]});
    let error = ada.call("declare", &declare).await.expect_err("the table was dropped");
    let error = error.as_db_error().unwrap();
    assert!(error.hint().unwrap().contains("dynos_untrack('t')"), "{error}");
    database.sql("SELECT dynos_untrack('t')").await;
    ada.call("declare", &declare).await.unwrap();
    ada.push(json!([Caller::entry(1, "t", "9", "upsert", json!({"n": 5}))])).await;
    // Nor are the rows of the table, which devices may still have, taken for documents that were deleted.
    let changes = ada.changes("t", &cursor).await;
    assert_eq!(changes, [("1".to_owned(), false), ("9".to_owned(), true)]);
}

#[tokio::test]
async fn a_table_with_owners_is_not_shared_by_its_name() {
    let (database, ada, _) = behind().await;
    let error =
        database.client().await.batch_execute("SELECT dynos_share('t')").await.expect_err("it has owners");
    assert!(error.as_db_error().unwrap().message().contains("owner column"), "{error:?}");
    // And documents that were shared give way to a table that has owners.
    database.sql("SELECT dynos_untrack('t'), dynos_share('t'); SELECT dynos_track('t', 'user_id')").await;
    assert_eq!(ada.records("t").await["2"]["n"], 20);
}

#[tokio::test]
async fn documents_may_be_edited_with_plain_sql() {
    let database = Database::installed().await;
    let ada = Caller::new(&database, "ada", 1).await;
    ada.call("declare", &json!({"tables": [{"name": "notes", "shape": {"kind": "document"}}]}))
        .await
        .unwrap();
    ada.push(json!([Caller::entry(1, "notes", "a", "upsert", json!({"n": 1}))])).await;
    let head = ada.head("notes").await;
    database.sql("UPDATE dynos.document SET data = (data::jsonb || '{\"n\": 2}')::json WHERE id = 'a'").await;
    assert_eq!(ada.changes("notes", &head).await, [("a".to_owned(), true)]);
    assert_eq!(ada.records("notes").await, json!({"a": {"n": 2}}));
}

#[tokio::test]
async fn installing_twice_changes_nothing_and_uninstalling_leaves_the_tables() {
    let database = Database::installed().await;
    database.sql(TYPES).await;
    let ada = Caller::new(&database, "ada", 1).await;
    ada.push(json!([entry(1, ID, "upsert", json!({"user_id": "ada", "t": "kept"}))])).await;
    let head = ada.head("everything").await;
    database.sql(&dynos_sync_sql::script()).await;
    let ada = Caller::new(&database, "ada", 1).await;
    assert_eq!(ada.head("everything").await, head);
    database.sql(dynos_sync_sql::UNINSTALL).await;
    assert_eq!(database.number("SELECT count(*) FROM everything").await, 1);
    let left = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'dynos%'";
    assert_eq!(database.number(left).await, 0);
    database.sql("UPDATE everything SET t = 'free'").await;
    database.sql(&dynos_sync_sql::script()).await;
}
