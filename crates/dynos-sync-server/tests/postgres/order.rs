//! Commit order under concurrency: a reader that pages never skips a row, whoever commits when.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use dynos_sync_core::Value;
use tokio_postgres::Client;

use crate::{caller::Caller, database::Database};

const WRITERS: u64 = 12;
const TRANSACTIONS: u64 = 60;

/// Numbers that look random, the same each time.
fn dice(writer: u64, round: u64, what: u64) -> u64 {
    let mut x = (writer << 40 ^ round << 8 ^ what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

/// Transactions of several statements over both tables and both users, some slow, some rolled back, some in parts.
async fn write(client: &Client, writer: u64) {
    for round in 0..TRANSACTIONS {
        let roll = |what| dice(writer, round, what);
        client.batch_execute("BEGIN").await.unwrap();
        for statement in 0..1 + roll(1) % 4 {
            // Each writer has rows of its own: waiting for one another's rows is not what this is about.
            let (id, table) = (
                writer * 1000 + roll(10 + statement) % 40,
                ["one", "two"][(roll(20 + statement) % 2) as usize],
            );
            let owner = ["ada", "bob"][(id % 2) as usize];
            let sql = match roll(30 + statement) % 5 {
                0 => format!("DELETE FROM {table} WHERE id = {id}"),
                1 => format!(
                    "SAVEPOINT s; INSERT INTO {table} VALUES ({}, '{owner}', -1); ROLLBACK TO s",
                    id + 500
                ),
                _ => format!(
                    "INSERT INTO {table} VALUES ({id}, '{owner}', {round})
                     ON CONFLICT (id) DO UPDATE SET n = excluded.n"
                ),
            };
            client.batch_execute(&sql).await.unwrap();
        }
        if roll(2) % 6 == 0 {
            client.batch_execute("SELECT pg_sleep(0.02)").await.unwrap();
        }
        client.batch_execute(if roll(3) % 5 == 0 { "ROLLBACK" } else { "COMMIT" }).await.unwrap();
    }
}

/// Pages from where it stands, for as long as anybody writes, and then to the end.
async fn follow(caller: &Caller, table: &str, writing: &AtomicBool) -> BTreeMap<String, Value> {
    let (mut seen, mut cursor, mut newest) = (BTreeMap::new(), Value::Null, 0);
    loop {
        let last = !writing.load(Ordering::SeqCst);
        let page = caller.page(table, &cursor, 7).await;
        for change in page["changes"].as_array().unwrap() {
            let seq = change["seq"].as_u64().unwrap();
            assert!(seq > newest, "{seq} after {newest}");
            newest = seq;
            let id = change["id"].as_str().unwrap().to_owned();
            match change.get("record") {
                Some(record) => seen.insert(id, record.clone()),
                None => seen.remove(&id),
            };
        }
        cursor = page["next"].clone();
        if page["has_more"] == false {
            if last {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_ever_skips_a_row() {
    let database = Database::installed().await;
    for table in ["one", "two"] {
        let sql = format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, user_id text NOT NULL, n int);
             GRANT ALL ON {table} TO authenticated;
             SELECT dynos_track('{table}', 'user_id');"
        );
        database.sql(&sql).await;
    }
    let writing = AtomicBool::new(true);
    let writers = async {
        let all = (0..WRITERS).map(|writer| {
            let database = &database;
            async move { write(&database.client().await, writer).await }
        });
        futures_util::future::join_all(all).await;
        writing.store(false, Ordering::SeqCst);
    };
    let cases = ["ada", "bob"].into_iter().flat_map(|user| ["one", "two"].map(|table| (user, table)));
    let readers = cases.map(|(user, table)| {
        let (database, writing) = (&database, &writing);
        async move {
            let caller = Caller::new(database, user, 1).await;
            (user, table, follow(&caller, table, writing).await)
        }
    });
    let ((), followed) = tokio::join!(writers, futures_util::future::join_all(readers));
    let client = database.client().await;
    let mut total = 0;
    for (user, table, seen) in followed {
        let sql = format!("SELECT id::text, n FROM {table} WHERE user_id = $1 ORDER BY id");
        let rows = client.query(&sql, &[&user]).await.unwrap();
        let rows: BTreeMap<String, i32> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let seen: BTreeMap<String, i32> =
            seen.into_iter().map(|(id, record)| (id, record["n"].as_i64().unwrap() as i32)).collect();
        total += rows.len();
        assert_eq!(seen, rows, "{user} {table}");
    }
    assert!(total > 200, "too little was written: {total}");
    let notes: i64 = client.query_one("SELECT count(*) FROM dynos.note", &[]).await.unwrap().get(0);
    assert_eq!(notes, 0, "notes outlive no transaction");
}
