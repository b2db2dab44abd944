//! Entries that take effect together or not at all.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Client, Fixture,
    client::{OTHER, applied, entry, entry_on, name},
};
use crate::{
    RemoteError,
    ids::Counter,
    wire::{PushEntry, PushResult, RejectCode},
};

/// Some entries as one transaction.
fn together<const N: usize>(transaction: Counter, entries: [PushEntry; N]) -> Vec<PushEntry> {
    entries.into_iter().map(|entry| PushEntry { transaction: Some(transaction), ..entry }).collect()
}

fn code(result: &PushResult) -> RejectCode {
    match result {
        PushResult::Rejected { code, .. } => *code,
        other => panic!("not rejected: {other:?}"),
    }
}

fn is_conflict(result: &PushResult) -> bool {
    matches!(result, PushResult::Conflict { .. })
}

pub async fn a_transaction_is_applied_in_all_its_tables(fixture: &dyn Fixture) {
    let one = Client::new(fixture, "ada", 1).await;
    let elsewhere = PushEntry { table: name(OTHER), ..entry(2, "l", upsert(json!({"b": 2}))) };
    let answer = one.push(together(1, [entry(1, "x", upsert(json!({"a": 1}))), elsewhere])).await;
    assert!(answer.results.iter().map(applied).is_sorted(), "{answer:?}");
    assert_eq!(answer.heads.len(), 2, "both tables' heads are told");
    assert_eq!(one.record("x").await, some(json!({"a": 1})));
    assert_eq!(one.contents_of(OTHER).await.into_values().next(), some(json!({"b": 2})));
}

pub async fn a_conflict_of_one_entry_is_one_of_its_transaction(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let base = one.head().await;
    two.apply(entry(1, "y", upsert(json!({"by": 2})))).await;
    let (x, y) = (upsert(json!({"a": 1})), upsert(json!({"by": 1})));
    let answer =
        one.push(together(2, [entry_on(&base, 1, "x", x.clone()), entry_on(&base, 2, "y", y.clone())])).await;
    assert!(answer.results.iter().all(is_conflict), "{answer:?}");
    assert_eq!(one.record("x").await, None);
    assert_eq!(one.record("y").await, some(json!({"by": 2})));

    let base = one.head().await;
    let again = one.push(together(2, [entry_on(&base, 1, "x", x), entry_on(&base, 2, "y", y)])).await;
    assert!(again.results.iter().map(applied).is_sorted(), "{again:?}");
    assert_eq!(one.record("y").await, some(json!({"by": 1})));
}

pub async fn a_refusal_of_one_entry_is_one_of_its_transaction(fixture: &dyn Fixture) {
    let one = Client::new(fixture, "ada", 1).await;
    let head = one.head().await;
    let batch =
        together(1, [entry(1, "x", upsert(json!({"a": 1}))), entry(2, "missing", patch(json!({"a": 1})))]);
    let answer = one.push(batch).await;
    assert_eq!(
        answer.results.iter().map(code).collect::<Vec<_>>(),
        [RejectCode::Transaction, RejectCode::NotFound]
    );
    let PushResult::Rejected { current: Some(current), .. } = &answer.results[0] else {
        panic!("{answer:?}")
    };
    assert_eq!(current.record, None, "its author learns what there is");
    assert_eq!(one.record("x").await, None);
    assert_eq!(one.head().await, head, "nothing has changed");
}

pub async fn a_refused_transaction_is_remembered(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let batch = together(1, [entry(1, "x", upsert(json!({"a": 1}))), entry(2, "y", patch(json!({"a": 1})))]);
    let first = one.push(batch.clone()).await;
    // What was in its way is no longer so. Its author has been told otherwise.
    two.apply(entry(1, "y", upsert(json!({"b": 1})))).await;
    let again = one.push(batch).await;
    let codes = |results: &[PushResult]| results.iter().map(code).collect::<Vec<_>>();
    assert_eq!(codes(&again.results), codes(&first.results));
    assert_eq!(one.record("x").await, None);
    assert_eq!(one.record("y").await, some(json!({"b": 1})));
}

pub async fn a_repeat_of_a_transaction_has_no_effect(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let batch = together(1, [entry(1, "x", upsert(json!({"a": 1}))), entry(2, "y", upsert(json!({"a": 1})))]);
    one.push(batch.clone()).await;
    let head = one.head().await;
    two.apply(entry_on(&head, 1, "x", upsert(json!({"a": 2})))).await;
    let again = one.push(batch).await;
    assert!(again.results.iter().all(|result| matches!(result, PushResult::Duplicate { .. })), "{again:?}");
    assert_eq!(one.record("x").await, some(json!({"a": 2})));
}

pub async fn what_of_a_transaction_was_applied_before_stands(fixture: &dyn Fixture) {
    let one = Client::new(fixture, "ada", 1).await;
    let x = || entry(1, "x", upsert(json!({"a": 1})));
    one.push(together(1, [x()])).await;
    let answer = one.push(together(1, [x(), entry(2, "y", upsert(json!({"a": 1})))])).await;
    assert!(
        matches!(answer.results[..], [PushResult::Duplicate { .. }, PushResult::Applied { .. }]),
        "{answer:?}"
    );
    let bad = together(1, [x(), entry(3, "z", upsert(json!({}))), entry(4, "missing", patch(json!({})))]);
    let answer = one.push(bad).await;
    assert!(matches!(answer.results[0], PushResult::Duplicate { .. }), "{answer:?}");
    assert_eq!(code(&answer.results[1]), RejectCode::Transaction);
    assert_eq!(one.record("z").await, None);
}

pub async fn a_transaction_and_what_stands_beside_it_do_not_touch_each_other(fixture: &dyn Fixture) {
    let one = Client::new(fixture, "ada", 1).await;
    let mut batch = vec![entry(1, "before", upsert(json!({"a": 1})))];
    batch.extend(together(2, [entry(2, "x", upsert(json!({}))), entry(3, "missing", patch(json!({})))]));
    batch.extend(together(4, [entry(4, "y", upsert(json!({}))), entry(5, "z", upsert(json!({})))]));
    batch.push(entry(6, "after", upsert(json!({"a": 1}))));
    let answer = one.push(batch).await;
    let is_applied: Vec<bool> = answer.results.iter().map(PushResult::is_done).collect();
    assert_eq!(is_applied, [true, false, false, true, true, true]);
    let records: Vec<String> =
        one.contents_of(super::client::TABLE).await.keys().map(ToString::to_string).collect();
    assert_eq!(records, ["after", "before", "y", "z"]);
}

pub async fn a_transaction_in_pieces_or_with_a_record_twice_is_refused(fixture: &dyn Fixture) {
    let one = Client::new(fixture, "ada", 1).await;
    let part = |counter, id| PushEntry { transaction: Some(1), ..entry(counter, id, upsert(json!({}))) };
    for batch in
        [vec![part(1, "x"), entry(2, "y", upsert(json!({}))), part(3, "z")], vec![part(4, "x"), part(5, "x")]]
    {
        let refused = one.try_push(batch).await;
        assert!(
            matches!(&refused, Err(RemoteError::Refused { code, .. }) if code == "invalid"),
            "{refused:?}"
        );
    }
    assert!(one.contents_of(super::client::TABLE).await.is_empty());
}
