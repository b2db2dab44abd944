//! What one user does is nothing to another.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Client, Fixture,
    client::{TABLE, entry, name},
};
use crate::wire::PullRequest;

/// A replica of each of two users, with the same replica id.
async fn ada_and_bob(fixture: &dyn Fixture) -> [Client; 2] {
    [Client::new(fixture, "ada", 1).await, Client::new(fixture, "bob", 1).await]
}

pub async fn users_do_not_see_each_others_records(fixture: &dyn Fixture) {
    let [ada, bob] = ada_and_bob(fixture).await;
    ada.apply(entry(1, "x", upsert(json!({"of": "ada"})))).await;
    assert_eq!(bob.contents_of(TABLE).await.len(), 0);
    let page = Client::new(fixture, "bob", 2).await.pull(None).await;
    assert_eq!((page.changes, page.has_more), (vec![], false));
    bob.apply(entry(1, "x", upsert(json!({"of": "bob"})))).await;
    assert_eq!(ada.record("x").await, some(json!({"of": "ada"})));
    assert_eq!(bob.record("x").await, some(json!({"of": "bob"})));
}

pub async fn users_do_not_share_counters_or_conflicts(fixture: &dyn Fixture) {
    let [ada, bob] = ada_and_bob(fixture).await;
    ada.apply(entry(5, "x", upsert(json!({"a": 1})))).await;
    ada.push(vec![entry(6, "y", patch(json!({})))]).await;
    assert_eq!(bob.heads(&[]).await.last_counter, 0);
    bob.apply(entry(5, "x", upsert(json!({"b": 2})))).await;
    bob.apply(entry(6, "y", upsert(json!({"b": 2})))).await;
    bob.apply(entry(3, "z", upsert(json!({})))).await;
    let other = Client::new(fixture, "bob", 2).await;
    ada.apply(entry(7, "w", upsert(json!({})))).await;
    other.apply(entry(1, "w", upsert(json!({})))).await;
    assert_eq!(bob.record("x").await, some(json!({"b": 2})));
}

pub async fn users_do_not_move_each_others_heads(fixture: &dyn Fixture) {
    let [ada, bob] = ada_and_bob(fixture).await;
    bob.apply(entry(1, "x", upsert(json!({})))).await;
    let head = bob.head().await;
    let moved =
        ada.push(vec![entry(1, "x", upsert(json!({}))), entry(2, "y", upsert(json!({})))]).await.heads;
    assert_eq!(bob.head().await, head);
    assert_eq!(moved[&name(TABLE)].after, ada.head().await);
}

pub async fn users_do_not_settle_each_others_entries(fixture: &dyn Fixture) {
    let [ada, bob] = ada_and_bob(fixture).await;
    ada.push(vec![entry(1, "x", upsert(json!({}))), entry(2, "y", upsert(json!({})))]).await;
    bob.apply(entry(2, "y", upsert(json!({})))).await;
    let request = PullRequest { unsettled: vec![1, 2], ..bob.request(None) };
    assert_eq!(bob.remote.pull(request).await.unwrap().settled, [2]);
}

pub async fn replicas_of_one_user_share_everything(fixture: &dyn Fixture) {
    let [one, two] = Client::two(fixture).await;
    one.apply(entry(1, "x", upsert(json!({"a": 1})))).await;
    two.apply(entry(1, "y", upsert(json!({"b": 2})))).await;
    assert_eq!(one.contents_of(TABLE).await, two.contents_of(TABLE).await);
    assert_eq!(one.contents_of(TABLE).await.len(), 2);
    assert_eq!(one.heads(&[TABLE]).await.heads, two.heads(&[TABLE]).await.heads);
}
