//! What becomes of entries.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use dynos_sync_core::{Column, Operation, Shape, TableSpec, json, wire::*};
use support::*;

#[tokio::test]
async fn what_one_device_pushes_another_pulls() {
    let home = Home::new();
    let server = home.start().await;
    let (one, two) = (server.device("alice", 1), server.device("alice", 2));
    one.declare(&["t"]).await;
    let zero = one.head("t").await;
    let answer =
        one.push(vec![upsert(1, "a", json!({"x": 1})), upsert(2, "b", json!({"y": [1.5, null]}))]).await;
    assert_eq!(answer.results, [applied(1), applied(2)]);
    let moved = &answer.heads[&"t".parse().unwrap()];
    assert_eq!(moved.before, zero);
    assert_eq!(moved.after, one.head("t").await);
    let page = two.pull("t", None).await;
    assert_eq!(
        records(&page),
        [("a".to_owned(), Some(json!({"x": 1}))), ("b".to_owned(), Some(json!({"y": [1.5, null]})))]
    );
    assert_eq!(page.changes[0].at, 1001);
    assert_eq!((page.next, page.has_more), (moved.after.clone(), false));
    assert_eq!(one.heads(&[]).await.last_counter, 2);
    assert_eq!(two.heads(&[]).await.last_counter, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_change_that_the_author_did_not_see_is_a_conflict() {
    let home = Home::new();
    let server = home.start().await;
    let (one, two) = (server.device("alice", 1), server.device("alice", 2));
    one.declare(&["t"]).await;
    one.push(vec![upsert(1, "a", json!({"x": 1}))]).await;
    let seen = one.head("t").await;
    assert_eq!(two.push_one(upsert(1, "a", json!({"x": 2}))).await, PushResult::Conflict { seq: 1 });
    // A conflict is not remembered: the same entry may come again once its author has seen the change.
    assert_eq!(two.push_one(upsert(1, "a", json!({"x": 2})).base(&seen)).await, applied(2));
    assert_eq!(
        one.push_one(upsert(2, "a", json!({"x": 3})).base(&seen)).await,
        PushResult::Conflict { seq: 2 }
    );
    // One's own change is no conflict, whatever the base.
    assert_eq!(two.push_one(upsert(2, "a", json!({"x": 4})).base(&seen)).await, applied(3));
    server.stop().await;
}

#[tokio::test]
async fn a_repeat_has_no_second_effect() {
    let home = Home::new();
    let server = home.start().await;
    let (one, two) = (server.device("alice", 1), server.device("alice", 2));
    one.declare(&["t"]).await;
    assert_eq!(one.push_one(upsert(1, "a", json!({"x": 1}))).await, applied(1));
    let seen = one.head("t").await;
    assert_eq!(two.push_one(upsert(1, "a", json!({"x": 2})).base(&seen)).await, applied(2));
    let again = one.push(vec![upsert(1, "a", json!({"x": 1}))]).await;
    assert_eq!(again.results, [duplicate(1)]);
    let still = &again.heads[&"t".parse().unwrap()];
    assert_eq!(still.before, still.after);
    assert_eq!(records(&one.pull("t", None).await), [("a".to_owned(), Some(json!({"x": 2})))]);
    // Twice in one batch, too.
    let twice = one.push(vec![upsert(5, "b", json!({})), upsert(5, "b", json!({}))]).await;
    assert_eq!(twice.results, [applied(3), duplicate(3)]);
    server.stop().await;
}

#[tokio::test]
async fn an_entry_that_a_newer_one_overtook_does_nothing() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    assert_eq!(one.push_one(upsert(7, "a", json!({"x": 7}))).await, applied(1));
    assert_eq!(one.push_one(upsert(6, "a", json!({"x": 6}))).await, duplicate(1));
    assert_eq!(one.push_one(upsert(8, "a", json!({"x": 8}))).await, applied(2));
    server.stop().await;
}

#[tokio::test]
async fn another_entry_under_a_used_number_is_a_fork_and_nothing_of_the_call_is_done() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    one.push(vec![upsert(1, "a", json!({"x": 1}))]).await;
    let (status, detail) =
        error(one.try_push(vec![upsert(2, "b", json!({})), upsert(1, "a", json!({"x": 2}))]).await).await;
    assert_eq!((status, detail.code.as_str()), (409, "replica_forked"));
    assert_eq!(one.heads(&[]).await.last_counter, 1);
    assert_eq!(one.push_one(upsert(2, "b", json!({"other": 1}))).await, applied(2));
    server.stop().await;
}

#[tokio::test]
async fn two_entries_under_one_number_are_a_fork_even_if_the_first_is_a_conflict() {
    let home = Home::new();
    let server = home.start().await;
    let [one, two] = [1, 2].map(|n| server.device("alice", n));
    one.declare(&["t"]).await;
    one.push(vec![upsert(1, "a", json!({"x": 1}))]).await;
    let both = || vec![upsert(2, "a", json!({"x": 2})), upsert(2, "b", json!({"x": 2}))];
    for _ in 0..2 {
        let (status, detail) = error(two.try_push(both()).await).await;
        assert_eq!((status, detail.code.as_str()), (409, "replica_forked"));
    }
    assert_eq!(two.push_one(upsert(3, "b", json!({}))).await, applied(2));
    // The same entry twice is a repeat.
    assert_eq!(one.push(vec![upsert(4, "c", json!({})); 2]).await.results, [applied(3), duplicate(3)]);
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_is_remembered_and_blocks_nothing_else() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    let patch = entry(2, Operation::Patch, "a", json!({"x": 1}));
    let results = one.push(vec![patch.clone(), upsert(3, "b", json!({}))]).await.results;
    assert_eq!(refused(&results[0]), (RejectCode::NotFound, None));
    assert_eq!(results[1], applied(1));
    // The record exists now, and the refused entry comes late: its author has given up on it.
    assert_eq!(one.push_one(upsert(4, "a", json!({"y": 1}))).await, applied(2));
    assert_eq!(refused(&one.push_one(patch).await), (RejectCode::NotFound, Some(object(json!({"y": 1})))));
    assert_eq!(error(one.try_push(vec![upsert(2, "a", json!({}))]).await).await.0, 409);
    server.stop().await;
}

#[tokio::test]
async fn every_refusal_has_its_code() {
    let home = Home::new();
    let mut config = home.config();
    config.limits.record_bytes = 100;
    let server = home.start_with(config).await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    let column = |name: &str| Column {
        name: name.to_owned(),
        declared: "TEXT".to_owned(),
        not_null: false,
        default: None,
        collation: None,
    };
    let shape = json!({"kind": "columns", "columns": [column("id"), column("title")], "key": ["id"]});
    let shape: Shape = serde_json::from_value(shape).unwrap();
    one.declare_specs(vec![TableSpec { name: "c".parse().unwrap(), shape }]).await;
    one.push(vec![upsert(1, "big", json!({"x": "y".repeat(60)}))]).await;
    let mut deep = json!(1);
    (0..64).for_each(|_| deep = json!([deep]));
    let mut late = upsert(10, "a", json!({}));
    late.at = i64::MAX;
    let mut early = upsert(11, "a", json!({}));
    early.at = -1;
    let mut empty = upsert(12, "a", json!({}));
    empty.data = None;
    let cases = [
        (late, RejectCode::Invalid),
        (early, RejectCode::Invalid),
        (empty, RejectCode::Invalid),
        (upsert(13, "a", json!({"deep": deep})), RejectCode::Invalid),
        (upsert(14, "a", json!({})).base(&dynos_sync_core::Cursor::new("nonsense")), RejectCode::Invalid),
        (upsert(15, "a", json!({})).table("unknown"), RejectCode::UnknownTable),
        (upsert(16, "a", json!({"title": "x", "price": 1})).table("c"), RejectCode::UnknownColumn),
        (upsert(18, "a", json!({"x": "y".repeat(100)})), RejectCode::TooLarge),
        (entry(19, Operation::Patch, "big", json!({"z": "y".repeat(60)})), RejectCode::TooLarge),
        (entry(20, Operation::Patch, "none", json!({})), RejectCode::NotFound),
        (upsert(0, "a", json!({})), RejectCode::Invalid),
        (upsert(u64::MAX, "a", json!({})), RejectCode::Invalid),
    ];
    let entries: Vec<_> = cases.iter().map(|(entry, _)| entry.clone()).collect();
    for _ in 0..2 {
        let results = one.push(entries.clone()).await.results;
        for ((entry, code), result) in cases.iter().zip(&results) {
            assert!(
                matches!(result, PushResult::Rejected { code: found, .. } if found == code),
                "{entry:?}: {result:?}"
            );
        }
    }
    assert_eq!(one.push_one(upsert(21, "a", json!({"title": "x"})).table("c")).await, applied(2));
    server.stop().await;
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_blocks_no_other() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    let good = |n: u64| serde_json::to_value(upsert(n, &n.to_string(), json!({}))).unwrap();
    let with = |field: &str, value: dynos_sync_core::Value| {
        let mut entry = good(9);
        entry[field] = value;
        entry
    };
    let entries = [
        good(1),
        with("table", json!("sqlite_master")),
        with("id", json!("")),
        with("op", json!("truncate")),
        json!(null),
        good(2),
        with("data", json!([1])),
    ];
    let answer: PushAnswer =
        read(one.post("/v1/push", &json!({"replica": one.replica, "entries": entries})).await).await;
    for (result, seq) in answer.results.iter().zip([Some(1), None, None, None, None, Some(2), None]) {
        match seq {
            Some(seq) => assert_eq!(*result, applied(seq)),
            None => assert_eq!(refused(result), (RejectCode::Invalid, None)),
        }
    }
    assert_eq!(answer.results.len(), entries.len());
    server.stop().await;
}

#[tokio::test]
async fn a_transaction_of_which_a_part_cannot_be_read_is_refused_as_a_whole() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    let part = |n: u64, op: &str| {
        let entry = upsert(n, &n.to_string(), json!({}));
        let mut entry = serde_json::to_value(entry).unwrap();
        (entry["op"], entry["transaction"]) = (json!(op), json!(7));
        entry
    };
    let alone = serde_json::to_value(upsert(4, "4", json!({}))).unwrap();
    let entries = [part(1, "upsert"), part(2, "truncate"), part(3, "upsert"), alone];
    let answer: PushAnswer =
        read(one.post("/v1/push", &json!({"replica": one.replica, "entries": entries})).await).await;
    assert!(answer.results[..3].iter().all(|result| refused(result).0 == RejectCode::Invalid), "{answer:?}");
    assert_eq!(answer.results[3], applied(1));
    server.stop().await;
}

#[tokio::test]
async fn each_operation_does_what_it_says() {
    let home = Home::new();
    let server = home.start().await;
    let (one, two) = (server.device("alice", 1), server.device("alice", 2));
    one.declare(&["t"]).await;
    for (counter, op, data, after) in [
        (1, Operation::Upsert, json!({"a": 1, "b": 1}), Some(json!({"a": 1, "b": 1}))),
        (2, Operation::Upsert, json!({"b": 2}), Some(json!({"a": 1, "b": 2}))),
        (3, Operation::Patch, json!({"c": null}), Some(json!({"a": 1, "b": 2, "c": null}))),
        (4, Operation::Replace, json!({"d": 4}), Some(json!({"d": 4}))),
        (5, Operation::Delete, json!(null), None),
        (6, Operation::Upsert, json!({"e": 6}), Some(json!({"e": 6}))),
        (7, Operation::Delete, json!(null), None),
        (8, Operation::Replace, json!({}), Some(json!({}))),
    ] {
        assert_eq!(one.push_one(entry(counter, op, "r", data)).await, applied(counter));
        assert_eq!(records(&two.pull("t", None).await), [("r".to_owned(), after)]);
    }
    // A deletion leaves its mark, even of what never was.
    assert_eq!(one.push_one(delete(9, "never")).await, applied(9));
    assert_eq!(records(&two.pull("t", None).await)[1], ("never".to_owned(), None));
    server.stop().await;
}

#[tokio::test]
async fn a_patch_of_what_somebody_else_deleted_is_a_conflict_first() {
    let home = Home::new();
    let server = home.start().await;
    let (one, two) = (server.device("alice", 1), server.device("alice", 2));
    one.declare(&["t"]).await;
    one.push(vec![upsert(1, "a", json!({"x": 1})), delete(2, "a")]).await;
    let patch = entry(1, Operation::Patch, "a", json!({"x": 2}));
    assert_eq!(two.push_one(patch.clone()).await, PushResult::Conflict { seq: 2 });
    let seen = two.head("t").await;
    assert_eq!(refused(&two.push_one(patch.base(&seen)).await).0, RejectCode::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_crash() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    one.push((1..=50).map(|n| upsert(n, &n.to_string(), json!({}))).collect()).await;
    let head = one.head("t").await;
    // What is on the disk at this moment is what a crash would leave.
    let after = Home::new();
    for suffix in ["", "-wal"] {
        let name = |home: &Home| format!("{}{suffix}", home.database().display());
        std::fs::copy(name(&home), name(&after)).unwrap();
    }
    server.stop().await;
    let server = after.start().await;
    assert_eq!(server.device("alice", 1).head("t").await, head);
    assert_eq!(server.device("alice", 2).pull("t", None).await.changes.len(), 50);
    server.stop().await;
}

#[tokio::test]
async fn many_devices_at_once_lose_nothing() {
    let home = Home::new();
    let server = home.start().await;
    server.device("alice", 99).declare(&["t"]).await;
    let pushes = (1..=8u8).map(|number| {
        let device = server.device("alice", number);
        tokio::spawn(async move {
            for counter in 1..=20 {
                let result =
                    device.push_one(upsert(counter, &format!("{number}-{counter}"), json!({}))).await;
                assert!(matches!(result, PushResult::Applied { .. }));
            }
        })
    });
    for push in pushes.collect::<Vec<_>>() {
        within(push).await.unwrap();
    }
    let page = server.device("alice", 99).pull("t", None).await;
    let seqs: Vec<_> = page.changes.iter().map(|change| change.seq).collect();
    assert_eq!(seqs, (1..=160).collect::<Vec<_>>());
    server.stop().await;
    let conn = rusqlite::Connection::open(home.database()).unwrap();
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[tokio::test]
async fn what_is_deleted_or_overwritten_is_gone_from_the_file_too() {
    const CANARY: &str = "canary-0b17e4ed";
    let home = Home::new();
    let server = home.start().await;
    let (one, two) = (server.device("alice", 1), server.device("alice", 2));
    one.declare(&["t"]).await;
    // Records that fit a page, and one that does not.
    for (n, size) in [(1, 1), (2, 40), (3, 2000)] {
        one.push(vec![upsert(n, &format!("r{n}"), json!({"a": CANARY.repeat(size)}))]).await;
    }
    two.pull("t", None).await;
    one.push(vec![delete(4, "r1"), upsert(5, "r2", json!({"a": "other"})), delete(6, "r3")]).await;
    let seen = records(&two.pull("t", None).await);
    assert_eq!(
        seen.iter().filter(|(_, record)| record.is_none()).count(),
        2,
        "what is left of them travels: {seen:?}"
    );
    server.stop().await;
    let bytes = std::fs::read(home.database()).unwrap();
    assert!(!bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()), "it is still in the file");
    let conn = rusqlite::Connection::open(home.database()).unwrap();
    let data = "SELECT count(*) FROM records WHERE id IN ('r1', 'r3') AND data IS NULL";
    assert_eq!(conn.query_row(data, [], |row| row.get::<_, i64>(0)).unwrap(), 2, "a tombstone holds nothing");
}

/// Temporary files of SQLite's have no name. While one is open, Linux says so.
#[cfg(target_os = "linux")]
fn temporary_files(done: &std::sync::atomic::AtomicBool) -> std::collections::BTreeSet<std::path::PathBuf> {
    let mut found = std::collections::BTreeSet::new();
    while !done.load(std::sync::atomic::Ordering::Acquire) {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let paths = open.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        found.extend(paths.filter(|path| {
            let path = path.to_string_lossy();
            path.ends_with(" (deleted)") && (path.contains("/#") || path.contains("/etilqs_"))
        }));
    }
    found
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn what_is_pushed_is_put_into_no_temporary_file() {
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let watched = done.clone();
    let watching = std::thread::spawn(move || temporary_files(&watched));
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    for round in 0..20_u64 {
        let record =
            |n| upsert(round * 400 + n, &format!("{n}"), json!({"x": "y".repeat(1000 + round as usize)}));
        one.push((1..=400).map(record).collect()).await;
    }
    server.device("alice", 2).pull("t", None).await;
    server.stop().await;
    done.store(true, std::sync::atomic::Ordering::Release);
    assert_eq!(watching.join().unwrap(), std::collections::BTreeSet::new());
}
