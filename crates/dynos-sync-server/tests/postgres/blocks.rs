//! Pushes of many entries, which are judged, written and numbered together: each entry has its own verdict all the same.

use dynos_sync_core::{Value, json};

use crate::{
    caller::{Caller, status, statuses},
    database::Database,
    support::within,
};

const SCHEMA: &str = "
    CREATE TABLE task (id text PRIMARY KEY, user_id text NOT NULL, title text UNIQUE, n bigint DEFAULT 0 CHECK (n < 1000));
    CREATE TABLE step (id int PRIMARY KEY, user_id text, task text REFERENCES task DEFERRABLE INITIALLY DEFERRED);
    GRANT ALL ON task, step TO authenticated;
    SELECT dynos_track('task', 'user_id'), dynos_track('step', 'user_id')";

fn task(counter: u64, fields: Value) -> Value {
    Caller::entry(counter, "task", &format!("t{counter}"), "upsert", fields)
}

fn seqs(results: &[Value]) -> Vec<u64> {
    results
        .iter()
        .filter(|result| result["status"] == "applied")
        .map(|it| it["seq"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn entries_of_all_kinds_keep_their_order_and_their_verdicts() {
    let database = Database::installed().await;
    database.sql(SCHEMA).await;
    let [ada, tablet] = [Caller::new(&database, "ada", 1).await, Caller::new(&database, "ada", 2).await];
    ada.call("declare", &json!({"tables": [{"name": "notes", "shape": {"kind": "document"}}]}))
        .await
        .unwrap();
    let repeated = task(1, json!({"title": "first", "user_id": "ada"}));
    assert_eq!(statuses(&ada.push(json!([repeated])).await), ["applied"]);
    let entry = Caller::entry;
    let theirs = entry(1, "task", "theirs", "upsert", json!({"title": "theirs", "user_id": "ada"}));
    assert_eq!(statuses(&tablet.push(json!([theirs])).await), ["applied"]);
    let results = ada
        .push(json!([
            task(2, json!({"n": 2, "title": "b", "user_id": "ada"})),
            repeated,
            entry(3, "task", "theirs", "upsert", json!({"title": "mine", "user_id": "ada"})),
            task(4, json!({"title": "d", "colour": "red"})),
            entry(5, "notes", "n", "upsert", json!({"x": {"y": [1, -0.0]}})),
            entry(6, "task", "t2", "patch", json!({"title": "b again"})),
            entry(7, "task", "nowhere", "patch", json!({"title": "e"})),
            // Stored otherwise than it was sent, and stored with more than was sent.
            task(8, json!({"n": "8", "title": "f", "user_id": "ada"})),
            task(9, json!({"title": "g"})),
            entry(10, "task", "gone", "delete", Value::Null),
            entry(11, "nothing", "x", "upsert", json!({})),
            entry(12, "task", "t2", "delete", Value::Null),
            task(13, json!({"n": 13, "title": "h", "user_id": "ada"})),
            task(14, json!({"title": "i", "user_id": "bob"})),
            entry(15, "notes", "n", "patch", json!({"z": 1.0})),
            task(16, json!({"n": 1, "title": null, "user_id": "ada"})),
        ]))
        .await;
    let expected = [
        "applied",
        "duplicate",
        "conflict",
        "unknown_column",
        "applied",
        "applied",
        "not_found",
        "applied",
        "applied",
        "applied",
        "unknown_table",
        "applied",
        "applied",
        "forbidden",
        "applied",
        "applied",
    ];
    assert_eq!(statuses(&results), expected, "{results:?}");
    // What is written of a record for the first time is numbered in the order of the edits, then what follows on it.
    assert_eq!(seqs(&results), [3, 4, 10, 5, 6, 7, 12, 8, 11, 9], "{results:?}");
    let shown = |n: usize| results[n].get("record");
    assert_eq!(shown(7), Some(&json!({"user_id": "ada", "title": "f", "n": 8})));
    assert_eq!(shown(8), Some(&json!({"user_id": "ada", "title": "g", "n": 0})));
    assert!([0, 4, 5, 9, 11, 12, 14, 15].iter().all(|n| shown(*n).is_none()), "{results:?}");
    let records = ada.records("task").await;
    assert_eq!(records["t13"], json!({"user_id": "ada", "title": "h", "n": 13}));
    assert_eq!((records.get("t2"), records.get("t14")), (None, None));
    assert_eq!(ada.records("notes").await, json!({"n": {"x": {"y": [1, -0.0]}, "z": 1.0}}));
}

#[tokio::test]
async fn one_row_that_breaks_a_constraint_leaves_the_block_as_it_was_and_is_remembered() {
    let database = Database::installed().await;
    database.sql(SCHEMA).await;
    let ada = Caller::new(&database, "ada", 1).await;
    let entries = |odd: &[(u64, Value)]| -> Value {
        (1..=200)
            .map(|n| {
                let fields = json!({"n": n, "title": format!("title {n}"), "user_id": "ada"});
                odd.iter()
                    .find(|(at, _)| *at == n)
                    .map_or_else(|| task(n, fields), |(_, entry)| entry.clone())
            })
            .collect()
    };
    let bad = entries(&[
        (50, task(50, json!({"title": "title 49"}))),
        (120, task(120, json!({"n": 1000, "title": "too much"}))),
        // What is checked at the commit only.
        (150, Caller::entry(150, "step", "1", "upsert", json!({"task": "nowhere"}))),
        (151, Caller::entry(151, "step", "2", "upsert", json!({"task": "t1"}))),
    ]);
    let results = ada.push(bad.clone()).await;
    assert_eq!(results.len(), 200);
    let refused = |n: u64| [50, 120, 150].contains(&n);
    for (result, n) in results.iter().zip(1..) {
        assert_eq!(status(result), if refused(n) { "constraint" } else { "applied" }, "{n}: {result:?}");
    }
    assert_eq!(seqs(&results), (1..=197).collect::<Vec<u64>>());
    let again = ada.push(bad).await;
    for ((result, before), n) in again.iter().zip(&results).zip(1..) {
        assert_eq!(status(result), if refused(n) { "constraint" } else { "duplicate" }, "{n}: {result:?}");
        assert_eq!(result["seq"], before["seq"], "{n}");
    }
    assert_eq!(database.number("SELECT count(*) FROM task").await, 197 - 1);
    assert_eq!(database.number("SELECT count(*) FROM dynos.outcome").await, 200);
    assert_eq!(database.number("SELECT count(*) FROM dynos.note").await, 0);
}

/// Both have judged their entries when one of them is numbered: the other has to look again.
#[tokio::test]
async fn who_is_slower_finds_that_the_record_was_changed_meanwhile() {
    let database = Database::installed().await;
    let [ada, tablet] = [Caller::new(&database, "ada", 1).await, Caller::new(&database, "ada", 2).await];
    ada.call("declare", &json!({"tables": [{"name": "notes", "shape": {"kind": "document"}}]}))
        .await
        .unwrap();
    let (phone, watch) = (database.client().await, database.client().await);
    for (round, expected) in
        [(1, ["applied", "conflict", "applied"]), (2, ["applied", "conflict", "applied"])]
    {
        let base = ada.head("notes").await;
        let note = |counter: u64, id: &str| {
            let mut entry = Caller::entry(counter, "notes", id, "upsert", json!({"round": round}));
            entry["base"] = base.clone();
            entry
        };
        // A record that is new in the first round, and known to both in the second.
        let faster = json!({"replica": tablet.replica, "entries": [note(round, "both")]}).to_string();
        phone.batch_execute("BEGIN").await.unwrap();
        let sql = "SELECT dynos.call('ada', 'authenticated', 'push', $1::text::json)::text";
        phone.query_one(sql, &[&faster]).await.unwrap();
        let slower =
            json!([note(10 * round, "before"), note(10 * round + 1, "both"), note(10 * round + 2, "after")]);
        let commit = async {
            within(one_waits(&watch)).await;
            phone.batch_execute("RESET ROLE; COMMIT").await.unwrap();
        };
        let (results, ()) = tokio::join!(ada.push(slower), commit);
        assert_eq!(statuses(&results), expected, "{round}: {results:?}");
        assert_eq!(results[1]["seq"], json!(3 * round - 2), "{results:?}");
        assert_eq!(seqs(&results), [3 * round - 1, 3 * round], "{results:?}");
    }
}

/// Until somebody waits for a lock in this database.
async fn one_waits(watch: &tokio_postgres::Client) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while watch.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
}
