//! A first pull by a snapshot ends where pages would have ended, whatever happens on the way.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dynos_sync::{SyncEvent, core::Value, json};

use crate::{
    proxy::{Fate, Request, error_reply, json_reply, reply},
    stack::{COLUMNS, Device, Setup, Stack, TABLE, told, within},
};

const ROWS: usize = 300;

/// A server that has rows, which it hands out as a snapshot.
async fn filled() -> (Stack, Device) {
    filled_with(|_| ()).await
}

async fn filled_with(change: impl FnOnce(&mut Setup)) -> (Stack, Device) {
    let stack = Stack::with(|config| config.snapshots.rows = 1).await;
    let first = stack.device_with("first", change).await;
    for n in 0..ROWS {
        // Noise, so that packing it leaves something.
        let noise: String = (0..20).map(|i| format!("{:x}", (n * 7919 + i * 104_729) % 65_521)).collect();
        first.write(&format!("r{n}"), json!({"a": n, "b": noise, "c": "text"})).await;
    }
    first.sync().await;
    (stack, first)
}

fn is_piece(request: &Request) -> bool {
    request.path.starts_with("/v1/snapshot/")
}

fn paths(stack: &Stack) -> Vec<String> {
    stack.proxy.seen().into_iter().map(|request| request.path).collect()
}

/// How many pages were pulled from the beginning.
fn first_pages(stack: &Stack) -> usize {
    let pulls = stack.proxy.seen().into_iter().filter(|request| request.path == "/v1/pull");
    pulls.filter(|request| request.body().get("cursor").is_none()).count()
}

/// Fetches in small pieces.
fn in_pieces(setup: &mut Setup) {
    setup.schema = COLUMNS.to_owned();
    setup.remote = Box::new(|remote| remote.max_response_bytes(4096));
    // Pages have to fit, too.
    setup.config.page_size = 10;
}

#[tokio::test]
async fn it_ends_as_pages_would_and_goes_on_by_pages() {
    for schema in [COLUMNS, ""] {
        let (stack, first) = filled_with(|setup| setup.schema = schema.to_owned()).await;
        stack.proxy.forget();
        let device = stack.device_with("device", |setup| setup.schema = schema.to_owned()).await;
        let mut events = device.engine.events();
        let report = device.sync().await;
        assert_eq!(report.pull.tables[&TABLE.parse().unwrap()].rows, ROWS);
        assert_eq!(first_pages(&stack), 0, "{:?}", paths(&stack));
        let complete = SyncEvent::PullComplete { table: TABLE.parse().unwrap(), row_count: ROWS };
        assert!(told(&mut events).contains(&complete));

        first.patch("r1", json!({"a": "later"})).await;
        device.write("mine", json!({"a": 1, "b": 2, "c": 3})).await;
        device.patch("r2", json!({"a": "mine"})).await;
        device.remove("r3").await;
        let records = stack.settle(&[&first, &device]).await;
        assert_eq!(records.len(), ROWS);
        assert_eq!((&records["r1"]["a"], &records["r2"]["a"]), (&json!("later"), &json!("mine")));
    }
}

#[tokio::test]
async fn what_was_written_before_the_first_pull_is_kept_and_its_table_comes_by_pages() {
    let (stack, first) = filled().await;
    stack.proxy.forget();
    let device = stack.device("device").await;
    device.write("r0", json!({"a": "offline"})).await;
    device.sync().await;
    assert!(first_pages(&stack) > 0);
    assert!(!paths(&stack).iter().any(|path| path.starts_with("/v1/snapshot")), "{:?}", paths(&stack));
    stack.settle(&[&first, &device]).await;
}

#[tokio::test]
async fn a_connection_that_breaks_costs_only_the_rest() {
    let (stack, first) = filled_with(|setup| setup.schema = COLUMNS.to_owned()).await;
    let device = stack.device_with("device", in_pieces).await;
    stack.proxy.forget();
    let pieces = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pieces);
    stack.proxy.plan(move |request| {
        match is_piece(request) && counted.fetch_add(1, Ordering::Relaxed) == 2 {
            true => Fate::LoseReply,
            false => Fate::Through,
        }
    });
    assert!(within(device.engine.sync_all()).await.is_err());
    assert_eq!(device.rows(TABLE).await, BTreeMap::new());
    device.sync().await;
    let asked: Vec<String> =
        stack.proxy.seen().iter().filter(|request| is_piece(request)).map(range).collect();
    assert!(asked.len() > 4, "{asked:?}");
    let again = asked.iter().filter(|range| **range == asked[2]).count();
    assert_eq!((again, asked.iter().filter(|range| **range == asked[0]).count()), (2, 1), "{asked:?}");
    assert_eq!(first_pages(&stack), 0);
    stack.settle(&[&first, &device]).await;
}

fn range(request: &Request) -> String {
    let text = String::from_utf8_lossy(&request.raw).to_lowercase();
    text.lines().find_map(|line| line.strip_prefix("range: ").map(str::to_owned)).unwrap()
}

#[tokio::test]
async fn whatever_is_wrong_with_it_the_rows_come_by_pages() {
    type Plan = Box<dyn FnMut(&Request) -> Fate + Send>;
    type Change = fn(&mut Value);
    let offer = |change: Change| -> Plan {
        Box::new(move |request| match request.path == "/v1/snapshot" {
            true => Fate::Rewrite(Box::new(change)),
            false => Fate::Through,
        })
    };
    let offers_get = |answer: Vec<u8>| -> Plan {
        Box::new(move |request| match request.path == "/v1/snapshot" {
            true => Fate::Answer(answer.clone()),
            false => Fate::Through,
        })
    };
    let pieces_get = |answer: Vec<u8>| -> Plan {
        Box::new(move |request| if is_piece(request) { Fate::Answer(answer.clone()) } else { Fate::Through })
    };
    let pieces_are_lost: Plan =
        Box::new(|request| if is_piece(request) { Fate::LoseReply } else { Fate::Through });
    let plans: Vec<(&str, bool, Plan)> = vec![
        ("no such path", false, offers_get(error_reply("404 Not Found", "not_found", ""))),
        ("a failing server", true, offers_get(error_reply("500 Internal Server Error", "internal", ""))),
        ("not an offer", true, offers_get(json_reply(&json!({"id": "x"})))),
        ("another digest", true, offer(|offer| offer["digest"] = json!("00".repeat(32)))),
        (
            "a table nobody asked for",
            true,
            offer(|offer| offer["tables"]["other"] = offer["tables"]["notes"].clone()),
        ),
        ("too large", true, offer(|offer| offer["size"] = json!(u64::MAX))),
        ("another size", true, offer(|offer| offer["size"] = json!(5))),
        ("a longer one", true, offer(|offer| offer["bytes"] = json!(1 << 20))),
        ("a path for a name", true, offer(|offer| offer["id"] = json!("../heads"))),
        ("more rows", false, offer(|offer| offer["tables"]["notes"]["rows"] = json!(ROWS + 1))),
        ("noise", true, pieces_get(reply("206 Partial Content", "", &[7; 100]))),
        ("nothing", true, pieces_get(reply("206 Partial Content", "", b""))),
        ("gone", true, pieces_get(error_reply("404 Not Found", "not_found", ""))),
        ("unreachable", true, pieces_are_lost),
    ];
    let (stack, first) = filled_with(|setup| setup.schema = COLUMNS.to_owned()).await;
    let records = stack.settle(&[&first]).await;
    for (name, is_told, plan) in plans {
        let device = stack.device_with(name, |setup| setup.schema = COLUMNS.to_owned()).await;
        let mut events = device.engine.events();
        stack.proxy.plan(plan);
        device.sync().await;
        stack.proxy.heal();
        assert_eq!(device.rows(TABLE).await, records, "{name}");
        let about = |event: &SyncEvent| matches!(event, SyncEvent::SyncError { context: "snapshot", .. });
        assert_eq!(told(&mut events).iter().any(about), is_told, "{name}");
        let beside = format!("{}-snapshot", device.path.display());
        assert!(!std::path::Path::new(&beside).exists(), "{name}");
        device.engine.close().await;
    }
}

#[tokio::test]
async fn who_wants_none_gets_none() {
    let (stack, first) = filled().await;
    stack.proxy.forget();
    let device = stack.device_with("device", |setup| setup.config.max_snapshot_bytes = 0).await;
    device.sync().await;
    assert!(!paths(&stack).iter().any(|path| path.starts_with("/v1/snapshot")), "{:?}", paths(&stack));
    stack.settle(&[&first, &device]).await;
}

#[tokio::test]
async fn after_a_restore_of_the_server_nothing_comes_of_an_older_snapshot_alone() {
    let (stack, first) = filled().await;
    stack.backup("copy").await;
    first.write("lost", json!({"a": 1})).await;
    first.sync().await;
    let device = stack.device("device").await;
    device.sync().await;
    stack.restore("copy").await;
    let later = stack.device("later").await;
    later.sync().await;
    assert!(later.get("lost").await.is_none(), "nobody has offered it again yet");
    let records = stack.settle(&[&device, &later, &first]).await;
    assert!(records.contains_key("lost"));
}
