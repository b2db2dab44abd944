//! Pushing to tables as they are.

use dynos_sync_core::{Operation, wire::PushEntry, wire::PushResult};
use serde_json::json;

use super::table::{Table, outcome};
use crate::support::User;

#[tokio::test]
async fn what_one_device_writes_another_one_reads() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let (mut one, two) = (table.device(&user).await, table.device(&user).await);
    let entries = (0..500)
        .map(|n| one.upsert(&format!("r{n}"), json!({"title": format!("row {n}"), "size": 1})))
        .collect();
    assert_eq!(one.outcomes(entries).await, vec!["applied"; 500]);
    let (records, seen) = two.pull_from(None, 100).await;
    assert_eq!(records.len(), 500);

    let patch = one.entry(Operation::Patch, "r7", json!({"done": true}));
    let delete = one.entry(Operation::Delete, "r8", json!({}));
    let again = one.upsert("r9", json!({"title": "again"}));
    assert_eq!(
        one.outcomes(vec![patch, delete, again]).await,
        ["applied"; 3],
        "its own writes are in nobody's way"
    );
    let (records, _) = two.pull_from(Some(seen), 100).await;
    assert_eq!(records.len(), 3, "{records:?}");
    for (id, record) in records {
        match (id.as_str(), record) {
            ("r7", Some(record)) => {
                assert_eq!((&record["title"], &record["done"]), (&json!("row 7"), &json!(true)));
            }
            ("r8", None) => {}
            ("r9", Some(record)) => {
                assert_eq!((&record["title"], &record["size"]), (&json!("again"), &json!(1)));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn newer_data_on_the_server_is_not_overwritten() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let (mut one, mut two) = (table.device(&user).await, table.device(&user).await);
    one.edit(None, Operation::Upsert, "r", json!({"title": "first"})).await;
    let (_, seen) = two.pull_from(None, 10).await;
    one.edit(None, Operation::Patch, "r", json!({"title": "newer"})).await;
    for (op, data) in [
        (Operation::Patch, json!({"title": "older"})),
        (Operation::Upsert, json!({"title": "older"})),
        (Operation::Replace, json!({"title": "older"})),
        (Operation::Delete, json!({})),
    ] {
        for base in [None, Some(&seen)] {
            assert_eq!(outcome(&two.edit(base, op, "r", data.clone()).await), "conflict", "{op:?}");
        }
    }
    assert_eq!(two.title_of("r").await, Some(json!("newer")));
    let (_, seen) = two.pull_from(Some(seen), 10).await;
    assert_eq!(
        outcome(&two.edit(Some(&seen), Operation::Patch, "r", json!({"title": "newest"})).await),
        "applied"
    );
    assert_eq!(one.title_of("r").await, Some(json!("newest")));
}

#[tokio::test]
async fn a_write_from_the_web_is_in_the_way_of_an_edit_that_has_not_seen_it() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    device.edit(None, Operation::Upsert, "r", json!({"title": "mine"})).await;
    table.sql("update TABLE set title = 'from the web', updated_at = now()");
    assert_eq!(
        outcome(&device.edit(None, Operation::Patch, "r", json!({"title": "mine again"})).await),
        "conflict"
    );
    assert_eq!(table.sql("select title from TABLE"), "from the web");
}

/// Nobody remembers what was pushed: that it is there is seen by looking.
#[tokio::test]
async fn what_is_pushed_again_after_a_lost_answer_is_found_to_be_there() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut before = table.device(&user).await;
    let entries = vec![
        before.upsert("new", json!({"title": "new", "price": 3.0})),
        before.upsert("gone", json!({"title": "gone"})),
    ];
    before.outcomes(entries.clone()).await;
    let delete = vec![before.entry(Operation::Delete, "gone", json!({}))];
    before.outcomes(delete.clone()).await;
    let written = table.sql("select id, title, updated_at from TABLE order by id");

    // Another remote, as after a restart: it knows nothing of the answers.
    let after = table.device(&user).await;
    let answer = after.push(vec![entries[0].clone(), delete[0].clone()]).await;
    assert!(
        matches!(&answer.results[..], [PushResult::Duplicate { record: Some(record), .. }, PushResult::Duplicate { .. }]
            if record["title"] == "new"),
        "{answer:?}"
    );
    assert_eq!(
        table.sql("select id, title, updated_at from TABLE order by id"),
        written,
        "nothing is written twice"
    );
}

#[tokio::test]
async fn rows_come_after_those_that_they_refer_to_or_make_room_for() {
    let table = Table::with("parent text references TABLE_parent, code text unique");
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    let parent =
        |entry: PushEntry| PushEntry { table: format!("{}_parent", table.name).parse().unwrap(), ..entry };
    let entries = vec![
        device.upsert("lonely", json!({"parent": null, "code": "x"})),
        parent(device.upsert("p", json!({}))),
        device.upsert("child", json!({"parent": "p", "code": null})),
    ];
    assert_eq!(device.outcomes(entries).await, ["applied"; 3], "though the child travels before its parent");
    let entries = vec![
        device.upsert("other", json!({"parent": null, "code": null})),
        device.entry(Operation::Patch, "lonely", json!({"code": "y"})),
        device.upsert("heir", json!({"parent": null, "code": "x"})),
    ];
    assert_eq!(device.outcomes(entries).await, ["applied"; 3], "the code was given up");
    assert_eq!(table.sql("select count(*) from TABLE"), "4");
}

#[tokio::test]
async fn the_order_of_one_records_entries_is_kept() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    let entries = vec![
        device.upsert("r", json!({"title": "1", "size": 1})),
        device.entry(Operation::Patch, "r", json!({"title": "2"})),
        device.entry(Operation::Delete, "r", json!({})),
        device.upsert("r", json!({"title": "3"})),
        device.entry(Operation::Patch, "r", json!({"done": true})),
    ];
    let answer = device.push(entries).await;
    assert!(answer.results.iter().all(|result| outcome(result) == "applied"), "{answer:?}");
    assert_eq!(table.sql("select title, done, deleted_at is null from TABLE"), "3|t|t");
}
