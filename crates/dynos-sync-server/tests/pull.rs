//! What devices get to see, and how far.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeSet, time::Duration};

use dynos_sync_core::{Cursor, json, wire::*};
use support::*;

fn expired(detail: ErrorDetail) -> Expired {
    assert_eq!(detail.code, "cursor_expired");
    detail.expired.unwrap()
}

#[tokio::test]
async fn a_table_comes_in_pages_that_join_without_gap() {
    let home = Home::new();
    let server = home.start().await;
    let (one, two) = (server.device("alice", 1), server.device("alice", 2));
    one.declare(&["t", "u"]).await;
    let mixed = |n| upsert(n, &format!("{n}"), json!({})).table(if n % 3 == 0 { "u" } else { "t" });
    one.push((1..=100).map(mixed).collect()).await;
    let mut request = PullRequest { limit: 7, ..two.pull_request("t", None) };
    let mut seqs = Vec::new();
    loop {
        let page = two.pull_with(&request).await;
        assert!(page.changes.len() <= 7);
        seqs.extend(page.changes.iter().map(|change| change.seq));
        assert_ne!(Some(&page.next), request.cursor.as_ref());
        request.cursor = Some(page.next);
        if !page.has_more {
            break;
        }
    }
    assert_eq!(seqs, (1..=100).filter(|n| n % 3 != 0).collect::<Vec<_>>());
    assert_eq!(request.cursor, Some(two.head("t").await));
    assert!(two.pull_with(&request).await.changes.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_page_is_bounded_in_bytes_and_never_empty() {
    let home = Home::new();
    let mut config = home.config();
    (config.limits.page_bytes, config.limits.page_changes) = (1000, 5);
    let server = home.start_with(config).await;
    let (one, two) = (server.device("alice", 1), server.device("alice", 2));
    one.declare(&["t"]).await;
    let large = |n| upsert(n, &format!("{n}"), json!({"x": "y".repeat(400)}));
    one.push((1..=3).map(large).collect()).await;
    one.push(vec![upsert(4, "4", json!({"x": "y".repeat(5000)}))]).await;
    one.push((5..=20).map(|n| upsert(n, &format!("{n}"), json!({}))).collect()).await;
    let (mut sizes, mut cursor) = (Vec::new(), None);
    loop {
        let page = two.pull("t", cursor.as_ref()).await;
        sizes.push(page.changes.len());
        cursor = Some(page.next);
        if !page.has_more {
            break;
        }
    }
    assert_eq!(sizes, [2, 1, 1, 5, 5, 5, 1]);
    let none = PullRequest { limit: 0, ..two.pull_request("t", None) };
    assert_eq!(two.pull_with(&none).await.changes.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn own_changes_are_left_out_unless_all_are_wanted() {
    let home = Home::new();
    let server = home.start().await;
    let (one, two) = (server.device("alice", 1), server.device("alice", 2));
    one.declare(&["t"]).await;
    one.push(vec![upsert(1, "a", json!({})), upsert(2, "b", json!({}))]).await;
    two.push(vec![upsert(1, "c", json!({}))]).await;
    let page = one.pull("t", None).await;
    assert_eq!(records(&page), [("c".to_owned(), Some(json!({})))]);
    assert_eq!(page.next, one.head("t").await);
    let all = one.pull_with(&PullRequest { all: true, ..one.pull_request("t", None) }).await;
    assert_eq!(all.changes.iter().map(|change| change.own).collect::<Vec<_>>(), [true, true, false]);
    server.stop().await;
}

#[tokio::test]
async fn settled_says_which_entries_were_applied() {
    let home = Home::new();
    let server = home.start().await;
    let (one, two) = (server.device("alice", 1), server.device("alice", 2));
    one.declare(&["t"]).await;
    one.push(vec![upsert(1, "a", json!({})), upsert(2, "b", json!({})).table("unknown")]).await;
    let seen = two.head("t").await;
    two.push(vec![upsert(1, "a", json!({"on": "top"})).base(&seen)]).await;
    let request = PullRequest { unsettled: vec![1, 2, 3, u64::MAX], ..one.pull_request("t", None) };
    let page = one.pull_with(&request).await;
    assert_eq!((page.settled.as_slice(), records(&page).len()), (&[1][..], 1));
    assert!(server.device("bob", 1).pull_with(&request).await.settled.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_page_its_settled_entries_and_its_end_are_of_one_moment() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    let pushing = {
        let one = one.clone();
        tokio::spawn(async move {
            for n in 1..=100 {
                one.push(vec![upsert(n, &n.to_string(), json!({}))]).await;
            }
        })
    };
    let request = PullRequest { all: true, unsettled: (1..=100).collect(), ..one.pull_request("t", None) };
    let mut seen = 0;
    while seen < 100 {
        let page = one.pull_with(&request).await;
        seen = page.changes.len();
        assert_eq!(page.settled.len(), seen);
        assert!(page.next.as_str().ends_with(&format!(".{seen}")));
    }
    within(pushing).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn forgetting_goes_on_until_nothing_is_left_to_forget() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    one.push((1..=2500).map(|n| delete(n, &n.to_string())).collect()).await;
    home.clock.advance(Duration::from_secs(91 * 24 * 60 * 60));
    server.server.forget().await.unwrap();
    server.stop().await;
    let conn = rusqlite::Connection::open(home.database()).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((count("SELECT count(*) FROM records"), count("SELECT count(*) FROM outcomes")), (0, 0));
}

#[tokio::test]
async fn a_user_sees_nothing_of_another() {
    let home = Home::new();
    let mut config = home.config();
    config.shared_tables = BTreeSet::from(["everyone".parse().unwrap()]);
    let server = home.start_with(config).await;
    // The same replica id, on purpose.
    let (alice, bob) = (server.device("alice", 1), server.device("bob", 1));
    alice.declare(&["t"]).await;
    assert!(read::<Tables>(bob.get("/v1/tables").await).await.tables.is_empty());
    let zero = bob.head("t").await;
    alice.push(vec![upsert(1, "a", json!({"of": "alice"}))]).await;
    assert_eq!(bob.head("t").await, zero);
    assert_eq!(bob.heads(&[]).await.last_counter, 0);
    assert!(bob.pull("t", None).await.changes.is_empty());
    assert_eq!(
        refused(&bob.push_one(upsert(1, "a", json!({"of": "bob"}))).await),
        (RejectCode::UnknownTable, None)
    );
    bob.declare(&["t"]).await;
    assert_eq!(bob.push_one(upsert(2, "a", json!({"of": "bob"}))).await, applied(1));
    let all = |device: &Device| PullRequest { all: true, ..device.pull_request("t", None) };
    assert_eq!(
        records(&alice.pull_with(&all(&alice)).await),
        [("a".to_owned(), Some(json!({"of": "alice"})))]
    );
    assert_eq!(records(&bob.pull_with(&all(&bob)).await), [("a".to_owned(), Some(json!({"of": "bob"})))]);
    // Subjects that look like other scopes' names are only names.
    for subject in ["s", "u:alice", ":alice", "alice ", "Alice"] {
        assert!(server.device(subject, 1).pull("t", None).await.changes.is_empty(), "{subject}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_shared_table_is_everybodys() {
    let home = Home::new();
    let mut config = home.config();
    config.shared_tables = BTreeSet::from(["everyone".parse().unwrap()]);
    let server = home.start_with(config).await;
    // Two users with one replica id are two writers all the same.
    let (alice, bob) = (server.device("alice", 1), server.device("bob", 1));
    alice.declare(&["everyone"]).await;
    assert_eq!(read::<Tables>(bob.get("/v1/tables").await).await.tables.len(), 1);
    let write = |counter, data| upsert(counter, "a", data).table("everyone");
    assert_eq!(alice.push_one(write(5, json!({"by": "alice"}))).await, applied(1));
    assert_eq!(bob.push_one(write(1, json!({"by": "bob"}))).await, PushResult::Conflict { seq: 1 });
    let page = bob.pull("everyone", None).await;
    assert_eq!(records(&page), [("a".to_owned(), Some(json!({"by": "alice"})))]);
    assert_eq!(bob.push_one(write(1, json!({"by": "bob"})).base(&page.next)).await, applied(2));
    assert_eq!(records(&alice.pull("everyone", None).await), [("a".to_owned(), Some(json!({"by": "bob"})))]);
    server.stop().await;
}

#[tokio::test]
async fn declarations_grow_and_never_shrink() {
    let home = Home::new();
    let mut config = home.config();
    config.limits.tables = 2;
    let server = home.start_with(config).await;
    let one = server.device("alice", 1);
    let spec = |columns: &[&str], key: &str| {
        let columns: Vec<_> = columns.iter().map(|name| json!({"name": name, "type": "TEXT"})).collect();
        let shape = json!({"kind": "columns", "columns": columns, "key": [key]});
        json!({"tables": [{"name": "c", "shape": shape}]})
    };
    assert_eq!(one.post("/v1/tables", &spec(&["id", "a"], "id")).await.status(), 200);
    let joined: Tables = read(one.post("/v1/tables", &spec(&["id", "b"], "id")).await).await;
    assert_eq!(serde_json::to_value(&joined).unwrap(), spec(&["id", "a", "b"], "id"));
    assert_eq!(read::<Tables>(one.get("/v1/tables").await).await, joined);
    for wrong in [spec(&["id", "a"], "a"), spec(&["id"], "none"), spec(&["id", "ID"], "id")] {
        let (status, detail) = error(one.post("/v1/tables", &wrong).await).await;
        assert_eq!((status, detail.code.as_str()), (422, "invalid"));
    }
    one.declare(&["t"]).await;
    let more = json!({"tables": [{"name": "u", "shape": {"kind": "document"}}]});
    assert_eq!(error(one.post("/v1/tables", &more).await).await.0, 422);
    server.stop().await;
}

#[tokio::test]
async fn restarts_change_no_cursor() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t", "u"]).await;
    one.push(vec![upsert(1, "a", json!({})), upsert(2, "b", json!({}))]).await;
    let before = one.heads(&["t", "u", "never"]).await;
    server.stop().await;
    let server = home.start().await;
    let one = server.device("alice", 1);
    assert_eq!(one.heads(&["t", "u", "never"]).await, before);
    let known = &before.heads[&"t".parse().unwrap()];
    one.push(vec![upsert(3, "c", json!({})).base(known)]).await;
    server.stop().await;
    let server = home.start().await;
    let two = server.device("alice", 2);
    assert_eq!(records(&two.pull("t", Some(known)).await), [("c".to_owned(), Some(json!({})))]);
    let zero = &before.heads[&"u".parse().unwrap()];
    assert_eq!(two.pull("t", Some(zero)).await.changes.len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_cursor_that_no_server_made_is_refused() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    for token in ["", "x", "1.2", "-1", "\u{0}", "00000000000000000000000000.x"] {
        let (status, detail) = error(one.try_pull("t", Some(&Cursor::new(token))).await).await;
        assert_eq!((status, detail.code.as_str()), (422, "invalid"), "{token}");
    }
    let stranger = Cursor::new(format!("{:027x}.5", 7));
    let (status, detail) = error(one.try_pull("t", Some(&stranger)).await).await;
    assert_eq!((status, expired(detail)), (410, Expired::RolledBack { common: 0, own: None }));
    server.stop().await;
}

/// A backup is put back. `restarts`: the server was restarted between the backup and the loss.
async fn restore(restarts: usize) {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    one.push((1..=10).map(|n| upsert(n, &format!("{n}"), json!({}))).collect()).await;
    let early = one.head("t").await;
    server.stop().await;
    let backup = home.path().join("backup");
    std::fs::copy(home.database(), &backup).unwrap();

    for _ in 0..restarts {
        home.clock.advance(Duration::from_secs(60));
        home.start().await.stop().await;
    }
    home.clock.advance(Duration::from_secs(60));
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.push((11..=15).map(|n| upsert(n, &format!("{n}"), json!({})).base(&early)).collect()).await;
    let lost = one.head("t").await;
    server.stop().await;

    std::fs::copy(&backup, home.database()).unwrap();
    for _ in 0..restarts {
        home.clock.advance(Duration::from_secs(60));
        home.start().await.stop().await;
    }
    home.clock.advance(Duration::from_secs(60));
    let server = home.start().await;
    let (one, two) = (server.device("alice", 1), server.device("alice", 2));
    // Before anything new was committed, and after the lost cursor's seq was passed.
    for round in 0..2u64 {
        let (status, detail) = error(one.try_pull("t", Some(&lost)).await).await;
        assert_eq!(
            (status, expired(detail)),
            (410, Expired::RolledBack { common: 10, own: None }),
            "round {round}"
        );
        let entry = upsert(100 + round, "1", json!({})).base(&lost);
        assert!(matches!(one.push_one(entry).await, PushResult::Conflict { .. }));
        let new = (1..=10).map(|n| upsert(round * 10 + n, &format!("new {round} {n}"), json!({})));
        two.push(new.collect()).await;
    }
    assert_eq!(two.pull("t", Some(&early)).await.changes.len(), 0);
    assert_eq!(one.pull("t", Some(&early)).await.changes.len(), 20);
    assert_eq!(one.heads(&[]).await.last_counter, 10);
    server.stop().await;
}

#[tokio::test]
async fn a_restored_server_says_what_is_left_of_the_history() {
    restore(0).await;
}

#[tokio::test]
async fn a_restored_server_says_so_also_about_lives_that_it_never_heard_of() {
    restore(3).await;
}

#[tokio::test]
async fn a_restored_copy_without_the_table_says_so_too() {
    let home = Home::new();
    home.start().await.stop().await;
    let backup = home.path().join("backup");
    std::fs::copy(home.database(), &backup).unwrap();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    one.push(vec![upsert(1, "a", json!({}))]).await;
    let lost = one.head("t").await;
    server.stop().await;
    std::fs::copy(&backup, home.database()).unwrap();
    let server = home.start().await;
    let (status, detail) = error(server.device("alice", 1).try_pull("t", Some(&lost)).await).await;
    assert_eq!((status, expired(detail)), (410, Expired::RolledBack { common: 0, own: None }));
    server.stop().await;
}

#[tokio::test]
async fn a_purged_deletion_expires_the_cursors_before_it_and_no_others() {
    let home = Home::new();
    let server = home.start().await;
    let (one, two, three) = (server.device("alice", 1), server.device("alice", 2), server.device("alice", 3));
    one.declare(&["t"]).await;
    let zero = one.head("t").await;
    one.push((1..=3).map(|n| upsert(n, &format!("{n}"), json!({}))).collect()).await;
    let early = one.head("t").await;
    one.push(vec![delete(4, "1"), upsert(5, "5", json!({})), upsert(6, "6", json!({}))]).await;
    let head = one.head("t").await;

    let day = Duration::from_secs(24 * 60 * 60);
    home.clock.advance(89 * day);
    server.server.forget().await.unwrap();
    assert_eq!(server.device("alice", 2).pull("t", Some(&early)).await.changes.len(), 3);
    home.clock.advance(2 * day);
    server.server.forget().await.unwrap();

    let (one, two, three) = refresh(&server, [one, two, three]);
    for old in [&early, &zero] {
        let (status, detail) = error(two.try_pull("t", Some(old)).await).await;
        assert_eq!((status, expired(detail)), (410, Expired::Purged));
    }
    assert!(matches!(
        two.push_one(upsert(1, "2", json!({})).base(&early)).await,
        PushResult::Conflict { .. }
    ));
    assert_eq!(two.head("t").await, head);
    assert!(two.pull("t", Some(&head)).await.changes.is_empty());
    // One who starts anew gets through, page by page, though the first pages end before the purged deletion.
    let mut request = PullRequest { limit: 1, ..three.pull_request("t", None) };
    for id in ["2", "3", "5", "6"] {
        let page = three.pull_with(&request).await;
        assert_eq!(page.changes[0].id.as_str(), id);
        assert_eq!(
            three.push_one(upsert(1, "2", json!({})).base(&page.next)).await,
            duplicate_or_applied(id)
        );
        request.cursor = Some(page.next);
    }
    // An outcome is forgotten earlier, the highest counter never.
    assert_eq!(one.heads(&[]).await.last_counter, 6);
    server.stop().await;
}

fn duplicate_or_applied(id: &str) -> PushResult {
    if id == "2" { applied(7) } else { duplicate(7) }
}

/// Tokens have run out by then.
fn refresh(server: &Running, devices: [Device; 3]) -> (Device, Device, Device) {
    let [one, two, three] = devices.map(|device| Device { token: server.token("alice"), ..device });
    (one, two, three)
}
