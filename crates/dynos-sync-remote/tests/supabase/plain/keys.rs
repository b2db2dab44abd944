//! Keys and times of other types, and ids that are hard to write down.

use dynos_sync_core::{Operation, conformance::hostile};
use serde_json::json;

use super::table::{Table, outcome};
use crate::support::User;

#[tokio::test]
async fn keys_may_be_numbers_and_times_may_have_no_zone() {
    let table = Table::of("bigint", "timestamp", "title text");
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    let ids = ["9007199254740993", "-5", "17"];
    let entries = ids.iter().map(|id| device.upsert(id, json!({"title": id}))).collect();
    let answer = device.push(entries).await;
    assert!(answer.results.iter().all(|result| outcome(result) == "applied"), "{answer:?}");
    let patch = device.edit(None, Operation::Patch, "17", json!({"title": "seventeen"})).await;
    assert_eq!(outcome(&patch), "applied");
    let (changes, _) = device.pull_from(None, 2).await;
    let ids: Vec<&str> = changes.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["-5", "9007199254740993", "17"]);
    let record = changes[2].1.as_ref().unwrap();
    assert!(record["updated_at"].as_str().unwrap().ends_with('Z'), "an instant: {record:?}");
    assert_eq!(outcome(&device.edit(None, Operation::Upsert, "seven", json!({})).await), "invalid");
}

#[tokio::test]
async fn an_id_that_the_database_writes_in_another_way_is_refused_with_the_remedy() {
    let table = Table::of("uuid", "timestamptz", "title text");
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    let id = uuid::Uuid::new_v4().to_string();
    assert_eq!(outcome(&device.edit(None, Operation::Upsert, &id, json!({"title": "x"})).await), "applied");
    let shouted = uuid::Uuid::new_v4().to_string().to_uppercase();
    let result = device.edit(None, Operation::Upsert, &shouted, json!({"title": "y"})).await;
    assert!(format!("{result:?}").contains("lower case"), "{result:?}");
}

#[tokio::test]
async fn every_id_is_a_row_of_its_own_on_every_page_size() {
    let table = Table::with("title text");
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    let mut ids: Vec<String> =
        hostile::ids().iter().map(ToString::to_string).filter(|id| !id.contains('\0')).collect();
    ids.extend(
        ["a,b", "a)b", "(", "\"", "\\", "\\\"", "a.b", "*", "%", "null", "in.(1)", "a+b", "é"]
            .map(str::to_owned),
    );
    ids.sort();
    ids.dedup();
    let entries = ids.iter().map(|id| device.upsert(id, json!({"title": id}))).collect();
    assert_eq!(device.outcomes(entries).await, vec!["applied"; ids.len()]);
    let patches =
        ids.iter().map(|id| device.entry(Operation::Patch, id, json!({"title": format!("{id}!")}))).collect();
    assert_eq!(device.outcomes(patches).await, vec!["applied"; ids.len()]);
    // All at one time, so that only the ids tell where a page ends.
    table.sql("update TABLE set updated_at = '2026-01-01'");
    for limit in [1, 3, 1000] {
        let (changes, _) = device.pull_from(None, limit).await;
        let mut found: Vec<String> = changes.iter().map(|(id, _)| id.clone()).collect();
        assert!(changes.iter().all(|(id, record)| record.as_ref().unwrap()["title"] == format!("{id}!")));
        found.sort();
        assert_eq!(found, ids, "limit {limit}");
    }
}

/// The bound: a row without a time, or with one outside the years 1 to 9999, is not synced. It stops nothing.
#[tokio::test]
async fn a_row_without_a_time_that_can_be_compared_is_passed_over() {
    let table = Table::new();
    table.sql("alter table TABLE alter updated_at drop not null");
    let user = User::new(&table.supabase);
    let times = [
        "null",
        "'infinity'",
        "'-infinity'",
        "'20000-01-01'",
        "'0044-03-15 BC'",
        "'9000-01-01'",
        "'1500-01-01'",
    ];
    for (n, at) in times.into_iter().enumerate() {
        table.sql(&format!("insert into TABLE (id, user_id, updated_at) values ({n}, '{}', {at})", user.id));
    }
    let mut device = table.device(&user).await;
    for limit in [1, 100] {
        let (changes, _) = device.pull_from(None, limit).await;
        let ids: Vec<&str> = changes.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["6", "5"], "limit {limit}");
    }
    for n in ["1", "2", "3", "4"] {
        let result = device.edit(None, Operation::Patch, n, json!({"title": "x"})).await;
        assert_ne!(outcome(&result), "duplicate", "it is answered: {result:?}");
    }
}

#[tokio::test]
async fn a_time_that_somebody_made_up_lets_nobody_overwrite_what_they_have_not_seen() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    table.sql(&format!("insert into TABLE (id, user_id, updated_at) values ('r', '{0}', now()), ('future', '{0}', '9000-01-01')", user.id));
    let mut device = table.device(&user).await;
    let (changes, end) = device.pull_from(None, 100).await;
    assert_eq!(changes.len(), 2);
    table.sql("update TABLE set title = 'newer', updated_at = now() + interval '10 seconds' where id = 'r'");
    let edit = device.edit(Some(&end), Operation::Patch, "r", json!({"title": "older"})).await;
    assert_eq!(outcome(&edit), "conflict");
}
