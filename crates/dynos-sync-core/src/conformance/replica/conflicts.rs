//! Decided conflicts and their journal.

use serde_json::json;

use super::{
    super::{patch, replace, some, upsert},
    Device, Fixture,
    device::{edits, key, settle, store},
};
use crate::{
    conflict::StrategyName,
    entry::Edit,
    record::Fields,
    replica::{Journaled, Op, Resolved},
};

/// A record `{a: 0}` from the server with two pending patches.
async fn pending(fixture: &dyn Fixture) -> Device {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    device.write("1", patch(json!({"a": 1}))).await;
    device.write("1", patch(json!({"b": 1}))).await;
    device
}

fn resolved(record: &str, theirs: Option<Fields>, outcome: Option<Fields>) -> Resolved {
    Resolved {
        key: key(record),
        base: some(json!({"a": 0})),
        mine: some(json!({"a": 1, "b": 1})),
        theirs,
        outcome,
        strategy: StrategyName::Merge,
        at: 40,
        decided_at: 45,
    }
}

async fn resolve(device: &Device, resolved: &Resolved, edit: Option<Edit>) {
    device.commit(vec![Op::Resolve { conflict: Box::new(resolved.clone()), edit }]).await;
}

async fn journal(device: &Device) -> Vec<Journaled> {
    device.replica.conflicts(i64::MAX, 1000).await.unwrap()
}

pub async fn a_resolution_replaces_the_pending_entries(fixture: &dyn Fixture) {
    let device = pending(fixture).await;
    let last = device.state().await.last_counter;
    let (theirs, outcome) = (some(json!({"a": 2})), some(json!({"a": 2, "b": 1})));
    resolve(&device, &resolved("1", theirs.clone(), outcome.clone()), Some(patch(json!({"b": 1})))).await;
    let seen = device.seen("1").await;
    assert_eq!((seen.row, seen.base), (outcome, theirs));
    assert_eq!(edits(&seen.entries), [patch(json!({"b": 1}))]);
    let entry = &seen.entries[0];
    assert!(entry.counter > last, "under a fresh number");
    assert_eq!((entry.at, &entry.sent, entry.attempts, entry.retry_at), (40, &None, 0, None));
}

pub async fn a_resolution_for_the_servers_version_leaves_nothing_pending(fixture: &dyn Fixture) {
    let device = pending(fixture).await;
    let theirs = some(json!({"a": 2}));
    resolve(&device, &resolved("1", theirs.clone(), theirs.clone()), None).await;
    assert_eq!((device.row("1").await, device.queue().await), (theirs.clone(), vec![]));
    device.write("1", patch(json!({"a": 3}))).await;
    assert_eq!(device.base("1").await, theirs);
}

pub async fn a_resolution_can_delete(fixture: &dyn Fixture) {
    let device = pending(fixture).await;
    let theirs = some(json!({"a": 2}));
    resolve(&device, &resolved("1", theirs.clone(), None), Some(Edit::Delete)).await;
    let seen = device.seen("1").await;
    assert_eq!((seen.row, seen.base, edits(&seen.entries)), (None, theirs, vec![Edit::Delete]));
}

pub async fn a_resolution_can_bring_the_record_back(fixture: &dyn Fixture) {
    let device = pending(fixture).await;
    let outcome = json!({"a": 1, "b": 1});
    resolve(&device, &resolved("1", None, some(outcome.clone())), Some(replace(outcome.clone()))).await;
    let seen = device.seen("1").await;
    assert_eq!(
        (seen.row, seen.base, edits(&seen.entries)),
        (some(outcome.clone()), None, vec![replace(outcome)])
    );
}

pub async fn a_resolution_takes_sent_entries_too(fixture: &dyn Fixture) {
    let device = pending(fixture).await;
    let sent = device.send_one().await;
    let theirs = some(json!({"a": 2}));
    resolve(&device, &resolved("1", theirs.clone(), some(json!({"a": 9}))), Some(patch(json!({"a": 9}))))
        .await;
    assert_eq!(device.unsettled().await, []);
    device.commit(vec![settle(&sent, None)]).await;
    assert_eq!(device.base("1").await, theirs, "a late answer to the old entry is passed over");
    assert_eq!(device.entries("1").await.len(), 1);
}

pub async fn the_journal_keeps_all_that_was_decided(fixture: &dyn Fixture) {
    let device = pending(fixture).await;
    let with_all = resolved("1", some(json!({"a": 2})), some(json!({"a": 1})));
    let with_none =
        Resolved { base: None, mine: None, strategy: StrategyName::Custom, ..resolved("1", None, None) };
    resolve(&device, &with_all, Some(upsert(json!({"a": 1})))).await;
    resolve(&device, &with_none, None).await;
    let journal = journal(&device).await;
    assert_eq!(
        journal.iter().map(|entry| &entry.resolved).collect::<Vec<_>>(),
        [&Some(with_none), &Some(with_all)]
    );
    assert_eq!(device.state().await.conflicts, 2);
}

pub async fn the_journal_is_read_in_pages_newest_first(fixture: &dyn Fixture) {
    let device = pending(fixture).await;
    for record in ["1", "2", "3"] {
        resolve(&device, &resolved(record, None, None), None).await;
    }
    let all = journal(&device).await;
    assert_eq!(
        all.iter().map(|entry| entry.resolved.as_ref().unwrap().key.id.as_str()).collect::<Vec<_>>(),
        ["3", "2", "1"]
    );
    assert_eq!(device.replica.conflicts(i64::MAX, 2).await.unwrap(), all[..2]);
    assert_eq!(device.replica.conflicts(all[1].id, 2).await.unwrap(), all[2..]);
    assert_eq!(device.replica.conflicts(all[2].id, 2).await.unwrap(), []);
}

pub async fn the_journal_forgets_single_entries(fixture: &dyn Fixture) {
    let device = pending(fixture).await;
    resolve(&device, &resolved("1", None, None), None).await;
    resolve(&device, &resolved("2", None, None), None).await;
    let all = journal(&device).await;
    device.commit(vec![Op::Forget { conflict: all[1].id }, Op::Forget { conflict: all[0].id + 1000 }]).await;
    assert_eq!(journal(&device).await, all[..1]);
    assert_eq!(device.state().await.conflicts, 1);
}

pub async fn the_journal_drops_what_is_old(fixture: &dyn Fixture) {
    let device = pending(fixture).await;
    for (record, decided_at) in [("1", 10), ("2", 20), ("3", 30)] {
        let resolved = Resolved { decided_at, ..resolved(record, None, None) };
        resolve(&device, &resolved, None).await;
    }
    let all = journal(&device).await;
    device.commit(vec![Op::Prune { before: 20 }]).await;
    assert_eq!(journal(&device).await, all[..2]);
    device.commit(vec![Op::Prune { before: 99 }]).await;
    assert_eq!(journal(&device).await, []);
}

pub async fn the_journal_survives_reopen(fixture: &dyn Fixture) {
    let device = pending(fixture).await;
    resolve(
        &device,
        &resolved("1", some(json!({"a": 2})), some(json!({"a": 1}))),
        Some(patch(json!({"a": 1}))),
    )
    .await;
    let (all, seen) = (journal(&device).await, device.seen("1").await);
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!((journal(&device).await, device.seen("1").await), (all, seen));
}
