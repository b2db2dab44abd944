//! A broken or hostile server can stop progress, never corrupt anything; and when it is well again all goes on.

use std::io::Write;

use dynos_sync::{
    SyncError, SyncEvent,
    core::{RemoteError, Value, replica::State},
    json,
};

use crate::{
    proxy::{Fate, json_reply, reply},
    stack::{COLUMNS, Device, Setup, Stack, TABLE, told, within},
};

/// A device that is behind by two changes, and has one of its own.
async fn behind(stack: &Stack, change: impl FnOnce(&mut Setup)) -> (Device, Device) {
    let (device, other) = (stack.device_with("device", change).await, stack.device("other").await);
    device.write("x", json!({"a": 1, "b": 1})).await;
    stack.settle(&[&device, &other]).await;
    other.patch("x", json!({"a": 2})).await;
    other.write("y", json!({"a": 2})).await;
    other.sync().await;
    (device, other)
}

/// All that a bad answer may not touch.
async fn standing(device: &Device) -> (State, std::collections::BTreeMap<String, Value>) {
    (device.state().await, device.rows(TABLE).await)
}

/// Most of the memory that this process has needed so far, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

type Change = fn(&mut Value);

const BAD_PAGES: [(&str, Change); 21] = [
    ("seq goes back", |page| page["changes"].as_array_mut().unwrap().reverse()),
    ("seq stands", |page| page["changes"][1]["seq"] = page["changes"][0]["seq"].clone()),
    ("an id twice", |page| page["changes"][1]["id"] = page["changes"][0]["id"].clone()),
    ("settles what was not asked about", |page| page["settled"] = json!([999])),
    ("more to come, at the same place", |page| {
        page["has_more"] = json!(true);
        page["changes"] = json!([]);
    }),
    ("a huge cursor", |page| page["next"] = json!("c".repeat(100_000))),
    ("an edit before time", |page| page["changes"][0]["at"] = json!(-1)),
    ("an edit after time", |page| page["changes"][0]["at"] = json!(i64::MAX)),
    ("deep", |page| {
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        page["changes"][0]["record"]["a"] = deep;
    }),
    ("a seq that is negative", |page| page["changes"][0]["seq"] = json!(-1)),
    ("a seq that is a text", |page| page["changes"][0]["seq"] = json!("1")),
    ("a record that is a list", |page| page["changes"][0]["record"] = json!([])),
    ("an empty id", |page| page["changes"][0]["id"] = json!("")),
    ("a long id", |page| page["changes"][0]["id"] = json!("i".repeat(5000))),
    ("an id that is a number", |page| page["changes"][0]["id"] = json!(7)),
    ("no cursor", |page| drop(page.as_object_mut().unwrap().remove("next"))),
    ("no changes", |page| drop(page.as_object_mut().unwrap().remove("changes"))),
    ("a list", |page| *page = json!([])),
    ("null", |page| *page = json!(null)),
    ("an error with 200", |page| *page = json!({"error": {"code": "invalid", "message": "no"}})),
    ("more than was asked for", |page| {
        let one = page["changes"][0].clone();
        let many = (0..2000).map(|n| {
            let mut change = one.clone();
            change["id"] = json!(format!("r{n}"));
            change["seq"] = json!(1000 + n);
            change
        });
        page["changes"] = many.collect();
    }),
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_bad_page_is_used() {
    let stack = Stack::new().await;
    let (device, other) = behind(&stack, |_| ()).await;
    for (name, change) in BAD_PAGES {
        let before = standing(&device).await;
        stack.proxy.always("/v1/pull", move || Fate::Rewrite(Box::new(change)));
        let refused = within(device.engine.pull_all()).await.unwrap_err();
        assert!(matches!(refused, SyncError::Remote(RemoteError::Protocol(_))), "{name}: {refused:?}");
        assert_eq!(standing(&device).await, before, "{name}");
    }
    stack.proxy.heal();
    let records = stack.settle(&[&device, &other]).await;
    assert_eq!(records["y"], json!({"a": 2}));
}

/// Answers that are no answers, to any call.
fn junk() -> Vec<(&'static str, Vec<u8>, bool)> {
    let json = "content-type: application/json\r\n";
    let nested = format!("{{\"changes\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let html = b"<html><body>Sign in to the hotel's network</body></html>";
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..200 {
        bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let mut cut = reply("200 OK", json, &vec![b' '; 1000]);
    cut.truncate(cut.len() - 900);
    vec![
        ("html with 200", reply("200 OK", "content-type: text/html\r\n", html), false),
        ("html that says it is JSON", reply("200 OK", json, html), false),
        ("empty", reply("200 OK", json, b""), false),
        ("half of it", reply("200 OK", json, b"{\"changes\": [{"), false),
        ("cut off", cut, true),
        ("100,000 levels", reply("200 OK", json, nested.as_bytes()), false),
        (
            "a bomb",
            reply("200 OK", &format!("{json}content-encoding: gzip\r\n"), &bomb.finish().unwrap()),
            false,
        ),
        (
            "a broken encoding",
            reply("200 OK", &format!("{json}content-encoding: gzip\r\n"), b"no gzip"),
            false,
        ),
        ("an unknown encoding", reply("200 OK", &format!("{json}content-encoding: lzw\r\n"), b"{}"), false),
        (
            "half a character",
            reply("200 OK", json, br#"{"changes": [{"id": "\ud800", "seq": 9, "at": 1}], "next": "c"}"#),
            false,
        ),
        ("not UTF-8", reply("200 OK", json, b"{\"changes\": \"\xff\"}"), false),
        ("no content", reply("204 No Content", "", b""), false),
        (
            "a redirect elsewhere",
            reply("307 Temporary Redirect", "location: http://example.com/\r\n", b""),
            false,
        ),
        ("a teapot", reply("418 I'm a teapot", "", b"short and stout"), false),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), true),
        ("nothing", Vec::new(), true),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_in_place_of_an_answer_is_a_typed_error_and_changes_nothing() {
    let stack = Stack::new().await;
    let (device, other) = behind(&stack, |_| ()).await;
    device.write("mine", json!({"a": 1})).await;
    let memory = peak();
    for (name, bytes, transient) in junk() {
        for path in ["/v1/heads", "/v1/pull"] {
            let before = standing(&device).await;
            let bytes = bytes.clone();
            stack.proxy.always(path, move || Fate::Answer(bytes.clone()));
            let refused = within(device.engine.pull_all()).await.unwrap_err();
            assert!(matches!(refused, SyncError::Remote(_)), "{name} from {path}: {refused:?}");
            assert_eq!(refused.is_transient(), transient, "{name} from {path}: {refused:?}");
            assert_eq!(standing(&device).await, before, "{name} from {path}");
        }
        let bytes = bytes.clone();
        stack.proxy.always("/v1/push", move || Fate::Answer(bytes.clone()));
        let refused = within(device.engine.drain()).await.unwrap_err();
        assert!(matches!(refused, SyncError::Remote(_)), "{name} from push: {refused:?}");
        let state = device.state().await;
        assert_eq!((state.pending, state.dead_letters), (1, 0), "{name} from push");
    }
    assert!(peak() < memory + 200_000, "{memory} KiB before, {} KiB after", peak());
    stack.proxy.heal();
    let records = stack.settle(&[&device, &other]).await;
    assert_eq!((&records["mine"], &records["y"]), (&json!({"a": 1}), &json!({"a": 2})));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_an_end_ends() {
    let stack = Stack::new().await;
    let (device, other) = behind(&stack, |_| ()).await;
    let before = standing(&device).await;
    let memory = peak();
    for length in ["content-length: 1073741824", "transfer-encoding: chunked", "connection: close"] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{length}\r\n\r\n");
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        let chunk = if length.ends_with("chunked") { chunk } else { " ".repeat(0x10000) };
        let flood = move || Fate::Flood(head.clone().into_bytes(), chunk.clone().into_bytes());
        stack.proxy.always("/v1/pull", flood);
        let refused = within(device.engine.pull_all()).await.unwrap_err();
        assert!(matches!(refused, SyncError::Remote(RemoteError::Protocol(_))), "{length}: {refused:?}");
        assert_eq!(standing(&device).await, before);
    }
    assert!(peak() < memory + 200_000, "{memory} KiB before, {} KiB after", peak());
    stack.proxy.heal();
    stack.settle(&[&device, &other]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_without_an_end_end() {
    let stack = Stack::new().await;
    let (device, other) = behind(&stack, |setup| setup.config.max_pages = 20).await;
    let mut n = 0;
    let cursor = device.state().await.tables[0].cursor.clone().unwrap();
    let (incarnation, _) = cursor.as_str().split_once('.').unwrap();
    let incarnation = incarnation.to_owned();
    stack.proxy.forget();
    stack.proxy.plan(move |request| {
        if request.path != "/v1/pull" {
            return Fate::Through;
        }
        n += 1;
        let change = json!({"id": "x", "seq": 1000 + n, "at": 1, "record": {"a": 2, "b": 1}});
        // Round and round, so that no two pages in a row have one cursor.
        let next = format!("{incarnation}.{}", 1 + n % 2);
        Fate::Answer(json_reply(&json!({"changes": [change], "next": next, "has_more": true})))
    });
    let refused = within(device.engine.pull_all()).await.unwrap_err();
    assert!(matches!(refused, SyncError::Remote(RemoteError::Protocol(_))), "{refused:?}");
    assert_eq!(stack.proxy.seen_at("/v1/pull").len(), 20);
    stack.proxy.heal();
    let records = stack.settle(&[&device, &other]).await;
    assert_eq!(
        records,
        [("x".to_owned(), json!({"a": 2, "b": 1})), ("y".to_owned(), json!({"a": 2}))].into()
    );
}

const BAD_PUSH_ANSWERS: [(&str, Change); 8] = [
    ("no results", |answer| answer["results"] = json!([])),
    ("too many results", |answer| {
        let one = answer["results"][0].clone();
        answer["results"].as_array_mut().unwrap().push(one);
    }),
    ("a status that nobody knows", |answer| answer["results"][0] = json!({"status": "perhaps"})),
    ("a result without a seq", |answer| answer["results"][0] = json!({"status": "applied"})),
    ("a seq that is a text", |answer| answer["results"][0] = json!({"status": "applied", "seq": "7"})),
    ("a huge head", |answer| answer["heads"][TABLE]["after"] = json!("h".repeat(10_000))),
    ("a list", |answer| *answer = json!([])),
    ("results that are an object", |answer| answer["results"] = json!({})),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_answer_to_a_push_loses_nothing_and_doubles_nothing() {
    for schema in ["", COLUMNS] {
        let stack = Stack::new().await;
        let device = stack.device_with("device", |setup| setup.schema = schema.to_owned()).await;
        let other = stack.device_with("other", |setup| setup.schema = schema.to_owned()).await;
        stack.settle(&[&device, &other]).await;
        device.write("mine", json!({"a": 1})).await;
        for (name, change) in BAD_PUSH_ANSWERS {
            stack.proxy.always("/v1/push", move || Fate::Rewrite(Box::new(change)));
            let cursor = device.state().await.tables[0].cursor.clone();
            let refused = within(device.engine.drain()).await.unwrap_err();
            assert!(matches!(refused, SyncError::Remote(RemoteError::Protocol(_))), "{name}: {refused:?}");
            let state = device.state().await;
            assert_eq!((state.pending, state.dead_letters), (1, 0), "{name}");
            assert_eq!(state.tables[0].cursor, cursor, "{name}");
        }
        stack.proxy.heal();
        stack.settle(&[&device, &other]).await;
        assert_eq!(other.rows(TABLE).await["mine"]["a"], json!(1));
        assert_eq!((device.state().await.conflicts, other.sync().await.pull.rows()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_somebody_else_is_left_out() {
    let stack = Stack::new().await;
    let (device, other) = behind(&stack, |setup| setup.owner = Some("ada".to_owned())).await;
    let mut events = device.engine.events();
    stack.proxy.once(
        "/v1/pull",
        Fate::Rewrite(Box::new(|page| {
            page["changes"][1]["record"] = json!({"user_id": "bob", "a": "not for ada"});
        })),
    );
    device.engine.pull_all().await.unwrap();
    assert_eq!(device.get("x").await, Some(json!({"a": 2, "b": 1})));
    assert_eq!(device.get("y").await, None);
    assert!(
        told(&mut events)
            .iter()
            .any(|e| matches!(e, SyncEvent::ForeignRow { key } if key.id.as_str() == "y"))
    );
    let refused =
        device.engine.write(TABLE, "z", crate::stack::object(json!({"owner_id": "bob"}))).await.unwrap_err();
    assert!(matches!(refused, SyncError::RlsViolation { .. }), "{refused:?}");
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_at_the_same_address_gets_nothing() {
    let stack = Stack::new().await;
    let (device, _other) = behind(&stack, |_| ()).await;
    let before = standing(&device).await;
    stack
        .proxy
        .always("/v1/heads", || Fate::Rewrite(Box::new(|heads| heads["server"] = json!("somebody else"))));
    let refused = within(device.engine.sync_all()).await.unwrap_err();
    assert!(matches!(refused, SyncError::WrongServer { .. }), "{refused:?}");
    assert_eq!(standing(&device).await, before);
    device.engine.close().await;
    // Also the first thing that a process does: nothing is pushed to a stranger.
    let device = stack.device("device").await;
    device.write("private", json!({"a": 1})).await;
    stack.proxy.forget();
    let refused = within(device.engine.drain()).await.unwrap_err();
    assert!(matches!(refused, SyncError::WrongServer { .. }), "{refused:?}");
    assert!(stack.proxy.seen_at("/v1/push").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_make_no_sense_do_no_harm() {
    let stack = Stack::new().await;
    let (device, other) = behind(&stack, |_| ()).await;
    let changes: [(&str, Change); 4] = [
        ("a counter from the future", |heads| heads["last_counter"] = json!(u64::MAX)),
        ("a counter that is negative", |heads| heads["last_counter"] = json!(-1)),
        ("a table is missing", |heads| heads["heads"] = json!({})),
        ("a head that is huge", |heads| heads["heads"][TABLE] = json!("h".repeat(100_000))),
    ];
    for (name, change) in changes {
        stack.proxy.always("/v1/heads", move || Fate::Rewrite(Box::new(change)));
        device.write("mine", json!({"a": name})).await;
        match within(device.engine.sync_all()).await {
            Ok(_) | Err(SyncError::Remote(RemoteError::Protocol(_))) => {}
            Err(error) => panic!("{name}: {error:?}"),
        }
    }
    stack.proxy.heal();
    let records = stack.settle(&[&device, &other]).await;
    assert_eq!(records["mine"], json!({"a": "a head that is huge"}));
    assert_eq!(device.state().await.conflicts, 0);
}
