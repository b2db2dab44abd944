//! Much, often, and again and again: what is sent, kept and held stays within its bounds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dynos_sync::{Fields, json};
use tokio::sync::Semaphore;

use crate::{
    proxy::{Fate, Request, error_reply},
    stack::{COLUMNS, Device, Setup, Stack, TABLE, object, until, within},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn id(n: usize) -> String {
    format!("r{n:06}")
}

/// So many edits, each of another record, in batches.
pub(crate) async fn write_all(device: &Device, count: usize) {
    for first in (0..count).step_by(1000) {
        let record = |n: usize| (id(n), object(json!({"a": n, "b": "b".repeat(n % 300)})));
        let records: Vec<(String, Fields)> = (first..count.min(first + 1000)).map(record).collect();
        device.engine.write_many(TABLE, records).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_takes_as_many_requests_as_its_batches_and_each_edit_once() {
    let stack = Stack::new().await;
    let device = stack.device_with("device", |setup| setup.config.batch_size = 100).await;
    device.sync().await;
    write_all(&device, 1000).await;
    stack.proxy.forget();
    device.engine.drain().await.unwrap();
    let seen = stack.proxy.seen();
    assert_eq!(seen.len(), 10, "{:?}", seen.iter().map(|request| &request.path).collect::<Vec<_>>());
    let ids: Vec<String> = seen.iter().flat_map(Request::ids).collect();
    assert_eq!(ids, (0..1000).map(id).collect::<Vec<_>>());
}

/// Drains with a hundredth of the answers lost; each request within the bounds of rows and bytes.
async fn drain_with_faults(stack: &Stack, device: &Device, count: usize) {
    let mut n = 0;
    stack.proxy.plan(move |request| {
        n += 1;
        match (request.path == "/v1/push", n % 100) {
            (true, 7) => Fate::LoseReply,
            (true, 57) => Fate::LoseRequest,
            (true, 77) => Fate::Answer(error_reply("503 Service Unavailable", "unavailable", "")),
            _ => Fate::Through,
        }
    });
    let mut faults = 0;
    while let Err(error) = within(device.engine.drain()).await {
        assert!(error.is_transient(), "{error}");
        faults += 1;
    }
    assert!(faults > 2 * count / 5000, "{faults} faults");
    let (rows, bytes) = (device.engine.config().batch_size, device.engine.config().max_batch_bytes);
    let mut order: BTreeMap<String, usize> = BTreeMap::new();
    for push in stack.proxy.seen_at("/v1/push") {
        let ids = push.ids();
        // A record has a few names and numbers beside its fields.
        assert!(
            ids.len() <= rows && push.size() <= bytes + ids.len() * 200,
            "{} in {}",
            ids.len(),
            push.size()
        );
        for id in ids {
            let next = order.len();
            order.entry(id).or_insert(next);
        }
    }
    assert_eq!(order.len(), count);
    assert!(order.values().is_sorted(), "first sent in the order in which it was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_edits_arrive_once_within_all_bounds_though_answers_get_lost() {
    let stack = Stack::new().await;
    let bounds = |setup: &mut Setup| {
        setup.config.batch_size = 30;
        setup.config.max_batch_bytes = 4000;
    };
    let device = stack.device_with("device", bounds).await;
    device.sync().await;
    write_all(&device, 10_000).await;
    drain_with_faults(&stack, &device, 10_000).await;
    stack.proxy.heal();
    let other = stack.device("other").await;
    let records = stack.settle(&[&other, &device]).await;
    assert_eq!(records.len(), 10_000);
    let state = device.state().await;
    assert_eq!((state.conflicts, state.dead_letters, state.last_counter), (0, 0, 10_000));
    // One number of the server's for each: no repeat has counted.
    assert!(
        state.tables[0].cursor.as_ref().unwrap().as_str().ends_with(".10000"),
        "{:?}",
        state.tables[0].cursor
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_the_start_is_sent_before_anything_is_pulled() {
    let stack = Stack::new().await;
    let device = stack.device("device").await;
    let other = stack.device("other").await;
    device.sync().await;
    write_all(&device, 5000).await;
    device.engine.close().await;
    other.write("r000000", json!({"a": "theirs", "other": true})).await;
    other.sync().await;
    stack.proxy.forget();
    let device = stack.device("device").await;
    assert_eq!(device.state().await.pending, 5000);
    device.sync().await;
    let seen = stack.proxy.seen();
    let sent: usize = seen.iter().map(|request| request.ids().len()).sum();
    assert!((5000..5010).contains(&sent), "{sent}");
    let pushed: usize =
        seen.iter().take_while(|request| request.path != "/v1/pull").map(|r| r.ids().len()).sum();
    assert!(pushed >= 500, "{pushed}: the conflict of the first batch is met where the table is pulled");
    let records = stack.settle(&[&device, &other]).await;
    assert_eq!(records.len(), 5000);
    assert_eq!(device.state().await.conflicts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_online_leaves_no_trail() {
    let stack = Stack::new().await;
    let (device, other) = (stack.device("device").await, stack.device("other").await);
    let mut sizes = Vec::new();
    for day in 0..365 {
        for id in ["a", "b", "c"] {
            device.write(id, json!({"day": day, "text": "x".repeat(2000)})).await;
        }
        if day % 5 == 0 {
            other.write("a", json!({"other": day})).await;
            other.sync().await;
        }
        device.sync().await;
        for clock in [&device.clock, &other.clock] {
            clock.advance(DAY);
        }
        if day % 73 == 72 {
            let pages =
                |db: &rusqlite::Connection| db.query_row("PRAGMA page_count", [], |row| row.get::<_, u64>(0));
            sizes.push(device.replica.read_with(pages).await.unwrap());
            stack.proxy.forget();
        }
    }
    let counts = "SELECT (SELECT count(*) FROM dynos_queue) || ' ' || (SELECT count(*) FROM dynos_base) || ' ' || (SELECT count(*) FROM dynos_log)";
    let counts =
        device.replica.read_with(move |db| db.query_row(counts, [], |row| row.get::<_, String>(0))).await;
    assert_eq!(counts.unwrap(), "0 0 0");
    let conflicts = device.engine.conflicts().await.unwrap().len();
    assert!((5..8).contains(&conflicts), "{conflicts} of 30 days, of 73 in all");
    assert!(sizes[4] <= sizes[1] + 4, "{sizes:?} pages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_comes_and_goes_a_thousand_times_loses_nothing_and_one_push_is_under_way_at_most() {
    let stack = Stack::new().await;
    let setup = |setup: &mut Setup| {
        setup.config.auto_sync = true;
        setup.config.batch_size = 3;
    };
    let device = stack.device_with("device", setup).await;
    let toggles = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&toggles);
    let mut random = 1_u64;
    stack.proxy.plan(move |request| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let toggle = noted.fetch_add(1, Ordering::AcqRel);
        match (request.path.as_str(), (random >> 33) % 4) {
            _ if toggle >= 1000 => Fate::Through,
            ("/v1/events", _) => Fate::LoseRequest,
            (_, 0) => Fate::LoseRequest,
            (_, 1) => Fate::LoseReply,
            _ => Fate::Through,
        }
    });
    // Everybody who can asks for everything, beside the worker itself.
    let mut askers = Vec::new();
    for asker in 0..4 {
        let (engine, toggles) = (device.engine.clone(), Arc::clone(&toggles));
        askers.push(tokio::spawn(async move {
            let mut n = 0;
            while toggles.load(Ordering::Acquire) < 1000 {
                let id = format!("{asker}-{n}");
                engine.write(TABLE, &id, object(json!({"a": n}))).await.unwrap();
                let _ = if n % 2 == 0 {
                    engine.drain().await.map(drop)
                } else {
                    engine.sync_all().await.map(drop)
                };
                n += 1;
            }
            n
        }));
    }
    let mut written = 0;
    for asker in askers {
        written += tokio::time::timeout(Duration::from_secs(120), asker).await.unwrap().unwrap();
    }
    stack.proxy.heal();
    within(device.engine.sync_all()).await.unwrap();
    assert_eq!(stack.proxy.most_pushes_at_once(), 1);
    assert!(written > 50, "{written}");
    assert_eq!(stack.records("ada", TABLE).await.len(), written);
    let state = device.state().await;
    assert_eq!((state.pending, state.conflicts, state.dead_letters), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_edits_are_no_ten_thousand_requests() {
    let stack = Stack::new().await;
    let setup = |setup: &mut Setup| {
        setup.config.auto_sync = true;
        setup.config.batch_size = 500;
    };
    let device = stack.device_with("device", setup).await;
    within(device.engine.initial_sync_done()).await.unwrap();
    stack.proxy.arrival("/v1/events").await;
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    stack.proxy.always("/v1/push", move || Fate::Wait(Arc::clone(&waiting)));
    stack.proxy.forget();
    device.write("first", json!({"a": 0})).await;
    stack.proxy.arrival("/v1/push").await;
    // Each of these wakes the worker.
    for n in 0..10_000 {
        device.write(&format!("r{}", n % 700), json!({"a": n})).await;
    }
    gate.add_permits(1000);
    until(async || device.state().await.pending == 0).await;
    let pushes = stack.proxy.seen_at("/v1/push").len();
    assert!((3..6).contains(&pushes), "{pushes} requests for 701 records in batches of 500");
}

#[tokio::test(flavor = "multi_thread")]
async fn once_all_agree_a_hundred_syncs_write_nothing() {
    let stack = Stack::new().await;
    let device = async |name| stack.device_with(name, |setup| setup.schema = COLUMNS.to_owned()).await;
    let (one, two) = (device("one").await, device("two").await);
    for n in 0..20 {
        one.write(&format!("r{n}"), json!({"a": n, "b": n})).await;
        two.write(&format!("s{n}"), json!({"a": n, "b": n})).await;
    }
    stack.settle(&[&one, &two]).await;
    let standing = async || {
        let changes = "SELECT (SELECT group_concat(last_counter || clock || generation) FROM dynos_state), (SELECT group_concat(cursor) FROM dynos_table)";
        let read = async |device: &Device| {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
            device.replica.read_with(move |db| db.query_row(changes, [], row)).await.unwrap()
        };
        (read(&one).await, read(&two).await, stack.records("ada", TABLE).await)
    };
    let before = standing().await;
    stack.proxy.forget();
    for _ in 0..100 {
        for device in [&one, &two] {
            let report = device.sync().await;
            assert_eq!((report.drain.cycles, report.pull.rows()), (0, 0));
        }
    }
    let paths: Vec<String> = stack.proxy.seen().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, vec!["/v1/heads"; 200]);
    assert_eq!(standing().await, before);
}
