//! Local edits.

use std::pin::pin;

use futures_util::FutureExt;
use serde_json::json;

use super::{
    super::{patch, replace, some, upsert},
    Device, Fixture,
    device::{TABLE, counters, edits, id, ids, key, key_in, name, settle, store, write},
};
use crate::{
    entry::Edit,
    replica::{Batch, Op, ReplicaError, TableOptions, TablePolicy},
};

pub async fn a_write_is_queued_and_can_be_read(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let counter = device.write("1", upsert(json!({"a": 1}))).await;
    assert_eq!(device.row("1").await, some(json!({"a": 1})));
    assert_eq!(device.row("2").await, None);
    let [entry] = &device.queue().await[..] else { panic!("one entry") };
    assert_eq!((entry.counter, &entry.key, &entry.edit), (counter, &key("1"), &upsert(json!({"a": 1}))));
    assert_eq!((&entry.sent, entry.attempts, entry.retry_at), (&None, 0, None));
}

pub async fn each_kind_of_edit_changes_the_row_in_its_way(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    for (edit, expected) in [
        (upsert(json!({"a": 1, "b": 1})), some(json!({"a": 1, "b": 1}))),
        (upsert(json!({"b": 2, "c": 2})), some(json!({"a": 1, "b": 2, "c": 2}))),
        (patch(json!({"a": null})), some(json!({"a": null, "b": 2, "c": 2}))),
        (replace(json!({"d": 4})), some(json!({"d": 4}))),
        (Edit::Delete, None),
        (replace(json!({"e": 5})), some(json!({"e": 5}))),
        (Edit::Delete, None),
        (upsert(json!({})), some(json!({}))),
    ] {
        device.write("1", edit.clone()).await;
        assert_eq!(device.row("1").await, expected, "after {edit:?}");
    }
    assert_eq!(device.entries("1").await.len(), 8, "each is an entry of its own");
}

pub async fn a_batch_with_a_patch_of_a_missing_record_does_nothing(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let before = device.state().await;
    let refused =
        device.attempt(vec![write("1", upsert(json!({}))), write("2", patch(json!({"a": 1})))]).await;
    assert!(matches!(&refused, Err(ReplicaError::NotFound(missing)) if *missing == key("2")), "{refused:?}");
    assert_eq!(device.row("1").await, None);
    assert_eq!(device.state().await, before);
    let refused = device.attempt(vec![write("2", patch(json!({"a": 1})))]).await;
    assert!(matches!(refused, Err(ReplicaError::NotFound(_))), "alone it is refused too");
}

pub async fn a_row_of_somebody_else_is_not_edited(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let policy = TablePolicy {
        user: Some("ada".to_owned()),
        owner_columns: vec!["owner_id".to_owned()],
        ..TablePolicy::default()
    };
    device.replica.add_table(TableOptions { policy, ..TableOptions::new(name(TABLE)) }).await.unwrap();
    let mine = json!({"owner_id": "ada", "a": 0});
    let others = json!({"owner_id": "bob", "a": 0});
    device.commit(vec![store("1", some(mine)), store("2", some(others.clone()))]).await;
    for edit in [upsert(json!({"a": 1})), replace(json!({"a": 1})), patch(json!({"a": 1})), Edit::Delete] {
        device.write("1", upsert(json!({"owner_id": "ada", "a": 0}))).await;
        device.write("1", edit.clone()).await;
        for op in [write("2", edit.clone()), Op::Enqueue { key: key("2"), edit: edit.clone(), at: 0 }] {
            let refused = device.attempt(vec![op]).await;
            assert!(
                matches!(&refused, Err(ReplicaError::Foreign { key: of, row_owner }) if *of == key("2") && row_owner == "bob"),
                "{edit:?}: {refused:?}"
            );
        }
    }
    assert_eq!(device.row("2").await, some(others));
    assert_eq!(device.entries("2").await, []);
}

pub async fn a_batch_whose_last_step_fails_does_nothing(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    device.write("1", patch(json!({"a": 1}))).await;
    let (state, seen, entry) =
        (device.state().await, device.seen("1").await, device.entries("1").await.remove(0));
    let ops = vec![
        write("1", Edit::Delete),
        write("2", upsert(json!({}))),
        settle(&entry, None),
        Op::Observe { at: 9999 },
        Op::Bind { server: "s".into() },
        Op::Rename,
        Op::Write { key: key_in("unsynced", "1"), edit: upsert(json!({})), at: 0 },
    ];
    let refused = device.attempt(ops).await;
    assert!(matches!(refused, Err(ReplicaError::UnknownTable(_))), "{refused:?}");
    assert_eq!((device.state().await, device.seen("1").await), (state, seen));
    assert_eq!(device.row("2").await, None);
}

pub async fn a_delete_of_a_missing_record_does_nothing(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    assert_eq!(device.commit(vec![write("1", Edit::Delete)]).await.written, [None]);
    assert_eq!(device.queue().await, []);
}

pub async fn a_receipt_names_the_writes_in_order(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let receipt = device
        .commit(vec![
            write("1", upsert(json!({}))),
            store("3", some(json!({}))),
            write("2", Edit::Delete),
            Op::Enqueue { key: key("3"), edit: upsert(json!({})), at: 0 },
            write("1", Edit::Delete),
        ])
        .await;
    let queue = device.queue().await;
    assert_eq!(ids(&queue), ["1", "3", "1"]);
    let counters = counters(&queue);
    assert_eq!(receipt.written, [Some(counters[0]), None, Some(counters[1]), Some(counters[2])]);
    assert_eq!((receipt.quarantined, receipt.buried), (vec![], vec![]));
}

pub async fn counters_rise(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let mut last = device.state().await.last_counter;
    for record in ["2", "1", "2", "3"] {
        let counter = device.write(record, upsert(json!({}))).await;
        assert!(counter > last, "{counter} follows {last}");
        last = counter;
        assert_eq!(device.state().await.last_counter, counter);
    }
}

pub async fn counters_rise_over_reopen(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let used = device.write("1", upsert(json!({}))).await;
    let sent = device.send_one().await;
    device.commit(vec![settle(&sent, None)]).await;
    assert_eq!(device.queue().await, [], "nothing that is left shows which numbers were used");
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.state().await.last_counter, used);
    assert!(device.write("1", upsert(json!({}))).await > used);
}

pub async fn edit_times_rise_even_where_the_clock_steps_back(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    for (at, expected) in [(100, 100), (50, 101), (101, 102), (200, 200)] {
        device.commit(vec![Op::Write { key: key("1"), edit: upsert(json!({})), at }]).await;
        assert_eq!(device.queue().await.last().map(|entry| entry.at), Some(expected));
        assert_eq!(device.state().await.clock, expected);
    }
}

pub async fn enqueue_leaves_the_row_alone(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 1})))]).await;
    let enqueue = |record: &str, edit| Op::Enqueue { key: key(record), edit, at: 5 };
    let receipt = device.commit(vec![enqueue("1", patch(json!({"a": 1}))), enqueue("2", Edit::Delete)]).await;
    assert_eq!(device.row("1").await, some(json!({"a": 1})));
    let queue = device.queue().await;
    assert_eq!(receipt.written, counters(&queue).into_iter().map(Some).collect::<Vec<_>>());
    assert_eq!(edits(&queue), [patch(json!({"a": 1})), Edit::Delete]);
}

pub async fn an_offer_starts_from_the_servers_version(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 2})))]).await;
    let base = some(json!({"a": 1}));
    let offer = |base, edit| Op::Offer { key: key("1"), base, edit, at: 5 };
    let receipt = device.commit(vec![offer(base.clone(), replace(json!({"a": 2})))]).await;
    assert_eq!(receipt.written, [], "it is nobody's write");
    let seen = device.seen("1").await;
    assert_eq!((seen.base, seen.row), (base, some(json!({"a": 2}))));
    assert_eq!(edits(&seen.entries), [replace(json!({"a": 2}))]);
    assert_eq!(seen.entries[0].at, 5, "an offer has the time that it is given");
}

pub async fn store_changes_only_the_row(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let before = device.state().await;
    device.commit(vec![store("1", some(json!({"a": 1, "b": 1})))]).await;
    device.commit(vec![store("1", some(json!({"a": 2})))]).await;
    assert_eq!(device.row("1").await, some(json!({"a": 2})), "a document is stored whole");
    device.commit(vec![store("1", None), store("2", None)]).await;
    assert_eq!(device.row("1").await, None);
    assert_eq!(device.state().await, before);
}

pub async fn a_table_that_is_not_synced_is_named(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let unknown = key_in("unsynced", "1");
    let named =
        |error: &ReplicaError| matches!(error, ReplicaError::UnknownTable(table) if *table == unknown.table);
    assert!(named(&device.replica.get(&unknown).await.unwrap_err()));
    for edit in [upsert(json!({})), replace(json!({})), patch(json!({})), Edit::Delete] {
        let write = Op::Write { key: unknown.clone(), edit: edit.clone(), at: 0 };
        assert!(named(&device.attempt(vec![write]).await.unwrap_err()), "{edit:?}");
        let enqueue = Op::Enqueue { key: unknown.clone(), edit, at: 0 };
        assert!(named(&device.attempt(vec![enqueue]).await.unwrap_err()));
    }
    assert_eq!(device.queue().await, []);
}

pub async fn records_answers_those_with_entries_or_all(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("clean", some(json!({"a": 1})))]).await;
    device.write("pending", upsert(json!({"a": 2}))).await;
    device.write("unasked", upsert(json!({"a": 3}))).await;
    let asked = [id("missing"), id("clean"), id("pending")];
    let pending = device.replica.records(&name("tasks"), &asked, false).await.unwrap();
    assert_eq!(pending.iter().map(|seen| seen.id.as_str()).collect::<Vec<_>>(), ["pending"]);
    assert_eq!(pending[0].row, some(json!({"a": 2})), "the row comes with its entries");
    assert_eq!(pending[0].entries.len(), 1);
    let mut all = device.replica.records(&name("tasks"), &asked, true).await.unwrap();
    all.sort_by(|one, other| one.id.cmp(&other.id));
    let all: Vec<_> =
        all.iter().map(|seen| (seen.id.as_str(), seen.row.is_some(), seen.entries.len())).collect();
    assert_eq!(all, [("clean", true, 0), ("missing", false, 0), ("pending", true, 1)]);
}

pub async fn the_queue_is_read_in_pages(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    for record in ["3", "1", "2", "1", "3"] {
        device.write(record, upsert(json!({}))).await;
    }
    let (mut after, mut read) = (0, Vec::new());
    loop {
        let page = device.replica.queue(after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = last.counter;
        read.extend(page);
    }
    assert_eq!(ids(&read), ["3", "1", "2", "1", "3"]);
    assert_eq!(read, device.queue().await);
}

pub async fn a_call_that_nobody_polls_holds_no_other_up(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    let replica = &device.replica;
    let (name, ids) = (name(TABLE), [id("1")]);
    let one = key("1");
    let (mut state, mut get) = (pin!(replica.state()), pin!(replica.get(&one)));
    let mut records = pin!(replica.records(&name, &ids, true));
    let batch = Batch { ops: vec![write("2", upsert(json!({"a": 2})))], ..Batch::default() };
    let mut commit = pin!(replica.commit(batch));
    let _ = ((&mut state).now_or_never(), (&mut get).now_or_never());
    let _ = ((&mut records).now_or_never(), (&mut commit).now_or_never());
    device.write("3", upsert(json!({"a": 3}))).await;
    assert_eq!(device.row("3").await, some(json!({"a": 3})));
    assert_eq!(device.state().await.pending, 3, "it had been asked for before");
}

pub async fn a_write_survives_reopen(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("2", some(json!({"b": 1})))]).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    device.write("2", Edit::Delete).await;
    let (state, queue) = (device.state().await, device.queue().await);
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!((device.state().await, device.queue().await), (state, queue));
    assert_eq!((device.row("1").await, device.row("2").await), (some(json!({"a": 1})), None));
}
