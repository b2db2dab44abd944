//! Every counter has one outcome.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Client, Fixture,
    client::{OTHER, entry, entry_on, name},
};
use crate::{
    entry::Edit,
    remote::RemoteError,
    wire::{PushEntry, PushResult, RejectCode},
};

fn duplicate_of(result: &PushResult) -> u64 {
    match result {
        PushResult::Duplicate { seq, .. } => *seq,
        other => panic!("not a duplicate: {other:?}"),
    }
}

pub async fn a_repeat_of_an_applied_entry_has_no_effect(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let entries = [entry(1, "x", upsert(json!({"a": 1}))), entry(2, "y", Edit::Delete)];
    for entry in entries {
        let seq = client.apply(entry.clone()).await;
        let head = client.head().await;
        for _ in 0..2 {
            assert_eq!(duplicate_of(&client.push_one(entry.clone()).await), seq);
        }
        assert_eq!(client.head().await, head);
    }
}

pub async fn a_repeat_does_not_undo_what_others_made_of_it(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let first = entry(1, "x", upsert(json!({"a": 1})));
    let seq = one.apply(first.clone()).await;
    two.apply(entry_on(&two.head().await, 1, "x", patch(json!({"a": 2})))).await;
    assert_eq!(duplicate_of(&one.push_one(first.clone()).await), seq, "not a conflict either");
    assert_eq!(two.record("x").await, some(json!({"a": 2})));
    two.apply(entry_on(&two.head().await, 2, "x", Edit::Delete)).await;
    assert_eq!(duplicate_of(&one.push_one(first).await), seq);
    assert_eq!(two.record("x").await, None);
}

pub async fn a_repeat_of_a_whole_batch_has_no_effect(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let batch = vec![
        entry(1, "x", upsert(json!({"a": 1}))),
        entry(2, "x", Edit::Delete),
        entry(3, "x", upsert(json!({"b": 1}))),
        entry(4, "y", patch(json!({}))),
    ];
    client.push(batch.clone()).await;
    let head = client.head().await;
    let answer = client.push(batch).await;
    assert!(
        answer.results[..3].iter().all(|result| matches!(result, PushResult::Duplicate { .. })),
        "{answer:?}"
    );
    assert_eq!((client.head().await, client.record("x").await), (head, some(json!({"b": 1}))));
}

pub async fn a_rejection_is_remembered(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let refused = entry(1, "x", patch(json!({"a": 1})));
    let is_refused =
        |result: &PushResult| matches!(result, PushResult::Rejected { code: RejectCode::NotFound, .. });
    assert!(is_refused(&one.push_one(refused.clone()).await));
    one.apply(entry(2, "x", upsert(json!({"a": 0})))).await;
    let again = one.push_one(refused.clone()).await;
    assert!(is_refused(&again), "its author gave up on it: {again:?}");
    two.apply(entry_on(&two.head().await, 1, "x", patch(json!({"b": 0})))).await;
    let again = one.push_one(PushEntry { base: Some(one.head().await), ..refused }).await;
    assert!(is_refused(&again), "{again:?}");
    assert_eq!(one.record("x").await, some(json!({"a": 0, "b": 0})));
}

pub async fn an_older_counter_of_the_same_writer_has_no_effect(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let seq = client.apply(entry(5, "x", upsert(json!({"a": 5})))).await;
    let late = entry(3, "x", upsert(json!({"a": 3})));
    for _ in 0..2 {
        assert_eq!(duplicate_of(&client.push_one(late.clone()).await), seq, "it was delayed on the wire");
    }
    duplicate_of(&client.push_one(entry(4, "x", Edit::Delete)).await);
    assert_eq!(client.record("x").await, some(json!({"a": 5})));
}

pub async fn an_older_counter_for_another_record_is_applied(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(5, "x", upsert(json!({})))).await;
    one.apply(entry(3, "y", upsert(json!({})))).await;
    one.apply(PushEntry { table: name(OTHER), ..entry(2, "x", upsert(json!({}))) }).await;
    two.apply(entry_on(&two.head().await, 1, "x", upsert(json!({})))).await;
}

async fn forks(client: &Client, entries: Vec<PushEntry>) -> bool {
    matches!(client.try_push(entries).await, Err(RemoteError::ReplicaForked))
}

pub async fn other_content_under_a_used_counter_is_a_fork(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let first = entry(1, "x", upsert(json!({"a": 1})));
    client.apply(first.clone()).await;
    for (what, other) in [
        ("data", entry(1, "x", upsert(json!({"a": 2})))),
        ("more data", entry(1, "x", upsert(json!({"a": 1, "b": 1})))),
        ("another type", entry(1, "x", upsert(json!({"a": "1"})))),
        ("kind", entry(1, "x", patch(json!({"a": 1})))),
        ("delete", entry(1, "x", Edit::Delete)),
        ("record", entry(1, "y", upsert(json!({"a": 1})))),
        ("table", PushEntry { table: name(OTHER), ..first.clone() }),
        ("time", PushEntry { at: first.at + 1, ..first.clone() }),
    ] {
        assert!(forks(&client, vec![other]).await, "{what}");
    }
    duplicate_of(&client.push_one(first).await);
    assert_eq!(client.record("x").await, some(json!({"a": 1})));
}

pub async fn other_content_under_a_rejected_counter_is_a_fork(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    client.push(vec![entry(1, "missing", patch(json!({"a": 1})))]).await;
    assert!(forks(&client, vec![entry(1, "x", upsert(json!({"a": 1})))]).await);
    assert_eq!(client.record("x").await, None);
}

pub async fn nothing_of_a_forked_batch_is_applied(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    client.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    let head = client.head().await;
    let batch = vec![
        entry(2, "y", upsert(json!({}))),
        entry(1, "x", upsert(json!({"a": 2}))),
        entry(3, "z", upsert(json!({}))),
    ];
    assert!(forks(&client, batch).await);
    assert_eq!(
        client.head().await,
        head,
        "it is sent again under another identity, and must not count twice"
    );
}

pub async fn the_base_is_no_part_of_the_content(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let first = entry(1, "x", upsert(json!({"a": 1})));
    let seq = client.apply(first.clone()).await;
    let later = PushEntry { base: Some(client.head().await), ..first };
    assert_eq!(duplicate_of(&client.push_one(later).await), seq);
}
