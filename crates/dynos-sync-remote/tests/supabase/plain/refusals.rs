//! Entries that are refused, alone.

use dynos_sync_core::{
    Operation,
    wire::{PushResult, RejectCode},
};
use serde_json::json;

use super::table::Table;
use crate::support::{User, now, token};

const COLUMNS: &str = "title text not null, size integer check (size > 0), code text unique, list integer references TABLE_list, \
                       photo bytea, deleted_at timestamptz";

#[tokio::test]
async fn a_bad_row_is_refused_for_its_reason_and_the_good_ones_are_applied() {
    let table = Table::with(COLUMNS);
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    let whole = |title, size, code, list| json!({"title": title, "size": size, "code": code, "list": list});
    let rows = [
        ("applied", whole(json!("milk"), 1, "a", 1)),
        ("constraint", whole(json!(null), 1, "b", 1)),
        ("applied", whole(json!("bread"), 1, "c", 1)),
        ("constraint", whole(json!("unique"), 1, "a", 1)),
        ("constraint", whole(json!("check"), 0, "d", 1)),
        ("constraint", whole(json!("foreign key"), 1, "e", 2)),
        ("forbidden", json!({"title": "somebody else's", "user_id": User::new(&table.supabase).id})),
        ("unknown_column", json!({"title": "eggs", "colour": "blue"})),
        ("invalid", json!({"title": "eggs", "size": "many"})),
        ("invalid", json!({"title": "a NUL: \u{0}"})),
        ("invalid", json!({"title": "a blob", "photo": {"$blob": "AAEC"}})),
        ("applied", whole(json!("butter"), 1, "f", 1)),
    ];
    let entries = rows.iter().enumerate();
    let entries = entries.map(|(row, (_, data))| device.upsert(&format!("r{row}"), data.clone())).collect();
    assert_eq!(device.outcomes(entries).await, rows.each_ref().map(|(expected, _)| *expected));
    assert_eq!(table.sql("select string_agg(title, ' ' order by title) from TABLE"), "bread butter milk");

    let patches = vec![
        device.entry(Operation::Patch, "r0", json!({"size": 2})),
        device.entry(Operation::Patch, "r2", json!({"size": 0})),
        device.entry(Operation::Patch, "r11", json!({"colour": "blue"})),
        device.entry(Operation::Patch, "never", json!({"size": 2})),
    ];
    assert_eq!(device.outcomes(patches).await, ["applied", "constraint", "unknown_column", "not_found"]);
    assert_eq!(table.sql("select string_agg(size::text, ' ' order by title) from TABLE"), "1 1 2");
}

#[tokio::test]
async fn each_bad_row_of_a_large_batch_is_found() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    let entries: Vec<_> =
        (0..400).map(|n| device.upsert(&format!("r{n}"), json!({"size": n % 50}))).collect();
    let outcomes = device.outcomes(entries).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(*outcome, if n % 50 == 0 { "constraint" } else { "applied" }, "{n}");
    }
    assert_eq!(table.sql("select count(*) from TABLE"), "392");
}

#[tokio::test]
async fn an_unknown_table_concerns_its_entries_alone() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    let mut lost = device.upsert("r", json!({}));
    lost.table = "there_is_no_such_table".parse().unwrap();
    let kept = device.upsert("r", json!({"title": "kept"}));
    assert_eq!(device.outcomes(vec![lost, kept]).await, ["unknown_table", "applied"]);
}

#[tokio::test]
async fn a_row_that_may_be_seen_and_not_written_is_forbidden() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    table.sql("create policy seen on TABLE for select to authenticated using (true)");
    table.sql(&format!(
        "insert into TABLE (id, user_id, title) values ('r', '{}', 'theirs')",
        User::new(&table.supabase).id
    ));
    let mut device = table.device(&user).await;
    let (_, seen) = device.pull_from(None, 10).await;
    for (op, data) in [
        (Operation::Patch, json!({"title": "x"})),
        (Operation::Upsert, json!({"title": "x"})),
        (Operation::Delete, json!({})),
    ] {
        let result = device.edit(Some(&seen), op, "r", data).await;
        assert!(
            matches!(result, PushResult::Rejected { code: RejectCode::Forbidden, .. }),
            "{op:?}: {result:?}"
        );
    }
    assert_eq!(table.sql("select title from TABLE"), "theirs");
}

#[tokio::test]
async fn an_expired_session_is_no_refusal_of_an_entry() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let mut device = table.device(&user).await;
    let entry = device.upsert("r", json!({"title": "mine"}));
    let expired = User { token: token(&table.supabase, &user.id, "authenticated", now() - 3600), ..user };
    let request = device.request(vec![entry]);
    let error = dynos_sync_core::Remote::push(&table.remote(&expired), &request).await.unwrap_err();
    assert!(error.is_auth(), "{error}");
}
