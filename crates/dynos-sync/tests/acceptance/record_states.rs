//! What stands beside a record on the screen, from its first edit to the end.

use std::time::{Duration, UNIX_EPOCH};

use dynos_sync::{
    RecordState,
    core::replica::{Existing, TableOptions},
    json,
};
use futures_util::FutureExt;

use crate::stack::{COLUMNS, Device, START, Stack, TABLE, within};

async fn state(device: &Device, id: &str) -> RecordState {
    device.engine.record_state(TABLE, id).await.unwrap()
}

fn pending(edits: u64) -> RecordState {
    RecordState::Pending { edits, retry_at: None, error: None }
}

async fn columns(stack: &Stack, name: &str) -> Device {
    stack
        .device_with(name, |setup| {
            setup.schema = COLUMNS.to_owned();
            setup.config.max_retries = 2;
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_pending_until_the_server_has_it() {
    let stack = Stack::new().await;
    let device = columns(&stack, "device").await;
    assert_eq!(state(&device, "nothing").await, RecordState::Synced);
    device.write("x", json!({"a": 1})).await;
    device.patch("x", json!({"b": 2})).await;
    assert_eq!(state(&device, "x").await, pending(2));
    device.sync().await;
    assert_eq!(state(&device, "x").await, RecordState::Synced);
    // By another program, in the same file.
    rusqlite::Connection::open(&device.path).unwrap().execute_batch("UPDATE notes SET a = 2").unwrap();
    assert_eq!(state(&device, "x").await, pending(1));
    device.remove("x").await;
    assert!(matches!(state(&device, "x").await, RecordState::Pending { .. }));
    device.sync().await;
    assert_eq!(state(&device, "x").await, RecordState::Synced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_told_until_somebody_dismisses_it() {
    let stack = Stack::new().await;
    let (one, two) = (columns(&stack, "one").await, columns(&stack, "two").await);
    one.write("x", json!({"a": 1})).await;
    stack.settle(&[&one, &two]).await;
    two.patch("x", json!({"a": 2})).await;
    two.sync().await;
    one.clock.advance(Duration::from_secs(60));
    one.patch("x", json!({"a": 3})).await;
    one.sync().await;
    let RecordState::Conflicted { conflict } = state(&one, "x").await else {
        panic!("{:?}", state(&one, "x").await)
    };
    assert_eq!(state(&two, "x").await, RecordState::Synced);
    one.engine.undo_conflict(conflict).await.unwrap();
    assert_eq!(state(&one, "x").await, pending(1));
    one.sync().await;
    assert_eq!(state(&one, "x").await, RecordState::Synced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_edit_waits_and_is_then_rejected() {
    let stack = Stack::with(|config| config.limits.record_bytes = 1000).await;
    let device = columns(&stack, "device").await;
    device.write("big", json!({"a": "x".repeat(2000)})).await;
    device.write("small", json!({"a": 1})).await;
    device.sync().await;
    let RecordState::Pending { edits: 1, retry_at: Some(retry_at), error: Some(_) } =
        state(&device, "big").await
    else {
        panic!("{:?}", state(&device, "big").await)
    };
    assert!(retry_at > UNIX_EPOCH + Duration::from_millis(START as u64));
    device.clock.advance(Duration::from_secs(3600));
    device.sync().await;
    let states = device.engine.record_states(TABLE, &["small", "big"]).await.unwrap();
    let [RecordState::Synced, RecordState::Rejected { letter, code, message }] = &states[..] else {
        panic!("{states:?}")
    };
    assert!(!code.is_empty() && !message.is_empty());
    device.engine.discard_dead_letter(*letter).await.unwrap();
    assert_eq!(state(&device, "big").await, RecordState::Synced);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_followed() {
    let stack = Stack::with(|config| config.limits.record_bytes = 1000).await;
    let device = columns(&stack, "device").await;
    let mut letters = device.engine.watch_dead_letters();
    assert_eq!(within(letters.next()).await.unwrap().unwrap(), []);
    let (sender, told) = std::sync::mpsc::channel();
    let blocking = dynos_sync::blocking::SyncEngine::from(device.engine.clone());
    let subscription =
        blocking.on_dead_letters(move |letters| sender.send(letters.unwrap().len()).unwrap_or(())).unwrap();
    for (id, count) in [("one", 1), ("two", 2)] {
        device.write(id, json!({"a": "x".repeat(2000)})).await;
        device.sync().await;
        device.clock.advance(Duration::from_secs(3600));
        device.sync().await;
        let now = loop {
            let now = within(letters.next()).await.unwrap().unwrap();
            if now.len() == count {
                break now;
            }
        };
        assert_eq!(now, device.engine.dead_letters().await.unwrap());
    }
    // An edit is no news of them. One that is gone, and another in its place, is.
    device.write("small", json!({"a": 1})).await;
    while let Some(Some(again)) = Box::pin(letters.next()).now_or_never() {
        assert_eq!(again.unwrap().len(), 2);
    }
    let first = device.engine.dead_letters().await.unwrap()[0].id;
    device.engine.discard_dead_letter(first).await.unwrap();
    while within(letters.next()).await.unwrap().unwrap().len() != 1 {}
    while told.recv_timeout(Duration::from_secs(60)).unwrap() != 2 {}
    while told.recv_timeout(Duration::from_secs(60)).unwrap() != 1 {}
    drop(subscription);
    device.engine.close().await;
    while within(letters.next()).await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_table_does_not_take_is_quarantined() {
    let stack = Stack::new().await;
    let (one, two) =
        (columns(&stack, "one").await, "CREATE TABLE notes (id TEXT PRIMARY KEY, a CHECK (a > 5), b, c)");
    let two = stack.device_with("two", |setup| setup.schema = two.to_owned()).await;
    one.write("x", json!({"a": 1})).await;
    one.sync().await;
    two.sync().await;
    assert!(
        matches!(state(&two, "x").await, RecordState::Quarantined { message } if message.contains("CHECK"))
    );
    one.patch("x", json!({"a": 6})).await;
    one.sync().await;
    two.sync().await;
    assert_eq!(state(&two, "x").await, RecordState::Synced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_not_offered_is_this_devices_alone() {
    let stack = Stack::new().await;
    let device = stack
        .device_with("device", |setup| {
            setup.schema = format!("{COLUMNS}; INSERT INTO notes (id, a) VALUES ('old', 1)");
            setup.tables.clear();
        })
        .await;
    let options = TableOptions { existing: Existing::Ignore, ..TableOptions::new(TABLE.parse().unwrap()) };
    device.engine.add_table_with(options).await.unwrap();
    device.sync().await;
    assert_eq!(state(&device, "old").await, RecordState::Local);
    device.patch("old", json!({"b": 2})).await;
    assert_eq!(state(&device, "old").await, pending(1));
    device.sync().await;
    assert_eq!(state(&device, "old").await, RecordState::Synced);
    assert_eq!(stack.records("ada", TABLE).await["old"]["a"], 1, "the whole row was offered");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_table_that_is_not_synced_nothing_is_said() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    let refused = device.engine.record_state("others", "x").await.unwrap_err();
    assert!(refused.to_string().contains("others is not synced"), "{refused}");
}
