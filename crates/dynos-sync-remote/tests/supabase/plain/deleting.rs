//! Deletions, with and without a column `deleted_at`.

use dynos_sync_core::Operation;
use serde_json::json;

use super::table::{Table, outcome};
use crate::support::User;

#[tokio::test]
async fn a_soft_deletion_travels_and_can_be_taken_back() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let (mut one, two) = (table.device(&user).await, table.device(&user).await);
    one.edit(None, Operation::Upsert, "r", json!({"title": "x"})).await;
    let (_, seen) = two.pull_from(None, 10).await;
    assert_eq!(outcome(&one.edit(None, Operation::Delete, "r", json!({})).await), "applied");
    let (changes, seen) = two.pull_from(Some(seen), 10).await;
    assert_eq!(changes, [("r".to_owned(), None)]);
    assert_eq!(table.sql("select title, deleted_at is not null from TABLE"), "x|t", "the row is kept");

    for op in [Operation::Upsert, Operation::Replace] {
        one.edit(None, Operation::Delete, "r", json!({})).await;
        assert_eq!(outcome(&one.edit(None, op, "r", json!({"title": "back"})).await), "applied", "{op:?}");
    }
    let (changes, _) = two.pull_from(Some(seen), 10).await;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].1.as_ref().unwrap()["title"], "back");
}

#[tokio::test]
async fn a_deletion_on_the_web_travels_where_it_is_marked() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    device.edit(None, Operation::Upsert, "r", json!({"title": "x"})).await;
    let (_, seen) = device.pull_from(None, 10).await;
    table.sql("update TABLE set deleted_at = now(), updated_at = now()");
    assert_eq!(device.pull_from(Some(seen), 10).await.0, [("r".to_owned(), None)]);
}

#[tokio::test]
async fn an_edit_of_what_somebody_deleted_is_a_conflict_or_not_found() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let (mut one, mut two) = (table.device(&user).await, table.device(&user).await);
    one.edit(None, Operation::Upsert, "r", json!({"title": "x"})).await;
    let (_, seen) = two.pull_from(None, 10).await;
    one.edit(None, Operation::Delete, "r", json!({})).await;
    for op in [Operation::Patch, Operation::Upsert] {
        assert_eq!(
            outcome(&two.edit(Some(&seen), op, "r", json!({"title": "y"})).await),
            "conflict",
            "{op:?}"
        );
    }
    let (_, seen) = two.pull_from(Some(seen), 10).await;
    let patch = two.edit(Some(&seen), Operation::Patch, "r", json!({"title": "y"})).await;
    assert_eq!(outcome(&patch), "not_found", "a patch brings nothing back");
    assert_eq!(table.sql("select title, deleted_at is not null from TABLE"), "x|t");
}

/// The bound: without a column that marks it, a deletion is seen by nobody but whoever edits the row.
#[tokio::test]
async fn a_hard_deletion_does_not_travel_but_is_found_by_an_edit() {
    let table = Table::with("title text");
    let user = User::new(&table.supabase);
    let (mut one, mut two) = (table.device(&user).await, table.device(&user).await);
    one.edit(None, Operation::Upsert, "r", json!({"title": "x"})).await;
    let (_, seen) = two.pull_from(None, 10).await;
    assert_eq!(outcome(&one.edit(None, Operation::Delete, "r", json!({})).await), "applied");
    assert_eq!(table.sql("select count(*) from TABLE"), "0");
    assert_eq!(
        outcome(&one.edit(None, Operation::Delete, "r", json!({})).await),
        "applied",
        "it is not there"
    );
    assert!(two.pull_from(Some(seen.clone()), 10).await.0.is_empty());
    assert_eq!(
        outcome(&two.edit(Some(&seen), Operation::Patch, "r", json!({"title": "y"})).await),
        "not_found"
    );
}

#[tokio::test]
async fn a_hard_deletion_does_not_pass_over_an_unseen_change() {
    let table = Table::with("title text");
    let user = User::new(&table.supabase);
    let (mut one, mut two) = (table.device(&user).await, table.device(&user).await);
    one.edit(None, Operation::Upsert, "r", json!({"title": "x"})).await;
    let (_, seen) = two.pull_from(None, 10).await;
    one.edit(None, Operation::Patch, "r", json!({"title": "newer"})).await;
    assert_eq!(outcome(&two.edit(Some(&seen), Operation::Delete, "r", json!({})).await), "conflict");
    assert_eq!(one.title_of("r").await, Some(json!("newer")));
}

#[tokio::test]
async fn many_rows_are_deleted_in_few_requests_each_under_its_condition() {
    for columns in ["deleted_at timestamptz, title text", "title text"] {
        let table = Table::with(columns);
        let user = User::new(&table.supabase);
        let mut device = table.device(&user).await;
        let ids: Vec<String> =
            (0..450).map(|n| format!("a long id, with \"all\" \\ that \u{fc}rls dislike: {n}")).collect();
        let entries = ids.iter().map(|id| device.upsert(id, json!({"title": "x"}))).collect();
        assert_eq!(device.outcomes(entries).await, vec!["applied"; 450]);
        let (_, seen) = device.pull_from(None, 1000).await;
        table.sql("update TABLE set title = 'newer', updated_at = now() where id like '%: 7'");
        let mut device = table.device(&user).await;
        let entries: Vec<_> = ids.iter().map(|id| device.entry(Operation::Delete, id, json!({}))).collect();
        let entries = entries
            .into_iter()
            .map(|entry| dynos_sync_core::wire::PushEntry { base: Some(seen.clone()), ..entry });
        let outcomes = device.outcomes(entries.collect()).await;
        for (n, outcome) in outcomes.into_iter().enumerate() {
            assert_eq!(outcome, if n == 7 { "conflict" } else { "applied" }, "{n}");
        }
        assert_eq!(device.pull_all(1000).await.0.iter().filter(|(_, record)| record.is_some()).count(), 1);
    }
}

#[tokio::test]
async fn a_deletion_whose_mark_was_removed_reaches_no_device_that_had_not_seen_it() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let (mut one, two) = (table.device(&user).await, table.device(&user).await);
    for id in ["gone", "kept"] {
        one.edit(None, Operation::Upsert, id, json!({"title": "x"})).await;
    }
    let (_, seen) = two.pull_from(None, 10).await;
    one.edit(None, Operation::Delete, "gone", json!({})).await;
    table.sql("delete from TABLE where deleted_at is not null");
    let (changes, _) = two.pull_from(Some(seen), 10).await;
    assert!(changes.is_empty(), "nor is it told that something may be missing: {changes:?}");
    let (all, _) = two.pull_from(None, 10).await;
    assert_eq!(all.len(), 1);
}

#[tokio::test]
async fn what_a_restored_backup_lost_goes_unnoticed_but_by_an_edit() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    device.edit(None, Operation::Upsert, "old", json!({"title": "x"})).await;
    table.sql("create table TABLE_copy as table TABLE");
    device.edit(None, Operation::Upsert, "new", json!({"title": "y"})).await;
    let (_, seen) = device.pull_from(None, 10).await;
    table.sql("delete from TABLE; insert into TABLE table TABLE_copy; drop table TABLE_copy");
    let (changes, _) = device.pull_from(Some(seen.clone()), 10).await;
    assert!(changes.is_empty(), "{changes:?}");
    let patch = device.edit(Some(&seen), Operation::Patch, "new", json!({"title": "z"})).await;
    assert_eq!(outcome(&patch), "not_found");
    // Who edits the whole record brings it back.
    let whole = device.edit(Some(&seen), Operation::Upsert, "new", json!({"title": "z"})).await;
    assert_eq!(outcome(&whole), "applied");
}

#[tokio::test]
async fn columns_that_a_device_does_not_know_outlive_a_replacement() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    device.edit(None, Operation::Upsert, "r", json!({"title": "x"})).await;
    table.sql("update TABLE set size = 7");
    device.edit(None, Operation::Delete, "r", json!({})).await;
    let again = device.edit(None, Operation::Replace, "r", json!({"title": "y"})).await;
    assert_eq!(outcome(&again), "applied");
    assert_eq!(table.sql("select title, size from TABLE"), "y|7");
}
