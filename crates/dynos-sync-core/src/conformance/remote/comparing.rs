//! Compare and set: an entry is applied only if its author saw what it changes.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Client, Fixture,
    client::{entry, entry_on},
};
use crate::{entry::Edit, wire::PushResult};

fn conflict_with(result: &PushResult) -> u64 {
    match result {
        PushResult::Conflict { seq } => *seq,
        other => panic!("no conflict: {other:?}"),
    }
}

pub async fn a_change_that_the_author_has_not_seen_is_a_conflict(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let before = two.head().await;
    let seq = one.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    let head = one.head().await;
    for (counter, entry) in [
        (1, entry(1, "x", upsert(json!({"a": 2})))),
        (2, entry_on(&before, 2, "x", upsert(json!({"a": 2})))),
        (3, entry_on(&before, 3, "x", patch(json!({"a": 2})))),
    ] {
        assert_eq!(conflict_with(&two.push_one(entry).await), seq, "{counter}");
    }
    let seq = one.apply(entry(2, "x", patch(json!({"a": 3})))).await;
    assert_eq!(conflict_with(&two.push_one(entry_on(&head, 4, "x", patch(json!({"a": 2})))).await), seq);
    assert_eq!(two.record("x").await, some(json!({"a": 3})));
}

pub async fn a_change_that_the_author_has_seen_is_not(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    let seen = two.pull(None).await.next;
    two.apply(entry_on(&seen, 1, "x", patch(json!({"a": 2})))).await;
    assert_eq!(one.record("x").await, some(json!({"a": 2})));
}

pub async fn an_own_change_is_never_a_conflict(fixture: &dyn Fixture) {
    let client = Client::new(fixture, "ada", 1).await;
    let empty = client.head().await;
    client.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    client.apply(entry(2, "x", patch(json!({"b": 2})))).await;
    client.apply(entry_on(&empty, 3, "x", patch(json!({"c": 3})))).await;
    client.apply(entry_on(&empty, 4, "x", Edit::Delete)).await;
    client.apply(entry_on(&empty, 5, "x", upsert(json!({"d": 4})))).await;
    assert_eq!(client.record("x").await, some(json!({"d": 4})));
}

pub async fn a_change_of_another_record_is_not_a_conflict(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    let empty = one.head().await;
    one.apply(entry(1, "x", upsert(json!({})))).await;
    two.apply(entry_on(&empty, 1, "y", upsert(json!({})))).await;
    two.apply(entry(2, "z", upsert(json!({})))).await;
}

pub async fn a_deletion_that_the_author_has_not_seen_is_a_conflict(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    let seen = two.pull(None).await.next;
    let seq = one.apply(entry(2, "x", Edit::Delete)).await;
    for (counter, edit) in [(1, upsert(json!({"a": 2}))), (2, patch(json!({"a": 2}))), (3, Edit::Delete)] {
        assert_eq!(conflict_with(&two.push_one(entry_on(&seen, counter, "x", edit)).await), seq, "{counter}");
    }
    assert_eq!(two.record("x").await, None);
    let seen = two.pull(Some(&seen)).await.next;
    two.apply(entry_on(&seen, 4, "x", upsert(json!({"b": 1})))).await;
}

pub async fn a_deletion_does_not_pass_over_an_unseen_change(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    let seen = two.pull(None).await.next;
    let seq = one.apply(entry(2, "x", patch(json!({"a": 2})))).await;
    assert_eq!(conflict_with(&two.push_one(entry_on(&seen, 1, "x", Edit::Delete)).await), seq);
    assert_eq!(two.record("x").await, some(json!({"a": 2})));
}

pub async fn a_conflict_comes_before_a_rejection(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.push(vec![entry(1, "x", upsert(json!({}))), entry(2, "x", Edit::Delete)]).await;
    let refused = entry(1, "x", patch(json!({"a": 1})));
    conflict_with(&two.push_one(refused.clone()).await);
    conflict_with(&two.push_one(refused).await);
}

pub async fn an_entry_is_applied_under_its_counter_once_it_has_a_later_base(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    conflict_with(&two.push_one(entry(1, "x", upsert(json!({"b": 2})))).await);
    let seen = two.pull(None).await.next;
    let rebased = entry_on(&seen, 1, "x", upsert(json!({"b": 2})));
    let seq = two.apply(rebased.clone()).await;
    assert_eq!(two.record("x").await, some(json!({"a": 1, "b": 2})));
    let again = two.push_one(rebased).await;
    assert!(matches!(again, PushResult::Duplicate { seq: earlier, .. } if earlier == seq), "{again:?}");
}

pub async fn of_two_entries_with_one_base_the_first_wins(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"n": 0})))).await;
    let seen = one.head().await;
    let seq = two.apply(entry_on(&seen, 1, "x", patch(json!({"n": 2})))).await;
    assert_eq!(conflict_with(&one.push_one(entry_on(&seen, 2, "x", patch(json!({"n": 1})))).await), seq);
    assert_eq!(one.record("x").await, some(json!({"n": 2})));
}
