//! The engine as an application meets it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use dynos_sync::{ConnectionState, Operation, SyncError, SyncEvent, json};
use futures_executor::block_on;
use futures_util::FutureExt;
use tokio::sync::Semaphore;

use crate::{
    proxy::{Fate, PROMPT},
    stack::{Device, START, Setup, Stack, TABLE, TestClock, object, told, until, within},
};

fn worker(setup: &mut Setup) {
    setup.config.auto_sync = true;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_sync_is_waited_for() {
    let stack = Stack::new().await;
    let one = stack.device("one").await;
    let waiting = tokio::spawn({
        let engine = one.engine.clone();
        async move { engine.initial_sync_done().await }
    });
    assert!(one.engine.initial_sync_done().now_or_never().is_none());
    one.sync().await;
    assert!(within(waiting).await.unwrap().unwrap());
    stack.proxy.offline();
    let two = stack.device_with("two", worker).await;
    assert!(!within(two.engine.initial_sync_done()).await.unwrap(), "it has ended, without success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_listener_is_told_how_much_it_missed() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    let mut events = device.engine.events();
    let records = (0..3000).map(|n| (n.to_string(), object(json!({"a": n})))).collect();
    device.engine.write_many(TABLE, records).await.unwrap();
    device.sync().await;
    let first = events.next().await.unwrap();
    assert!(matches!(first.event, SyncEvent::Missed { count } if count > 1900), "{first:?}");
    let pushed =
        told(&mut events).into_iter().filter(|event| matches!(event, SyncEvent::Pushed { .. })).count();
    assert!((900..=1024).contains(&pushed), "{pushed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_how_things_stand() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    device.write("x", json!({"a": 1})).await;
    let status = device.engine.status().await.unwrap();
    assert_eq!((status.connection, status.syncing, status.pending), (ConnectionState::Unknown, false, 1));
    stack.proxy.offline();
    assert!(within(device.engine.sync_all()).await.unwrap_err().is_transient());
    assert_eq!(device.engine.status().await.unwrap().connection, ConnectionState::Offline);
    stack.proxy.heal();
    device.sync().await;
    let status = device.engine.status().await.unwrap();
    assert_eq!((status.connection, status.pending), (ConnectionState::Online, 0));
    let table = &status.tables[0];
    assert!(table.cursor.is_some() && table.declared);
    assert_eq!(table.synced_at, Some(device.clock.now()));
    // While a sync waits for the server, that is what it says.
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    stack.proxy.forget();
    stack.proxy.plan(move |_| Fate::Wait(Arc::clone(&waiting)));
    let engine = device.engine.clone();
    let syncing = tokio::spawn(async move { engine.sync_all().await });
    stack.proxy.arrival("/v1/heads").await;
    assert!(device.engine.status().await.unwrap().syncing && device.engine.is_draining());
    gate.add_permits(100);
    within(syncing).await.unwrap().unwrap();
    assert!(!device.engine.is_draining());
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_come_and_go_while_a_sync_runs() {
    let stack = Stack::new().await;
    let (one, two) = (stack.device("one").await, stack.device("two").await);
    two.write("x", json!({"a": 1})).await;
    two.engine.add_table("others", true).await.unwrap();
    two.engine.write("others", "o", object(json!({"a": 1}))).await.unwrap();
    two.sync().await;
    for path in ["/v1/pull", "/v1/push", "/v1/heads"] {
        let gate = Arc::new(Semaphore::new(0));
        let waiting = Arc::clone(&gate);
        stack.proxy.forget();
        stack.proxy.always(path, move || Fate::Wait(Arc::clone(&waiting)));
        two.engine.remove_table("unrelated").await.unwrap();
        one.write("mine", json!({"a": path})).await;
        let engine = one.engine.clone();
        let pull = path == "/v1/pull";
        let syncing = tokio::spawn(async move {
            if pull { engine.pull_all().await.map(drop) } else { engine.sync_all().await.map(drop) }
        });
        stack.proxy.arrival(path).await;
        assert!(within(one.engine.add_table("others", true)).await.unwrap());
        assert!(within(one.engine.remove_table(TABLE)).await.unwrap());
        gate.add_permits(1000);
        // It ends, and what it says is about the tables, not a crash.
        let _ = within(syncing).await.unwrap();
        stack.proxy.heal();
        assert!(within(one.engine.add_table(TABLE, true)).await.unwrap());
        one.sync().await;
        one.sync().await;
        assert_eq!(one.rows(TABLE).await, stack.records("ada", TABLE).await, "{path}");
        assert_eq!(one.rows("others").await, stack.records("ada", "others").await, "{path}");
        assert_eq!(one.get("mine").await, Some(json!({"a": path})));
        assert_eq!(one.state().await.dead_letters, 0);
        assert!(within(one.engine.remove_table("others")).await.unwrap());
    }
}

#[test]
fn a_program_without_async_uses_it_with_any_executor() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (stack, one, two) = runtime.block_on(async {
        let stack = Stack::new().await;
        let (one, two) = (stack.device_with("one", worker).await, stack.device("two").await);
        (stack, one, two)
    });
    let plain = std::thread::spawn(move || {
        block_on(one.engine.write(TABLE, "x", object(json!({"a": 1})))).unwrap();
        block_on(one.engine.patch(TABLE, "x", object(json!({"b": 1})))).unwrap();
        assert!(block_on(one.engine.initial_sync_done()).unwrap());
        block_on(one.engine.sync_all()).unwrap();
        block_on(two.engine.pull_all()).unwrap();
        assert_eq!(block_on(two.engine.get(TABLE, "x")).unwrap(), Some(object(json!({"a": 1, "b": 1}))));
        assert!(block_on(two.engine.remove(TABLE, "x")).unwrap());
        block_on(two.engine.drain()).unwrap();
        block_on(one.engine.close());
        block_on(two.engine.close());
    });
    plain.join().unwrap();
    drop(runtime);
    drop(stack);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_never_waits_for_the_network() {
    let stack = Stack::new().await;
    stack.proxy.plan(|_| Fate::Hold);
    let device = stack.device_with("device", worker).await;
    stack.proxy.arrival("/v1/heads").await;
    let start = Instant::now();
    for n in 0..20 {
        device.write(&format!("r{n}"), json!({"a": n})).await;
        device.patch(&format!("r{n}"), json!({"b": n})).await;
        assert!(device.get(&format!("r{n}")).await.is_some());
    }
    device.remove("r0").await;
    assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    // Nor does closing.
    device.engine.close().await;
    assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_the_other_device_without_anybody_asking() {
    let stack = Stack::new().await;
    let (one, two) = (stack.device_with("one", worker).await, stack.device_with("two", worker).await);
    for device in [&one, &two] {
        within(device.engine.initial_sync_done()).await.unwrap();
    }
    until(async || stack.proxy.seen_at("/v1/events").len() == 2).await;
    // The clocks stand: it is the queue that wakes the one, and a hint that wakes the other.
    one.write("x", json!({"a": 1})).await;
    until(async || two.get("x").await.is_some()).await;
    two.patch("x", json!({"b": 2})).await;
    until(async || one.get("x").await == Some(json!({"a": 1, "b": 2}))).await;
    two.remove("x").await;
    until(async || one.get("x").await.is_none()).await;
    // What another program writes is found when its time comes.
    one.sql("INSERT INTO notes (id, data) VALUES ('sql', '{\"a\":1}')").await;
    one.clock.advance(Duration::from_secs(2));
    until(async || two.get("sql").await.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_come_back_after_the_server_was_away() {
    let stack = Stack::new().await;
    let (one, two) = (stack.device_with("one", worker).await, stack.device("two").await);
    within(one.engine.initial_sync_done()).await.unwrap();
    stack.proxy.arrival("/v1/events").await;
    stack.stop().await;
    stack.start().await;
    stack.proxy.forget();
    until(async || {
        one.clock.advance(Duration::from_secs(1));
        !stack.proxy.seen_at("/v1/events").is_empty()
    })
    .await;
    two.write("x", json!({"a": 1})).await;
    two.sync().await;
    until(async || {
        one.clock.advance(Duration::from_secs(1));
        one.get("x").await.is_some()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_of_hints_leaves_the_connection_unknown_until_the_server_was_called() {
    let stack = Stack::new().await;
    let (one, two) = (stack.device_with("one", worker).await, stack.device("two").await);
    let connection = async || one.engine.status().await.unwrap().connection;
    within(one.engine.initial_sync_done()).await.unwrap();
    two.write("x", json!({"a": 1})).await;
    two.sync().await;
    // It came with a hint: time stands still.
    until(async || one.get("x").await.is_some()).await;
    assert_eq!(connection().await, ConnectionState::Online);
    stack.stop().await;
    until(async || connection().await == ConnectionState::Unknown).await;
    one.clock.pass(Duration::from_secs(2)).await;
    until(async || connection().await == ConnectionState::Offline).await;
    stack.start().await;
    until(async || {
        one.clock.advance(Duration::from_secs(1));
        connection().await == ConnectionState::Online
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_logged_out_is_signed_out_until_the_application_syncs() {
    let stack = Stack::new().await;
    let device = stack.device_with("device", worker).await;
    let connection = async || device.engine.status().await.unwrap().connection;
    within(device.engine.initial_sync_done()).await.unwrap();
    until(async || connection().await == ConnectionState::Online).await;
    within(device.engine.logout(false)).await.unwrap();
    assert_eq!(connection().await, ConnectionState::SignedOut);
    device.sync().await;
    assert_eq!(connection().await, ConnectionState::Online);
}

fn closed<T: std::fmt::Debug>(result: Result<T, SyncError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, SyncError::Closed), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_close_every_call_says_so() {
    let stack = Stack::new().await;
    for auto_sync in [false, true] {
        stack.proxy.offline();
        let device = stack.device_with("device", |setup| setup.config.auto_sync = auto_sync).await;
        let engine = device.engine.clone();
        let mut events = engine.events();
        engine.close().await;
        engine.close().await;
        let some = || object(json!({"a": 1}));
        closed(within(engine.write(TABLE, "x", some())).await);
        closed(within(engine.patch(TABLE, "x", some())).await);
        closed(within(engine.remove(TABLE, "x")).await);
        closed(within(engine.write_many(TABLE, vec![("x".to_owned(), some())])).await);
        closed(within(engine.push(TABLE, "x", some(), Operation::Upsert)).await);
        closed(within(engine.get(TABLE, "x")).await);
        closed(within(engine.drain()).await);
        closed(within(engine.drain_once()).await);
        closed(within(engine.pull_all()).await);
        closed(within(engine.sync_all()).await);
        closed(within(engine.add_table("t", true)).await);
        closed(within(engine.remove_table(TABLE)).await);
        closed(within(engine.tables()).await);
        closed(within(engine.status()).await);
        closed(within(engine.dead_letters()).await);
        closed(within(engine.retry_dead_letter(1)).await);
        closed(within(engine.discard_dead_letter(1)).await);
        closed(within(engine.conflicts()).await);
        closed(within(engine.undo_conflict(1)).await);
        closed(within(engine.logout(true)).await);
        if !auto_sync {
            closed(within(engine.initial_sync_done()).await);
        }
        within(async { while events.next().await.is_some() {} }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_when_the_engine_is_closed_is_told() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    stack.proxy.plan(|_| Fate::Hold);
    let (first, second) = (device.engine.clone(), device.engine.clone());
    let waiting = tokio::spawn(async move { first.initial_sync_done().await });
    let syncing = tokio::spawn(async move { second.sync_all().await });
    stack.proxy.arrival("/v1/heads").await;
    within(device.engine.close()).await;
    assert!(within(syncing).await.unwrap().is_err());
    let told = within(waiting).await.unwrap();
    assert!(matches!(told, Ok(false) | Err(SyncError::Closed)), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_on_one_file_lose_nothing_and_double_nothing() {
    let stack = Stack::new().await;
    let (one, same) = (stack.device("file").await, stack.device("file").await);
    let other = stack.device("other").await;
    let work = async |device: &Device, name: &str| {
        for n in 0..40 {
            device.write(&format!("{name}{n}"), json!({"a": n})).await;
            device.engine.write(TABLE, "shared", object(json!({name: n}))).await.unwrap();
            if n % 4 == 0 {
                // Another process may have sent what this one was about to.
                let _ = within(device.engine.sync_all()).await;
            }
        }
    };
    tokio::join!(work(&one, "one"), work(&same, "same"));
    let records = stack.settle(&[&one, &same, &other]).await;
    assert_eq!(records.len(), 81);
    assert_eq!(records["shared"], json!({"one": 39, "same": 39}));
    for device in [&one, &other] {
        let state = device.state().await;
        assert_eq!((state.conflicts, state.dead_letters), (0, 0), "{:?}", device.engine.conflicts().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_file_with_pending_entries_is_another_device() {
    let stack = Stack::new().await;
    let one = stack.device("one").await;
    one.write("x", json!({"a": 1})).await;
    one.sync().await;
    for n in 0..5 {
        one.write(&format!("before{n}"), json!({"a": n})).await;
    }
    one.patch("x", json!({"a": 2})).await;
    one.engine.close().await;
    std::fs::copy(stack.path("one"), stack.path("copy")).unwrap();
    let (one, copy) = (stack.device("one").await, stack.device("copy").await);
    for (device, name) in [(&one, "one"), (&copy, "copy")] {
        for n in 0..5 {
            device.write(&format!("{name}{n}"), json!({"a": n})).await;
        }
    }
    let records = stack.settle(&[&one, &copy]).await;
    assert_eq!(records.len(), 16);
    assert_eq!(records["x"], json!({"a": 2}));
    assert_ne!(one.state().await.replica, copy.state().await.replica);
    assert_eq!((one.state().await.dead_letters, copy.state().await.dead_letters), (0, 0));
}

/// Puts a copy in the place of a device's file, as a backup program does: it is the same file to the platform.
fn put_back(stack: &Stack, copy: &str, name: &str) {
    std::fs::copy(stack.path(copy), stack.path(name)).unwrap();
    for end in ["-wal", "-shm"] {
        // There is none where the engine was closed.
        let _ = std::fs::remove_file(format!("{}{end}", stack.path(name).display()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_put_back_from_an_older_copy_gets_and_gives_everything() {
    let stack = Stack::new().await;
    let (one, other) = (stack.device("one").await, stack.device("other").await);
    one.write("x", json!({"a": 1})).await;
    one.write("gone", json!({"a": 1})).await;
    stack.settle(&[&one, &other]).await;
    one.write("pending", json!({"a": "in the copy"})).await;
    one.engine.close().await;
    std::fs::copy(stack.path("one"), stack.path("older")).unwrap();
    let one = stack.device("one").await;
    for n in 0..5 {
        one.write(&format!("later{n}"), json!({"a": n})).await;
    }
    one.patch("x", json!({"a": 2})).await;
    one.remove("gone").await;
    stack.settle(&[&one, &other]).await;
    one.engine.close().await;
    put_back(&stack, "older", "one");
    let one = stack.device("one").await;
    one.write("anew", json!({"a": 1})).await;
    let records = stack.settle(&[&one, &other]).await;
    assert_eq!(records.len(), 8, "{records:?}");
    assert_eq!((&records["x"], &records["anew"]), (&json!({"a": 2}), &json!({"a": 1})));
    assert_eq!(records["pending"], json!({"a": "in the copy"}));
    assert!(!records.contains_key("gone"));
    assert_eq!(one.state().await.dead_letters, 0);
}

/// By then the copy has used numbers of its own up to the newest that the server knows, and beyond.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_put_back_is_recognised_though_it_was_written_to_before_it_met_the_server() {
    let stack = Stack::new().await;
    let (one, other) = (stack.device("one").await, stack.device("other").await);
    one.write("x", json!({"a": 1, "b": 1})).await;
    stack.settle(&[&one, &other]).await;
    one.engine.close().await;
    std::fs::copy(stack.path("one"), stack.path("older")).unwrap();
    let one = stack.device("one").await;
    one.remove("x").await;
    stack.settle(&[&one, &other]).await;
    one.engine.close().await;
    put_back(&stack, "older", "one");
    let one = stack.device("one").await;
    for n in 0..5 {
        one.patch("x", json!({"a": n})).await;
    }
    // Whoever wins: device, server and the other device agree.
    stack.settle(&[&one, &other]).await;
    assert_eq!(one.state().await.dead_letters, 0);
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A clock that was a year ahead is put right, and the network is there again: nothing waits for that year to pass.
async fn goes_on_after_the_clock_was_set_back(stack: &Stack, one: &Device, two: &Device) {
    let clock = &one.clock;
    clock.set_back(YEAR);
    stack.proxy.heal();
    let sleeps = clock.sleeps.load(Ordering::Acquire);
    one.write("b", json!({"a": 1})).await;
    until(async || clock.sleeps.load(Ordering::Acquire) > sleeps).await;
    clock.pass(Duration::from_secs(120)).await;
    until(async || one.state().await.pending == 0).await;
    two.sync().await;
    assert_eq!(two.get("a").await, Some(json!({"a": 1})));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_goes_on_after_its_clock_was_set_back() {
    let stack = Stack::new().await;
    let (one, two) = (stack.device("one").await, stack.device("two").await);
    one.clock.advance(YEAR);
    stack.proxy.offline();
    one.write("a", json!({"a": 1})).await;
    let path = one.path.clone();
    one.engine.close().await;
    let clock = TestClock::new(START + YEAR.as_millis() as i64);
    let one = stack
        .device_with(path.file_name().unwrap().to_str().unwrap(), |setup| {
            setup.clock = Arc::clone(&clock);
            setup.config.auto_sync = true;
        })
        .await;
    until(async || clock.sleeps.load(Ordering::Acquire) > 0).await;
    goes_on_after_the_clock_was_set_back(&stack, &one, &two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_goes_on_after_its_clock_was_ahead_while_a_call_failed() {
    let stack = Stack::new().await;
    let (one, two) = (stack.device_with("one", worker).await, stack.device("two").await);
    within(one.engine.initial_sync_done()).await.unwrap();
    let (clock, ahead) = (Arc::clone(&one.clock), std::sync::Once::new());
    stack.proxy.plan(move |_| {
        ahead.call_once(|| clock.advance(YEAR));
        Fate::LoseRequest
    });
    let sleeps = one.clock.sleeps.load(Ordering::Acquire);
    one.write("a", json!({"a": 1})).await;
    let fails_and_waits =
        async || one.clock.now() > START + 1000 && one.clock.sleeps.load(Ordering::Acquire) > sleeps;
    until(fails_and_waits).await;
    goes_on_after_the_clock_was_set_back(&stack, &one, &two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_goes_on_after_its_clock_was_set_back_while_a_call_succeeded() {
    let stack = Stack::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    stack.proxy.plan(move |request| match request.path.as_str() {
        "/v1/push" => Fate::Wait(Arc::clone(&held)),
        // Nobody tells it of changes: it has to ask by itself.
        "/v1/events" => Fate::Hold,
        _ => Fate::Through,
    });
    let ahead = |setup: &mut Setup| {
        setup.clock = TestClock::new(START + YEAR.as_millis() as i64);
        setup.config.auto_sync = true;
    };
    let (one, two) = (stack.device_with("one", ahead).await, stack.device("two").await);
    within(one.engine.initial_sync_done()).await.unwrap();
    // Nothing is to be pulled now: a push is all that the engine does.
    one.clock.pass(Duration::ZERO).await;
    one.write("a", json!({"a": 1})).await;
    stack.proxy.arrival("/v1/push").await;
    one.clock.set_back(YEAR);
    gate.add_permits(100);
    until(async || one.state().await.pending == 0).await;
    two.write("b", json!({"a": 2})).await;
    two.sync().await;
    one.clock.pass(Duration::from_secs(120)).await;
    assert_eq!(one.get("b").await, Some(json!({"a": 2})));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_close_nothing_is_asked_and_nothing_is_written() {
    let stack = Stack::new().await;
    let device = stack.device_with("device", worker).await;
    within(device.engine.initial_sync_done()).await.unwrap();
    stack.proxy.plan(|_| Fate::Hold);
    device.write("x", json!({"a": 1})).await;
    stack.proxy.arrival("/v1/push").await;
    within(device.engine.close()).await;
    stack.proxy.heal();
    stack.proxy.forget();
    let file = || {
        (std::fs::read(&device.path).unwrap(), std::fs::metadata(&device.path).unwrap().modified().unwrap())
    };
    let (before, sleeps) = (file(), device.clock.sleeps.load(std::sync::atomic::Ordering::Acquire));
    device.clock.advance(Duration::from_secs(10 * 24 * 3600));
    // Another device, and another life of this one: what was on its way arrives, once.
    let other = stack.device("other").await;
    other.sync().await;
    assert!(file() == before && stack.proxy.seen_at("/v1/push").is_empty());
    assert_eq!(device.clock.sleeps.load(std::sync::atomic::Ordering::Acquire), sleeps);
    let again = stack.device("device").await;
    assert_eq!(stack.settle(&[&again, &other]).await.len(), 1);
}
