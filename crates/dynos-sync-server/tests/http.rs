//! What the server does with requests that are not as they should be, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{io::Write as _, time::Duration};

use dynos_sync_core::{json, wire::*};
use dynos_sync_server::{OpenError, Server, store::StoreError};
use reqwest::{Response, header};
use support::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

async fn send(device: &Device, body: Vec<u8>, headers: &[(&str, &str)]) -> Response {
    let mut request =
        device.http.post(format!("{}/v1/push", device.base)).bearer_auth(&device.token).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    within(request.send()).await.unwrap()
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compressed_both_ways() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    let text = "y".repeat(10_000);
    let body = |n| {
        let request = PushRequest::new(one.replica, vec![upsert(n, &format!("{n}"), json!({"x": text}))]);
        serde_json::to_vec(&request).unwrap()
    };
    for (n, encoding, bytes) in [
        (1, "gzip", gzip(&body(1))),
        (2, "zstd", zstd::encode_all(body(2).as_slice(), 3).unwrap()),
        (3, "identity", body(3)),
    ] {
        let answer: PushAnswer = read(send(&one, bytes, &[JSON, ("content-encoding", encoding)]).await).await;
        assert_eq!(answer.results, [applied(n)], "{encoding}");
    }
    for encoding in ["gzip", "zstd"] {
        let request = server.device("alice", 2).pull_request("t", None);
        let request = raw_client().post(server.url("/v1/pull")).bearer_auth(&one.token).json(&request);
        let response = within(request.header("accept-encoding", encoding).send()).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_ENCODING], encoding);
        assert!(within(response.bytes()).await.unwrap().len() < 2000);
    }
    server.stop().await;
}

#[tokio::test]
async fn bodies_that_are_too_large_by_any_measure() {
    let home = Home::new();
    let mut config = home.config();
    (config.limits.body_bytes, config.limits.decoded_bytes) = (10_000, 100_000);
    config.limits.push_entries = 10;
    let server = home.start_with(config).await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    let bomb = vec![b' '; 5_000_000];
    let mut wide = zstd::Encoder::new(Vec::new(), 19).unwrap();
    wide.window_log(27).unwrap();
    wide.include_contentsize(false).unwrap();
    wide.write_all(&bomb).unwrap();
    for (name, body, encoding, expected) in [
        ("plain", bomb[..10_001].to_vec(), "identity", 413),
        ("a gzip bomb", gzip(&bomb), "gzip", 413),
        ("a zstd bomb", zstd::encode_all(bomb.as_slice(), 3).unwrap(), "zstd", 413),
        ("a zstd frame with a huge window", wide.finish().unwrap(), "zstd", 400),
        ("not gzip", b"{}".to_vec(), "gzip", 400),
        ("not zstd", b"{}".to_vec(), "zstd", 400),
        ("half a gzip", gzip(&bomb)[..100].to_vec(), "gzip", 400),
        ("brotli", b"{}".to_vec(), "br", 415),
    ] {
        let (status, detail) = error(send(&one, body, &[JSON, ("content-encoding", encoding)]).await).await;
        let code = if expected == 413 { "too_large" } else { "invalid" };
        assert_eq!((status, detail.code.as_str()), (expected, code), "{name}");
    }
    let many = (1..=11).map(|n| upsert(n, "a", json!({}))).collect();
    assert_eq!(error(one.try_push(many).await).await.0, 413);
    let unsettled = PullRequest { unsettled: (1..=11).collect(), ..one.pull_request("t", None) };
    assert_eq!(error(one.post("/v1/pull", &unsettled).await).await.0, 413);
    assert_eq!(one.heads(&[]).await.last_counter, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_small_batch_that_would_rewrite_large_records_all_over_is_refused_whole() {
    let home = Home::new();
    let mut config = home.config();
    config.limits.record_bytes = 1000;
    let server = home.start_with(config).await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    one.push(vec![upsert(1, "a", json!({"x": "y".repeat(900)}))]).await;
    let patches = |n: u64| (2..2 + n).map(|n| upsert(n, "a", json!({"n": n}))).collect::<Vec<_>>();
    assert_eq!(error(one.try_push(patches(80)).await).await.0, 413);
    assert_eq!(one.heads(&[]).await.last_counter, 1);
    assert_eq!(one.push(patches(40)).await.results.len(), 40);
    server.stop().await;
}

#[tokio::test]
async fn bodies_that_make_no_sense_are_not_quoted() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, kind, expected) in [
        ("{\"replica\": \"s3cret\"}", "application/json", 400),
        ("{\"s3cret\": ", "application/json", 400),
        ("s3cret", "application/json", 400),
        ("", "application/json", 400),
        (deep.as_str(), "application/json", 400),
        ("{}", "text/plain", 415),
        ("{}", "", 415),
    ] {
        let (status, detail) = error(send(&one, body.into(), &[("content-type", kind)]).await).await;
        assert_eq!((status, detail.code.as_str()), (expected, "invalid"), "{body:.20}");
        assert!(!detail.message.contains("s3cret"), "{}", detail.message);
    }
    let tables: Vec<_> = (0..1001).map(|n| format!("t{n}")).collect();
    let (status, _) =
        error(one.post("/v1/heads", &json!({"replica": one.replica, "tables": tables})).await).await;
    assert_eq!(status, 422);
    server.stop().await;
}

#[tokio::test]
async fn every_error_has_the_protocols_body() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice", 1);
    for (path, expected, code) in
        [("/", 404, "not_found"), ("/v1/nothing", 404, "not_found"), ("/v1/push", 405, "invalid")]
    {
        let response = one.get(path).await;
        assert_eq!(response.headers().contains_key(header::ALLOW), expected == 405);
        let (status, detail) = error(response).await;
        assert_eq!((status, detail.code.as_str()), (expected, code), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn without_a_token_the_server_tells_only_how_it_is() {
    let home = Home::new();
    let server = home.start().await;
    let one = server.device("alice@example.com", 1);
    one.declare(&["t"]).await;
    one.push(vec![upsert(1, "a", json!({})), upsert(2, "a", json!({})).table("unknown")]).await;
    server.device("alice@example.com", 2).pull("t", None).await;
    let nobody = client();
    let get = async |path: &str| {
        let response = within(nobody.get(server.url(path)).send()).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        within(response.text()).await.unwrap()
    };
    assert_eq!(get("/healthz").await, r#"{"status":"ok"}"#);
    let numbers = get("/metrics").await;
    for line in [
        r#"dynos_requests_total{route="/v1/push",status="200"} 1"#,
        r#"dynos_entries_total{result="applied"} 1"#,
        r#"dynos_entries_total{result="rejected"} 1"#,
        "dynos_changes_pulled_total 1",
        "dynos_event_streams 0",
    ] {
        assert!(numbers.lines().any(|found| found == line), "{line} in\n{numbers}");
    }
    assert!(numbers.contains("dynos_database_bytes ") && !numbers.contains("alice"));
    server.stop().await;
}

#[tokio::test]
async fn a_crowd_is_asked_to_come_back() {
    let home = Home::new();
    let mut config = home.config();
    config.limits.requests = 0;
    let server = home.start_with(config).await;
    let response = server.device("alice", 1).get("/v1/tables").await;
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    let (status, detail) = error(response).await;
    assert_eq!((status, detail.code.as_str()), (503, "unavailable"));
    // Whoever watches the server is still answered.
    assert_eq!(within(client().get(server.url("/healthz")).send()).await.unwrap().status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn nobody_can_hold_a_connection_by_being_slow() {
    let home = Home::new();
    let mut config = home.config();
    config.limits.head_time = Duration::from_millis(200);
    config.limits.request_time = Duration::from_millis(300);
    let server = home.start_with(config).await;
    let token = server.token("alice");
    let body = format!(
        "POST /v1/push HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    for (sent, answer) in
        [("", ""), ("P", ""), ("GET / HTTP/1.1\r\nhost:", ""), (body.as_str(), "HTTP/1.1 408")]
    {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answered = Vec::new();
        // It ends, whichever way.
        let _ = within(stream.read_to_end(&mut answered)).await;
        let answered = String::from_utf8_lossy(&answered);
        assert!(answered.starts_with(answer), "{sent:?} → {answered:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn nobody_can_hold_an_answer_by_not_reading_it() {
    let home = Home::new();
    let mut config = home.config();
    config.limits.head_time = Duration::from_millis(300);
    config.limits.page_bytes = 64 << 20;
    config.limits.connections = 1;
    let server = home.start_with(config).await;
    let mut one = server.device("alice", 1);
    one.declare(&["t"]).await;
    for n in 1..=32 {
        one.push(vec![upsert(n, &n.to_string(), json!({"x": "y".repeat(1_000_000)}))]).await;
    }
    let body = serde_json::to_string(&server.device("alice", 2).pull_request("t", None)).unwrap();
    let (token, length) = (&one.token, body.len());
    let request = format!(
        "POST /v1/pull HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    // There is one place for a connection. Its holder gives it back, and the next one does not read.
    one.http = client();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    within(stream.readable()).await.unwrap();
    // Somebody else gets the place all the same.
    assert_eq!(within(one.http.get(server.url("/healthz")).send()).await.unwrap().status(), 200);
    drop(one);
    server.stop().await;
}

#[tokio::test]
async fn the_server_ends_with_one_whole_file() {
    let home = Home::new();
    let mut server = home.start().await;
    let one = server.device("alice", 1);
    one.declare(&["t"]).await;
    // A request that is under way is still answered.
    let pushes: Vec<_> = (1..=20u64)
        .map(|n| {
            let one = one.clone();
            tokio::spawn(async move {
                one.http
                    .post(format!("{}/v1/push", one.base))
                    .bearer_auth(&one.token)
                    .json(&PushRequest::new(one.replica, vec![upsert(n, &format!("{n}"), json!({}))]))
                    .send()
                    .await
                    .is_ok_and(|response| response.status() == 200)
            })
        })
        .collect();
    tokio::task::yield_now().await;
    server.begin_stop();
    server.stop().await;
    let mut acknowledged = 0;
    for push in pushes {
        acknowledged += u64::from(within(push).await.unwrap());
    }
    let files: Vec<_> =
        std::fs::read_dir(home.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(files.iter().all(|name| name == "dynos.db" || name == "dynos.db-lock"), "{files:?}");
    let conn = rusqlite::Connection::open(home.database()).unwrap();
    let one = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(one("PRAGMA integrity_check"), "ok");
    assert!(one("SELECT CAST(count(*) AS TEXT) FROM records").parse::<u64>().unwrap() >= acknowledged);
}

#[tokio::test]
async fn a_second_server_does_not_open_the_same_database() {
    let home = Home::new();
    let server = home.start().await;
    let second = Server::open(home.config());
    assert!(matches!(second, Err(OpenError::Store(StoreError::Unavailable))), "{second:?}");
    let clone = server.server.clone();
    server.stop().await;
    // What is left of the first one is in nobody's way.
    home.start().await.stop().await;
    assert!(matches!(clone.forget().await, Err(StoreError::Unavailable)));
}

#[tokio::test]
async fn another_programs_database_is_left_alone() {
    let home = Home::new();
    rusqlite::Connection::open(home.database()).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(Server::open(home.config()), Err(OpenError::Store(StoreError::Corrupt(_)))));
}

#[tokio::test]
async fn an_application_can_put_the_protocol_under_a_path_of_its_own() {
    let home = Home::new();
    let server = Server::open(home.config()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/sync", listener.local_addr().unwrap());
    let router = axum::Router::new().nest("/sync", server.router());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let token = dynos_sync_server::mint(
        &dynos_sync_server::config::Secret::new(SECRET),
        "alice",
        Duration::from_secs(60),
        home.clock.now(),
    );
    let replica = dynos_sync_core::ReplicaId::from_random([1; 16]);
    let one = Device { http: client(), base, token: token.unwrap(), replica };
    one.declare(&["t"]).await;
    assert_eq!(one.push_one(upsert(1, "a", json!({}))).await, applied(1));
    server.close().await.unwrap();
    assert_eq!(error(one.get("/v1/tables").await).await.0, 503);
    serving.abort();
}

#[tokio::test]
#[cfg(unix)]
async fn the_database_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let server = home.start().await;
    server.device("alice", 1).declare(&["t"]).await;
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{}{suffix}", home.database().display());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    server.stop().await;
}
