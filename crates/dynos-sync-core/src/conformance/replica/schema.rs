//! Versions of the application's schema: what was queued under an earlier one.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Device, Fixture,
    device::{LATE, bury, edits, journaled, key, settle, store, write},
};
use crate::{
    conflict::StrategyName,
    entry::Edit,
    replica::{Batch, Op, ReplicaError, Resolved, Revert},
    schema::Schema,
};

/// From version 2 on, `a` is called `b`.
fn renamed() -> Schema {
    Schema::version(2).step(2, |part| part.rename("a", "b"))
}

async fn adopt(device: &Device, schema: &Schema) -> bool {
    device.replica.adopt(schema).await.unwrap()
}

/// A record `{a: 0}` from the server, its patch `{a: 1}` sent, and a newer patch `{a: 2, c: 2}`.
async fn sent_before(fixture: &dyn Fixture) -> Device {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    device.write("1", patch(json!({"a": 1}))).await;
    device.send_one().await;
    device.write("1", patch(json!({"a": 2, "c": 2}))).await;
    device
}

pub async fn what_waits_is_brought_up_to_date(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0, "c": 0})))]).await;
    device.write("1", patch(json!({"a": 1}))).await;
    device.write("1", Edit::Delete).await;
    device.write("2", upsert(json!({"a": 2}))).await;
    let before = device.state().await;
    assert!(adopt(&device, &renamed()).await);
    assert_eq!(edits(&device.entries("1").await), [patch(json!({"b": 1})), Edit::Delete]);
    assert_eq!(device.base("1").await, some(json!({"b": 0, "c": 0})));
    let due = device.due_at(LATE).await.groups;
    assert_eq!(due[1][0].edit, upsert(json!({"b": 2})));
    let after = device.state().await;
    assert_eq!((before.schema, after.schema), (0, 2));
    assert_eq!((before.pending, before.last_counter), (after.pending, after.last_counter));
}

pub async fn the_applications_rows_stay_as_they_are(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    adopt(&device, &renamed()).await;
    assert_eq!(device.row("1").await, some(json!({"a": 1})));
}

pub async fn what_was_sent_is_sent_again_as_it_was(fixture: &dyn Fixture) {
    let device = sent_before(fixture).await;
    adopt(&device, &renamed()).await;
    let again = device.send_one().await;
    assert_eq!(again.edit, patch(json!({"a": 1})));
    // A second upgrade does not take it for what was sent.
    let third = Schema::version(3).step(3, |part| part.rename("b", "d"));
    assert!(adopt(&device, &third).await);
    assert_eq!(device.send_one().await, again);
    assert_eq!(device.entries("1").await[0].edit, patch(json!({"d": 1})), "whatever becomes of it");
}

pub async fn what_was_sent_as_it_was_is_folded_into_the_base_as_it_is(fixture: &dyn Fixture) {
    let device = sent_before(fixture).await;
    adopt(&device, &renamed()).await;
    let sent = device.send_one().await;
    device.commit(vec![settle(&sent, None)]).await;
    assert_eq!(device.base("1").await, some(json!({"b": 1})));
    assert_eq!(device.send_one().await.edit, patch(json!({"b": 2, "c": 2})));
}

pub async fn what_was_sent_and_did_not_take_effect_goes_on_as_it_is_now(fixture: &dyn Fixture) {
    let device = sent_before(fixture).await;
    adopt(&device, &renamed()).await;
    let sent = device.send_one().await;
    device.commit(vec![Op::Thaw { key: key("1"), counter: sent.counter }]).await;
    let next = device.send_one().await;
    assert_eq!(next.edit, patch(json!({"b": 2, "c": 2})));
    assert_eq!(device.send_one().await, next, "and is sent again so");
}

pub async fn dead_letters_are_brought_up_to_date(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    let sent = device.send_one().await;
    device.commit(vec![bury(&sent, Revert::ToBase)]).await;
    adopt(&device, &renamed()).await;
    let letter = device.replica.dead_letters(0, 10).await.unwrap().remove(0);
    assert_eq!(letter.edits[0].0, upsert(json!({"b": 1})));
    device.commit(vec![Op::Revive { letter: letter.id, at: 0 }]).await;
    assert_eq!(device.row("1").await, some(json!({"b": 1})));
    assert_eq!(device.send_one().await.edit, upsert(json!({"b": 1})));
}

pub async fn the_conflict_journal_is_brought_up_to_date(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let version = |value: i64| some(json!({"a": value}));
    let resolved = Resolved {
        key: key("1"),
        base: version(0),
        mine: version(1),
        theirs: None,
        outcome: version(1),
        strategy: StrategyName::ClientWins,
        at: 1,
        decided_at: 1,
    };
    let other = journaled(key("2"));
    device.commit(vec![Op::Resolve { conflict: Box::new(resolved), edit: None }, other]).await;
    adopt(&device, &renamed()).await;
    let kept = device.replica.conflicts(i64::MAX, 10).await.unwrap().pop().unwrap().resolved.unwrap();
    let version = |value: i64| some(json!({"b": value}));
    assert_eq!((kept.base, kept.mine), (version(0), version(1)));
    assert_eq!((kept.theirs, kept.outcome), (None, version(1)));
}

pub async fn a_version_is_adopted_once(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    assert!(adopt(&device, &renamed()).await);
    device.write("1", upsert(json!({"a": 1}))).await;
    assert!(!adopt(&device, &renamed()).await);
    assert_eq!(device.entries("1").await[0].edit, upsert(json!({"a": 1})), "it was written at that version");
}

pub async fn an_earlier_version_than_the_databases_is_refused(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    adopt(&device, &Schema::version(3)).await;
    let refused = device.replica.adopt(&renamed()).await;
    assert!(matches!(refused, Err(ReplicaError::NewerSchema { found: 3, known: 2 })), "{refused:?}");
    assert_eq!(device.state().await.schema, 3);
    assert_eq!(device.entries("1").await[0].edit, upsert(json!({"a": 1})));
}

pub async fn a_transaction_stays_one_over_an_upgrade(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let ops = ["1", "2"].map(|id| write(id, upsert(json!({"a": 1})))).into();
    device.replica.commit(Batch { ops, transaction: true, ..Batch::default() }).await.unwrap();
    adopt(&device, &renamed()).await;
    let due = device.due_at(LATE).await.groups;
    let together: Vec<_> = due.iter().flatten().map(|entry| (&entry.edit, entry.transaction)).collect();
    let expected = (&upsert(json!({"b": 1})), due[0][0].transaction);
    assert!(due[0][0].transaction.is_some());
    assert_eq!(together, [expected, expected]);
}

pub async fn the_schemas_version_and_what_was_sent_survive_reopen(fixture: &dyn Fixture) {
    let device = sent_before(fixture).await;
    adopt(&device, &renamed()).await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert!(!adopt(&device, &renamed()).await);
    assert_eq!(device.state().await.schema, 2);
    let sent = device.send_one().await;
    assert_eq!(sent.edit, patch(json!({"a": 1})));
    device.commit(vec![settle(&sent, None)]).await;
    assert_eq!(device.send_one().await.edit, patch(json!({"b": 2, "c": 2})));
}

pub async fn a_logout_forgets_what_was_sent_but_not_the_schemas_version(fixture: &dyn Fixture) {
    let device = sent_before(fixture).await;
    adopt(&device, &renamed()).await;
    device.replica.logout(true).await.unwrap();
    assert_eq!(device.state().await.schema, 2);
    device.write("1", upsert(json!({"c": 1}))).await;
    let sent = device.send_one().await;
    assert_eq!((sent.counter, device.send_one().await.edit), (1, upsert(json!({"c": 1}))));
}
