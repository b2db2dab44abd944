//! Users of one table, whose rows PostgreSQL's own rules protect.

use dynos_sync_core::Operation;
use serde_json::json;

use super::table::Table;
use crate::support::User;

#[tokio::test]
async fn users_see_nothing_of_each_other() {
    let table = Table::new();
    let (ada, bob) = (User::new(&table.supabase), User::new(&table.supabase));
    let (mut adas, mut bobs) = (table.device(&ada).await, table.device(&bob).await);
    adas.edit(None, Operation::Upsert, "r", json!({"title": "hers"})).await;
    let (records, seen) = bobs.pull_from(None, 10).await;
    assert!(records.is_empty(), "{records:?}");

    // The same id, and rows that are not his.
    for op in [Operation::Upsert, Operation::Replace, Operation::Patch, Operation::Delete] {
        for base in [None, Some(&seen)] {
            let result = bobs.edit(base, op, "r", json!({"title": "his"})).await;
            let told = serde_json::to_string(&result).unwrap();
            assert!(!told.contains("hers") && !told.contains(&ada.id), "{told}");
        }
    }
    assert_eq!(adas.title_of("r").await, Some(json!("hers")));
}

#[tokio::test]
async fn two_devices_of_a_user_share_everything() {
    let table = Table::new();
    let ada = User::new(&table.supabase);
    let (mut one, mut two) = (table.device(&ada).await, table.device(&ada).await);
    one.edit(None, Operation::Upsert, "a", json!({"title": "one"})).await;
    two.edit(None, Operation::Upsert, "b", json!({"title": "two"})).await;
    let ((ones, _), (twos, _)) = (one.pull_from(None, 10).await, two.pull_from(None, 10).await);
    assert_eq!(ones, twos);
    assert_eq!(ones.len(), 2);
    assert_eq!(ones[0].1.as_ref().unwrap()["user_id"], json!(ada.id), "the owner is the caller");
}

#[tokio::test]
async fn a_row_that_goes_out_of_sight_stays_on_devices() {
    let table = Table::new();
    let (ada, bob) = (User::new(&table.supabase), User::new(&table.supabase));
    let mut adas = table.device(&ada).await;
    adas.edit(None, Operation::Upsert, "r", json!({"title": "hers"})).await;
    let (_, seen) = adas.pull_from(None, 10).await;
    table.sql(&format!("update TABLE set user_id = '{}', updated_at = now()", bob.id));
    let (changes, _) = adas.pull_from(Some(seen), 10).await;
    assert!(changes.is_empty(), "nobody tells that it is gone: {changes:?}");
    assert_eq!(table.device(&bob).await.title_of("r").await, Some(json!("hers")));
}
