//! Batches whose plan no longer fits.

use serde_json::json;

use super::{
    super::upsert,
    Device, Fixture,
    device::{advance, cursor, key, name, settle, store, write},
};
use crate::{
    ids::Counter,
    replica::{Expected, Op, Outcome},
};

/// Whether a batch that expects this is stale, and does nothing then.
async fn is_stale(device: &Device, expected: Expected) -> bool {
    let (state, queue) = (device.state().await, device.queue().await);
    let ops = vec![
        store("stored", super::super::some(json!({}))),
        write("written", upsert(json!({}))),
        advance("moved", &[]),
        Op::Bind { server: "bound".into() },
    ];
    let stale = device.commit_if(expected, ops).await == Outcome::Stale;
    if stale {
        assert_eq!((device.state().await, device.queue().await), (state, queue));
        assert_eq!((device.row("stored").await, device.row("written").await), (None, None));
    }
    stale
}

fn newest(record: &str, counter: Option<Counter>) -> Expected {
    Expected { newest: vec![(key(record), counter)], ..Expected::default() }
}

pub async fn a_batch_of_another_generation_is_stale(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let generation = device.state().await.generation;
    assert!(is_stale(&device, Expected { generation: Some(generation + 1), ..Expected::default() }).await);
    assert!(!is_stale(&device, Expected { generation: Some(generation), ..Expected::default() }).await);
}

pub async fn a_record_with_another_newest_entry_is_stale(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let older = device.write("1", upsert(json!({}))).await;
    let newer = device.write("1", upsert(json!({}))).await;
    assert!(is_stale(&device, newest("1", Some(older))).await);
    assert!(is_stale(&device, newest("1", Some(newer + 1))).await);
    assert!(!is_stale(&device, newest("1", Some(newer))).await);
}

pub async fn a_record_without_entries_is_stale_once_it_has_one(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    device.write("1", upsert(json!({}))).await;
    assert!(is_stale(&device, newest("1", None)).await);
    let both = Expected { newest: vec![(key("2"), None), (key("1"), None)], ..Expected::default() };
    assert!(is_stale(&device, both).await, "one of them is enough");
}

pub async fn a_record_with_entries_is_stale_once_it_has_none(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let counter = device.write("1", upsert(json!({}))).await;
    let sent = device.send_one().await;
    device.commit(vec![settle(&sent, None)]).await;
    assert!(is_stale(&device, newest("1", Some(counter))).await);
    assert!(!is_stale(&device, newest("1", None)).await);
}

pub async fn a_write_to_another_record_makes_nothing_stale(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let counter = device.write("1", upsert(json!({}))).await;
    let planned = Expected {
        generation: Some(device.state().await.generation),
        newest: vec![(key("1"), Some(counter)), (key("2"), None)],
        cursor: Some((name("tasks"), None)),
    };
    device.write("3", upsert(json!({}))).await;
    assert!(!is_stale(&device, planned).await);
}

pub async fn a_page_for_another_cursor_is_stale(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let at = |token: Option<&str>| Expected {
        cursor: Some((name("tasks"), token.map(cursor))),
        ..Expected::default()
    };
    assert!(is_stale(&device, at(Some("one"))).await);
    device.commit(vec![advance("one", &[])]).await;
    assert!(is_stale(&device, at(None)).await);
    assert!(is_stale(&device, at(Some("two"))).await);
    assert!(!is_stale(&device, at(Some("one"))).await);
}

pub async fn a_page_for_a_table_that_is_not_synced_is_stale(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    assert!(
        is_stale(&device, Expected { cursor: Some((name("unsynced"), None)), ..Expected::default() }).await
    );
}

pub async fn a_stale_batch_does_nothing(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    let counter = device.write("1", upsert(json!({}))).await;
    let sent = device.send_one().await;
    let stale = Expected { newest: vec![(key("1"), None)], ..Expected::default() };
    assert_eq!(device.commit_if(stale, vec![settle(&sent, None)]).await, Outcome::Stale);
    assert_eq!(device.entries("1").await.first().map(|entry| entry.counter), Some(counter));
}

pub async fn what_was_expected_and_holds_is_committed(fixture: &dyn Fixture) {
    let device = Device::new(fixture).await;
    assert!(!is_stale(&device, Expected { cursor: Some((name("tasks"), None)), ..newest("1", None) }).await);
    assert_eq!(device.table().await.cursor, Some(cursor("moved")));
    assert!(device.row("written").await.is_some());
}
