//! Base images, and entries that have taken effect.

use serde_json::json;

use super::{
    super::{patch, some, upsert},
    Device, Fixture,
    device::{edits, id, key, name, settle, store},
};
use crate::{entry::Edit, replica::Op};

/// A record `{a: 0}` from the server, its patch `{a: 1}` sent, and a newer patch `{b: 2}`.
async fn sent_and_newer(fixture: &dyn Fixture) -> (Device, crate::Entry) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    device.write("1", patch(json!({"a": 1}))).await;
    let sent = device.send_one().await;
    device.write("1", patch(json!({"b": 2}))).await;
    (device, sent)
}

pub async fn the_base_is_the_record_before_its_first_pending_edit(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    for edit in [patch(json!({"a": 1})), Edit::Delete, upsert(json!({"a": 3}))] {
        device.write("1", edit).await;
        assert_eq!(device.base("1").await, some(json!({"a": 0})));
    }
}

pub async fn a_new_record_has_no_base(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    device.write("1", patch(json!({"a": 2}))).await;
    assert_eq!(device.base("1").await, None);
}

pub async fn a_settled_edit_is_folded_into_the_base(fixture: &dyn Fixture) {
    let (device, sent) = sent_and_newer(fixture).await;
    device.commit(vec![settle(&sent, None)]).await;
    let seen = device.seen("1").await;
    assert_eq!(seen.base, some(json!({"a": 1})));
    assert_eq!(seen.row, some(json!({"a": 1, "b": 2})));
    assert_eq!(edits(&seen.entries), [patch(json!({"b": 2}))]);
}

pub async fn a_settled_delete_leaves_no_base(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.commit(vec![store("1", some(json!({"a": 0})))]).await;
    device.write("1", Edit::Delete).await;
    let sent = device.send_one().await;
    device.write("1", upsert(json!({"b": 1}))).await;
    device.commit(vec![settle(&sent, None)]).await;
    assert_eq!((device.base("1").await, device.row("1").await), (None, some(json!({"b": 1}))));
}

pub async fn the_servers_form_becomes_the_base_while_newer_edits_are_pending(fixture: &dyn Fixture) {
    let (device, sent) = sent_and_newer(fixture).await;
    let form = some(json!({"a": 1, "stamped": true}));
    device.commit(vec![settle(&sent, form.clone())]).await;
    let seen = device.seen("1").await;
    assert_eq!((seen.base, seen.row), (form, some(json!({"a": 1, "b": 2}))));
    assert_eq!(edits(&seen.entries), [patch(json!({"b": 2}))]);
}

pub async fn the_servers_form_becomes_the_row_once_nothing_is_pending(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    let sent = device.send_one().await;
    let form = some(json!({"a": 1, "stamped": true}));
    device.commit(vec![settle(&sent, form.clone())]).await;
    assert_eq!(device.row("1").await, form);
    assert_eq!(device.queue().await, []);
}

pub async fn without_a_servers_form_the_row_stays(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    let sent = device.send_one().await;
    device.commit(vec![settle(&sent, None)]).await;
    assert_eq!(device.row("1").await, some(json!({"a": 1})));
    assert_eq!(device.state().await.pending, 0);
}

pub async fn once_nothing_is_pending_the_next_edit_has_the_row_as_its_base(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({"a": 1}))).await;
    let sent = device.send_one().await;
    device.commit(vec![settle(&sent, None)]).await;
    assert_eq!(device.replica.records(&name("tasks"), &[id("1")], false).await.unwrap(), []);
    device.write("1", patch(json!({"a": 2}))).await;
    assert_eq!(device.base("1").await, some(json!({"a": 1})));
}

pub async fn settling_an_unknown_counter_does_nothing(fixture: &dyn Fixture) {
    let (device, sent) = sent_and_newer(fixture).await;
    let (state, seen) = (device.state().await, device.seen("1").await);
    let form = some(json!({"a": 9}));
    for (record, counter) in [("1", sent.counter + 1000), ("2", sent.counter)] {
        device.commit(vec![Op::Settle { key: key(record), counter, record: form.clone() }]).await;
    }
    assert_eq!((device.state().await, device.seen("1").await), (state, seen));
    assert_eq!(device.row("2").await, None);
    device.commit(vec![settle(&sent, None), settle(&sent, form)]).await;
    assert_eq!(device.base("1").await, some(json!({"a": 1})), "a repeat comes too late");
}

pub async fn the_base_survives_reopen(fixture: &dyn Fixture) {
    let (device, sent) = sent_and_newer(fixture).await;
    let seen = device.seen("1").await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.seen("1").await, seen);
    device.commit(vec![settle(&sent, None)]).await;
    let Some(device) = device.reopened(fixture).await else { return };
    assert_eq!(device.base("1").await, some(json!({"a": 1})));
}
