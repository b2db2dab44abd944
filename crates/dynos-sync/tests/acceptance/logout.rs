//! Leaving: nothing of the old user stays, and nothing of the old session happens any more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dynos_sync::{Operation, SyncError, core::Replica, json};
use futures_util::FutureExt;
use tokio::sync::Semaphore;

use crate::{
    proxy::{Fate, PROMPT, Request},
    stack::{COLUMNS, Device, Stack, TABLE, holds, object, until, within},
};

const CANARY: &str = "canary-3f9b1c77";

async fn with_work(stack: &Stack, schema: &str) -> Device {
    let device = stack.device_with("device", |setup| setup.schema = schema.to_owned()).await;
    let other = stack.device_with("other", |setup| setup.schema = schema.to_owned()).await;
    for n in 0..50 {
        device.write(&format!("{CANARY}-{n}"), json!({"a": format!("{CANARY} {n}"), "b": n})).await;
    }
    stack.settle(&[&device, &other]).await;
    other.patch(&format!("{CANARY}-1"), json!({"c": format!("theirs {CANARY}")})).await;
    other.sync().await;
    device.patch(&format!("{CANARY}-2"), json!({"c": CANARY})).await;
    device
}

/// A sync that meets this fate is under way when the user logs out.
async fn log_out_in_the_middle(pull: bool, fate: fn() -> Fate) {
    let path = if pull { "/v1/pull" } else { "/v1/push" };
    for schema in ["", COLUMNS] {
        let stack = Stack::new().await;
        let device = with_work(&stack, schema).await;
        stack.proxy.forget();
        stack.proxy.always(path, fate);
        let engine = device.engine.clone();
        let syncing = tokio::spawn(async move {
            if pull { engine.pull_all().await.map(drop) } else { engine.sync_all().await.map(drop) }
        });
        stack.proxy.arrival(path).await;
        let start = Instant::now();
        assert_eq!(within(device.engine.logout(true)).await.unwrap(), 1);
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
        let ended = within(syncing).await.unwrap();
        assert!(matches!(ended, Err(SyncError::SessionEnded)), "{ended:?}");
        is_empty(&device).await;
        device.engine.close().await;
        assert!(!holds(&device.bytes(), CANARY), "also once the file is closed");
    }
}

async fn is_empty(device: &Device) {
    assert!(!holds(&device.bytes(), CANARY), "something of the user is still in the file");
    let state = device.state().await;
    assert_eq!((state.pending, state.dead_letters, state.conflicts, state.quarantined), (0, 0, 0, 0));
    assert_eq!((state.server, state.last_counter, state.clock), (None, 0, 0));
    assert!(state.tables.iter().all(|table| table.cursor.is_none() && table.synced_at.is_none()));
    assert!(device.rows(TABLE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_a_pull_that_hangs() {
    log_out_in_the_middle(true, || Fate::Hold).await;
    log_out_in_the_middle(true, || Fate::HoldReply).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_a_push_that_hangs() {
    log_out_in_the_middle(false, || Fate::Hold).await;
    log_out_in_the_middle(false, || Fate::HoldReply).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_that_would_lose_something_says_how_much_and_does_nothing() {
    let stack = Stack::with(|config| config.limits.record_bytes = 1000).await;
    let device = stack.device_with("device", |setup| setup.config.max_retries = 1).await;
    device.write("big", json!({"a": "x".repeat(2000)})).await;
    device.sync().await;
    for id in ["x", "y"] {
        device.write(id, json!({"a": 1})).await;
    }
    let before = device.state().await;
    let refused = device.engine.logout(false).await.unwrap_err();
    assert!(matches!(refused, SyncError::Unsynced { changes: 3 }), "{refused}");
    assert_eq!(device.state().await, before);
    device.sync().await;
    let refused = device.engine.logout(false).await.unwrap_err();
    assert!(matches!(refused, SyncError::Unsynced { changes: 1 }), "the dead letter counts: {refused}");
    let letter = device.engine.dead_letters().await.unwrap()[0].id;
    device.engine.discard_dead_letter(letter).await.unwrap();
    assert_eq!(device.engine.logout(false).await.unwrap(), 0);
    assert!(device.rows(TABLE).await.is_empty());
    // The server keeps what it has: the user may come back.
    assert_eq!(stack.records("ada", TABLE).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_quarantined_rows_and_dead_letters_are_forgotten_too() {
    let stack = Stack::with(|config| config.limits.record_bytes = 1000).await;
    let strict = "CREATE TABLE notes (id TEXT PRIMARY KEY, a CHECK (a > 'd'), b, c TEXT)";
    let device = stack
        .device_with("device", |setup| {
            setup.schema = strict.to_owned();
            setup.config.max_retries = 1;
        })
        .await;
    let other = stack.device_with("other", |setup| setup.schema = COLUMNS.to_owned()).await;
    device.write("x", json!({"b": CANARY})).await;
    device.sync().await;
    other.sync().await;
    other.patch("x", json!({"b": format!("{CANARY} other")})).await;
    other.write("refused here", json!({"a": CANARY})).await;
    other.sync().await;
    device.patch("x", json!({"b": format!("{CANARY} mine")})).await;
    device.write("refused there", json!({"b": CANARY.repeat(100)})).await;
    device.sync().await;
    device.sync().await;
    let state = device.state().await;
    assert_eq!((state.conflicts, state.quarantined, state.dead_letters), (1, 1, 1));
    device.engine.logout(true).await.unwrap();
    is_empty(&device).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_logout_the_old_token_is_not_used_again() {
    let stack = Stack::new().await;
    let device = stack.device_with("device", |setup| setup.config.auto_sync = true).await;
    assert!(within(device.engine.initial_sync_done()).await.unwrap());
    stack.proxy.arrival("/v1/events").await;
    device.write("x", json!({"a": 1})).await;
    within(device.engine.drain()).await.unwrap();
    within(device.engine.logout(false)).await.unwrap();
    stack.proxy.forget();
    // Reasons enough to call the server: time, and something to push.
    device.write("y", json!({"a": 1})).await;
    device.clock.pass(Duration::from_secs(3600)).await;
    assert!(
        stack.proxy.seen().is_empty(),
        "{:?}",
        stack.proxy.seen().iter().map(|r| &r.path).collect::<Vec<_>>()
    );
    assert_eq!(device.state().await.pending, 1);
}

/// An engine for each of two processes on one file: the second one logs out.
async fn logged_out_elsewhere(auto_sync: bool) -> (Stack, Device, Device) {
    let stack = Stack::new().await;
    let setup = |setup: &mut crate::stack::Setup| setup.config.auto_sync = auto_sync;
    let here = stack.device_with("device", setup).await;
    here.write(CANARY, json!({"a": CANARY})).await;
    within(here.engine.drain()).await.unwrap();
    if auto_sync {
        // It begins to listen while it is still allowed to.
        stack.proxy.arrival("/v1/events").await;
    }
    let elsewhere = stack.device("device").await;
    within(elsewhere.engine.logout(true)).await.unwrap();
    stack.proxy.forget();
    (stack, here, elsewhere)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_ahead_of_a_logout_by_another_process_does_not_leave() {
    let stack = Stack::new().await;
    let here = stack.device_with("device", |setup| setup.config.batch_size = 1).await;
    here.sync().await;
    for id in ["first", "second"] {
        here.write(id, json!({"a": CANARY})).await;
    }
    stack.proxy.forget();
    let gate = Arc::new(Semaphore::new(0));
    stack.proxy.once("/v1/push", Fate::Wait(Arc::clone(&gate)));
    let engine = here.engine.clone();
    let draining = tokio::spawn(async move { engine.drain().await });
    // The first is under way, and the next is marked already.
    let table = TABLE.parse().unwrap();
    until(async || here.replica.unsettled(&table, 9).await.unwrap().len() == 2).await;
    let elsewhere = stack.device("device").await;
    within(elsewhere.engine.logout(true)).await.unwrap();
    gate.add_permits(1);
    let ended = within(draining).await.unwrap();
    assert!(matches!(ended, Err(SyncError::SessionEnded)), "{ended:?}");
    let pushed: Vec<Vec<String>> = stack.proxy.seen_at("/v1/push").iter().map(Request::ids).collect();
    assert_eq!(pushed, [["first"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_by_another_process_ends_the_session_here() {
    let (stack, here, elsewhere) = logged_out_elsewhere(false).await;
    let ended =
        |result: Result<(), SyncError>| assert!(matches!(result, Err(SyncError::SessionEnded)), "{result:?}");
    let fields = || dynos_sync::Fields::from_iter([("a".to_owned(), CANARY.into())]);
    ended(here.engine.write(TABLE, "late", fields()).await);
    ended(here.engine.write_many(TABLE, vec![("late".to_owned(), fields())]).await);
    ended(here.engine.push(TABLE, "late", fields(), Operation::Upsert).await);
    ended(here.engine.sync_all().await.map(drop));
    ended(here.engine.drain().await.map(drop));
    ended(here.engine.write(TABLE, "late", fields()).await);
    assert!(stack.proxy.seen().is_empty(), "the old user's token was used");
    is_empty(&elsewhere).await;
    // Who logs out here may go on here.
    assert_eq!(here.engine.logout(false).await.unwrap(), 0);
    here.write("next", json!({"a": 1})).await;
    here.sync().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_syncs_by_itself_stops_where_another_process_has_logged_out() {
    let (stack, here, elsewhere) = logged_out_elsewhere(true).await;
    here.clock.pass(Duration::from_secs(3600)).await;
    let called: Vec<_> = stack.proxy.seen().into_iter().map(|request| request.path).collect();
    assert!(called.is_empty(), "{called:?}");
    is_empty(&elsewhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_user_of_the_device_gets_their_own_rows_only() {
    let stack = Stack::new().await;
    let device = with_work(&stack, "").await;
    let old = device.state().await.replica;
    device.engine.logout(true).await.unwrap();
    device.engine.close().await;
    let bob = stack.device_with("device", |setup| setup.user = "bob".to_owned()).await;
    assert_ne!(bob.state().await.replica, old);
    stack.proxy.forget();
    bob.write("bobs", json!({"a": 1})).await;
    bob.sync().await;
    let seen = stack.proxy.seen();
    let of_ada =
        |request: &crate::proxy::Request| request.carries(CANARY) || request.carries(&old.to_string());
    assert!(seen.len() > 2 && !seen.iter().any(of_ada), "something of the user before was sent");
    assert!(!holds(&bob.bytes(), CANARY));
    assert_eq!(bob.rows(TABLE).await.len(), 1);
    assert_eq!(stack.records("bob", TABLE).await.len(), 1);
    assert_eq!(stack.records("ada", TABLE).await.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_logout_nobody_listens_for_the_user() {
    let stack = Stack::new().await;
    let device = stack.device_with("device", |setup| setup.config.auto_sync = true).await;
    let other = stack.device("other").await;
    let listeners = async |count: &str| {
        let line = format!("dynos_event_streams {count}");
        until(async || stack.metrics().await.lines().any(|found| found == line)).await;
    };
    listeners("1").await;
    within(device.engine.drain()).await.unwrap();
    within(device.engine.logout(true)).await.unwrap();
    // The server sees that the connection is closed.
    listeners("0").await;
    let mut events = device.engine.events();
    other.write("x", json!({"a": 1})).await;
    other.sync().await;
    device.clock.pass(Duration::from_secs(3600)).await;
    assert!(crate::stack::told(&mut events).is_empty());
    assert!(device.rows(TABLE).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_kept_from_being_scrubbed_is_scrubbed_at_the_next_opening() {
    let stack = Stack::new().await;
    let device = with_work(&stack, COLUMNS).await;
    // Another program reads on: it sees the rows of before, and SQLite has to keep them.
    let reader = rusqlite::Connection::open(&device.path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = || reader.query_row("SELECT count(*) FROM notes", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count(), 50);
    within(device.engine.logout(true)).await.unwrap();
    assert_eq!((device.rows(TABLE).await.len(), count()), (0, 50));
    assert!(holds(&device.bytes(), CANARY), "this is what is to be mended");
    device.engine.close().await;
    drop(reader);
    let device = stack.device_with("device", |setup| setup.schema = COLUMNS.to_owned()).await;
    is_empty(&device).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_asked_for_during_a_logout_is_not_the_next_users() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    let mut leaving = Box::pin(device.engine.logout(true));
    assert!((&mut leaving).now_or_never().is_none(), "it has begun");
    let late = device.engine.write(TABLE, "late", object(json!({"a": 1}))).await.unwrap_err();
    assert!(matches!(late, SyncError::SessionEnded), "{late}");
    leaving.await.unwrap();
    device.write("next", json!({"a": 2})).await;
    assert_eq!(device.rows(TABLE).await.into_keys().collect::<Vec<_>>(), ["next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_has_begun_before_a_logout_does_not_change_what_the_next_user_has() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    device.write("x", json!({"a": 1})).await;
    let change = |_| Ok(object(json!({"a": "of the last user"})));
    let mut late = Box::pin(device.engine.update(TABLE, "x", change));
    assert!((&mut late).now_or_never().is_none(), "it has begun");
    within(device.engine.logout(true)).await.unwrap();
    device.write("x", json!({"a": 2})).await;
    let refused = within(late).await.unwrap_err();
    assert!(matches!(refused, SyncError::SessionEnded), "{refused}");
    assert_eq!(device.get("x").await, Some(json!({"a": 2})));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_something_sees_no_error_of_a_logout() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    let mut following = Vec::new();
    for _ in 0..4 {
        let mut statuses = device.engine.watch_status();
        let mut conflicts = device.engine.watch_conflicts();
        following.push(tokio::spawn(async move {
            while let Some(status) = statuses.next().await {
                status?;
            }
            Ok::<_, SyncError>(())
        }));
        following.push(tokio::spawn(async move {
            while let Some(conflicts) = conflicts.next().await {
                conflicts?;
            }
            Ok(())
        }));
    }
    for n in 0..100 {
        device.write("x", json!({"a": n})).await;
        assert_eq!(within(device.engine.logout(true)).await.unwrap(), 1);
    }
    device.engine.close().await;
    for followed in following {
        within(followed).await.unwrap().unwrap();
    }
}
