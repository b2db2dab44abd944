//! Snapshots hold what their caller's pulls answer, for as long as that leads on, and nobody else gets them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{path::Path, time::Duration};

use dynos_sync_core::{
    Operation, TableSpec, Value, json,
    snapshot::{Snapshot, SnapshotRequest},
};
use dynos_sync_server::Config;
use reqwest::{Response, StatusCode, header};
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use support::*;

/// A server with snapshots of few rows.
async fn start(home: &Home, configure: impl FnOnce(&mut Config)) -> Running {
    let mut config = home.config();
    config.snapshots.rows = 2;
    configure(&mut config);
    home.start_with(config).await
}

fn documents(names: &[&str]) -> Vec<TableSpec> {
    names.iter().map(|name| TableSpec::document(name.parse().unwrap())).collect()
}

async fn ask(device: &Device, tables: Vec<TableSpec>) -> Option<Snapshot> {
    let response = device.post("/v1/snapshot", &SnapshotRequest { replica: device.replica, tables }).await;
    match response.status() {
        StatusCode::NO_CONTENT => None,
        _ => Some(read(response).await),
    }
}

async fn fetch(device: &Device, id: &str, range: &str) -> Response {
    let request = device.http.get(format!("{}/v1/snapshot/{id}", device.base)).bearer_auth(&device.token);
    within(request.header(header::RANGE, range).send()).await.unwrap()
}

async fn bytes(device: &Device, snapshot: &Snapshot) -> Vec<u8> {
    let response = fetch(device, &snapshot.id, "bytes=0-").await;
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    within(response.bytes()).await.unwrap().to_vec()
}

/// The rows of a table in it, as the file has them.
fn rows(bytes: &[u8], table: &str) -> Vec<(String, Value)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, zstd::decode_all(bytes).unwrap()).unwrap();
    let db = Connection::open(&path).unwrap();
    let mut statement = db.prepare(&format!("SELECT id, data FROM \"{table}\" ORDER BY id")).unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?));
    let rows = statement.query_map([], row).unwrap().map(Result::unwrap);
    rows.map(|(id, data)| (id, serde_json::from_str(&data).unwrap())).collect()
}

async fn three(device: &Device) {
    device.declare(&["t"]).await;
    let upserts = (1..=3).map(|n| entry(n, Operation::Upsert, &format!("r{n}"), json!({"n": n})));
    device.push(upserts.collect()).await;
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

#[tokio::test]
async fn it_holds_the_newest_versions_and_leads_on_to_what_comes_later() {
    let home = Home::new();
    let server = start(&home, |_| ()).await;
    let device = server.device("ada", 1);
    three(&device).await;
    device
        .push(vec![
            entry(4, Operation::Delete, "r1", json!({})),
            entry(5, Operation::Patch, "r2", json!({"m": 1})),
        ])
        .await;
    let snapshot = ask(&device, documents(&["t"])).await.unwrap();
    let held = &snapshot.tables[&"t".parse().unwrap()];
    assert_eq!((held.rows, &held.cursor, snapshot.at), (2, &device.head("t").await, 1005));
    let whole = bytes(&device, &snapshot).await;
    assert_eq!(whole.len() as u64, snapshot.bytes);
    let digest: String = Sha256::digest(&whole).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, snapshot.digest);
    assert_eq!(zstd::decode_all(whole.as_slice()).unwrap().len() as u64, snapshot.size);
    let expected = vec![("r2".to_owned(), json!({"n": 2, "m": 1})), ("r3".to_owned(), json!({"n": 3}))];
    assert_eq!(rows(&whole, "t"), expected);

    device.push(vec![entry(6, Operation::Upsert, "r4", json!({}))]).await;
    let again = ask(&device, documents(&["t"])).await.unwrap();
    assert_eq!(again, snapshot, "it is given out for a while, so that fetching it can go on");
    let request = device.pull_request("t", Some(&held.cursor));
    let page = device.pull_with(&dynos_sync_core::wire::PullRequest { all: true, ..request }).await;
    assert_eq!(page.changes.iter().map(|change| change.id.as_str()).collect::<Vec<_>>(), ["r4"]);

    home.clock.advance(Duration::from_secs(9 * 60 + 59));
    bytes(&device, &snapshot).await;
    home.clock.advance(Duration::from_secs(1));
    let later = ask(&device, documents(&["t"])).await.unwrap();
    assert_ne!(later.id, snapshot.id);
    assert_eq!(later.tables[&"t".parse().unwrap()].rows, 3);
    let mut piece = fetch(&device, &snapshot.id, "bytes=0-").await.status();
    assert_eq!(piece, StatusCode::PARTIAL_CONTENT, "somebody is fetching it");
    home.clock.advance(Duration::from_secs(10 * 60));
    ask(&device, documents(&["t"])).await.unwrap();
    piece = fetch(&device, &snapshot.id, "bytes=0-").await.status();
    assert_eq!(piece, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn it_comes_in_pieces() {
    let home = Home::new();
    let server = start(&home, |_| ()).await;
    let device = server.device("ada", 1);
    three(&device).await;
    let snapshot = ask(&device, documents(&["t"])).await.unwrap();
    let whole = bytes(&device, &snapshot).await;
    let mut pieces = Vec::new();
    while (pieces.len() as u64) < snapshot.bytes {
        let from = pieces.len();
        let response = fetch(&device, &snapshot.id, &format!("bytes={from}-{}", from + 99)).await;
        let range = response.headers()[header::CONTENT_RANGE].to_str().unwrap().to_owned();
        let piece = within(response.bytes()).await.unwrap();
        assert_eq!(range, format!("bytes {from}-{}/*", from + piece.len() - 1));
        assert!(piece.len() <= 100);
        pieces.extend(piece);
    }
    assert_eq!(pieces, whole);
    let beyond = fetch(&device, &snapshot.id, &format!("bytes={}-", snapshot.bytes)).await;
    assert_eq!(error(beyond).await.0, 416);
    assert_eq!(error(fetch(&device, &snapshot.id, "lines=1-2").await).await.0, 400);
    server.stop().await;
}

#[tokio::test]
async fn nobody_gets_what_is_somebody_elses() {
    let home = Home::new();
    let server = start(&home, |config| config.shared_tables = ["all".parse().unwrap()].into()).await;
    let (ada, bob) = (server.device("ada", 1), server.device("bob", 2));
    three(&ada).await;
    three(&bob).await;
    bob.push(vec![entry(9, Operation::Upsert, "bob's", json!({}))]).await;
    let of_ada = ask(&ada, documents(&["t"])).await.unwrap();
    let of_bob = ask(&bob, documents(&["t"])).await.unwrap();
    assert_ne!((&of_ada.id, of_ada.tables.values().next()), (&of_bob.id, of_bob.tables.values().next()));
    assert_eq!(rows(&bytes(&ada, &of_ada).await, "t").len(), 3);
    assert_eq!(error(fetch(&ada, &of_bob.id, "bytes=0-").await).await.0, 404);
    let anonymous = Device { token: "none".to_owned(), ..ada.clone() };
    assert_eq!(error(fetch(&anonymous, &of_ada.id, "bytes=0-").await).await.0, 401);

    ada.declare(&["all"]).await;
    let shared = (1..=3).map(|n| entry(20 + n, Operation::Upsert, &n.to_string(), json!({})).table("all"));
    ada.push(shared.collect()).await;
    let for_ada = ask(&ada, documents(&["all"])).await.unwrap();
    assert_eq!(ask(&bob, documents(&["all"])).await.unwrap(), for_ada, "what all share is made once");
    assert_eq!(rows(&bytes(&bob, &for_ada).await, "all").len(), 3);
    let both = ask(&bob, documents(&["all", "t"])).await.unwrap();
    assert_eq!(error(fetch(&ada, &both.id, "bytes=0-").await).await.0, 404, "one that also has bob's");
    server.stop().await;
}

#[tokio::test]
async fn what_is_small_or_unknown_or_too_large_comes_by_pages() {
    let home = Home::new();
    let server = start(&home, |config| config.snapshots.rows = 3).await;
    let device = server.device("ada", 1);
    assert_eq!(ask(&device, documents(&["t"])).await, None, "a table that nobody has declared");
    assert_eq!(ask(&device, vec![]).await, None);
    device.declare(&["t", "u"]).await;
    let upsert = |n: u64, table| entry(n, Operation::Upsert, &n.to_string(), json!({})).table(table);
    device.push(vec![upsert(1, "t"), upsert(2, "t")]).await;
    assert_eq!(ask(&device, documents(&["t"])).await, None);
    device.push(vec![upsert(3, "u")]).await;
    let both = ask(&device, documents(&["t", "u", "nowhere"])).await.unwrap();
    assert_eq!(both.tables.keys().map(ToString::to_string).collect::<Vec<_>>(), ["nowhere", "t", "u"]);
    let twice = SnapshotRequest { replica: device.replica, tables: documents(&["t", "T"]) };
    assert_eq!(error(device.post("/v1/snapshot", &twice).await).await.0, 422);
    server.stop().await;

    for bytes in [0, 1000] {
        let server = start(&home, |config| config.snapshots.bytes = bytes).await;
        assert_eq!(ask(&server.device("ada", 1), documents(&["t", "u"])).await, None, "{bytes}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_table_whose_records_do_not_say_everything_comes_by_pages() {
    let home = Home::new();
    let server = start(&home, |_| ()).await;
    let device = server.device("ada", 1);
    let columns = json!({"kind": "columns", "key": ["id"], "columns":
        [{"name": "id", "type": "TEXT"}, {"name": "n", "type": "INTEGER"}, {"name": "later", "type": "TEXT", "default": "1"}]});
    let spec: TableSpec = serde_json::from_value(json!({"name": "t", "shape": columns})).unwrap();
    device.declare_specs(vec![spec.clone()]).await;
    device.declare(&["other"]).await;
    let upsert = |n: u64, data| entry(n, Operation::Upsert, &n.to_string(), data);
    let other = upsert(7, json!({})).table("other");
    device.push(vec![upsert(1, json!({"n": 1, "later": null})), upsert(2, json!({"n": 2})), other]).await;
    let tables = [vec![spec.clone()], documents(&["other"])].concat();
    let snapshot = ask(&device, tables.clone()).await.unwrap();
    assert_eq!(snapshot.tables.keys().map(ToString::to_string).collect::<Vec<_>>(), ["other"]);

    device.push(vec![upsert(8, json!({"later": "x"}))]).await;
    device
        .push(vec![entry(9, Operation::Delete, "2", json!({})), entry(10, Operation::Delete, "8", json!({}))])
        .await;
    home.clock.advance(Duration::from_secs(3600));
    assert_eq!(ask(&device, tables).await.unwrap().tables.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn the_files_are_the_servers_alone_and_go_with_it() {
    let home = Home::new();
    let directory = home.path().join("dynos.db-snapshots");
    let server = start(&home, |_| ()).await;
    let device = server.device("ada", 1);
    three(&device).await;
    assert!(!directory.exists(), "nothing is made before it is asked for");
    ask(&device, documents(&["t"])).await.unwrap();
    assert_eq!(files(&directory), 1, "the packed file alone");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        let file = std::fs::read_dir(&directory).unwrap().next().unwrap().unwrap();
        assert_eq!(mode(&file.path()), 0o600);
    }
    // Another selection takes the place of what this user had.
    device.declare(&["u"]).await;
    home.clock.advance(Duration::from_secs(60));
    ask(&device, documents(&["t", "u"])).await.unwrap();
    assert_eq!(files(&directory), 1);
    server.stop().await;
    assert!(!directory.exists());

    // A server that was killed leaves some, and the next one takes them away.
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("old.snapshot"), "rows").unwrap();
    let server = start(&home, |_| ()).await;
    ask(&server.device("ada", 1), documents(&["t"])).await.unwrap();
    assert!(!directory.join("old.snapshot").exists());
    server.stop().await;
}

#[tokio::test]
async fn many_who_ask_at_once_wait_for_one() {
    let home = Home::new();
    let server = start(&home, |_| ()).await;
    let device = server.device("ada", 1);
    three(&device).await;
    let asked = (0..20).map(|_| ask(&device, documents(&["t"])));
    let mut ids: Vec<String> =
        futures_util::future::join_all(asked).await.into_iter().map(|offer| offer.unwrap().id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn one_whose_history_is_gone_is_made_anew() {
    let home = Home::new();
    let server = start(&home, |config| config.retention.tombstones = Duration::from_secs(1)).await;
    let device = server.device("ada", 1);
    three(&device).await;
    let before = ask(&device, documents(&["t"])).await.unwrap();
    device.push(vec![entry(4, Operation::Delete, "r1", json!({}))]).await;
    home.clock.advance(Duration::from_secs(60));
    server.server.forget().await.unwrap();
    let after = ask(&device, documents(&["t"])).await.unwrap();
    assert_ne!(after.id, before.id, "its cursor would not have told of the deletion");
    assert_eq!(after.tables[&"t".parse().unwrap()].rows, 2);
    server.stop().await;
}
