//! Tables that change while devices sync.

use dynos_sync_core::{Operation, Remote};
use serde_json::json;

use super::table::{Table, eventually, outcome};
use crate::support::User;

#[tokio::test]
async fn a_column_that_is_added_comes_along() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    device.edit(None, Operation::Upsert, "r", json!({"title": "x"})).await;
    table.sql("alter table TABLE add column colour text default 'blue'");
    table.supabase.reload();
    let (changes, _) = device.pull_from(None, 10).await;
    assert_eq!(changes[0].1.as_ref().unwrap()["colour"], "blue");
    eventually(async || {
        let result = device.edit(None, Operation::Patch, "r", json!({"colour": "red"})).await;
        (outcome(&result) == "applied").then_some(())
    })
    .await;
    assert_eq!(table.sql("select title, colour from TABLE"), "x|red");
}

#[tokio::test]
async fn a_column_that_is_dropped_or_renamed_refuses_what_names_it_alone() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    device.edit(None, Operation::Upsert, "r", json!({"title": "x", "size": 1})).await;
    table.sql("alter table TABLE drop column size; alter table TABLE rename column title to name");
    table.supabase.reload();
    eventually(async || {
        let entries = vec![
            device.entry(Operation::Patch, "r", json!({"size": 2})),
            device.entry(Operation::Patch, "r", json!({"title": "y"})),
            device.entry(Operation::Patch, "r", json!({"done": true})),
        ];
        let outcomes = device.outcomes(entries).await;
        (outcomes == ["unknown_column", "unknown_column", "applied"]).then_some(())
    })
    .await;
    let (changes, _) = device.pull_from(None, 10).await;
    let record = changes[0].1.as_ref().unwrap();
    assert_eq!((record.get("title"), &record["name"], &record["done"]), (None, &json!("x"), &json!(true)));
}

#[tokio::test]
async fn a_mark_for_deleted_rows_may_come_and_go() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    for id in ["a", "b"] {
        device.edit(None, Operation::Upsert, id, json!({"title": id})).await;
    }
    table.sql("alter table TABLE drop column deleted_at");
    table.supabase.reload();
    eventually(async || {
        let result = device.edit(None, Operation::Delete, "a", json!({})).await;
        (outcome(&result) == "applied" && table.sql("select count(*) from TABLE") == "1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_table_without_what_is_needed_says_what_that_is() {
    let table = Table::new();
    table.sql("alter table TABLE rename column updated_at to changed");
    table.supabase.reload();
    let user = User::new(&table.supabase);
    let device = crate::support::Device::new(table.remote(&user), &table.name);
    let error = device.remote.pull(device.page(None, 10)).await.unwrap_err();
    assert!(error.to_string().contains("needs columns id and updated_at"), "{error}");
    let nowhere = crate::support::Device::new(table.remote(&user), "there_is_no_such_table");
    assert!(nowhere.remote.pull(nowhere.page(None, 10)).await.is_err());
}
