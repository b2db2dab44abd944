//! What is sent.

use std::time::Duration;

use dynos_sync_core::{
    Operation, Remote, ReplicaId, fields,
    wire::{PushEntry, PushRequest},
};
use dynos_sync_remote::HttpRemote;

use crate::server::{Reply, Seen, Server};

fn push(text: &str) -> PushRequest {
    let entry = PushEntry {
        counter: 1,
        table: "tasks".parse().unwrap(),
        id: "a".parse().unwrap(),
        op: Operation::Upsert,
        base: None,
        at: 5,
        data: Some(fields([("title", text.into())])),
        transaction: None,
    };
    PushRequest::new(ReplicaId::from_random([1; 16]), vec![entry])
}

fn applied() -> Reply {
    Reply::json(200, r#"{"results":[{"status":"applied","seq":4}],"heads":{}}"#)
}

fn plain(seen: &Seen) -> PushRequest {
    let body = match seen.header("content-encoding") {
        "zstd" => zstd::stream::decode_all(seen.body.as_slice()).unwrap(),
        "" => seen.body.clone(),
        other => panic!("{other}"),
    };
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn large_bodies_are_compressed_and_small_ones_are_not() {
    let server = Server::always(applied()).await;
    let (small, large) = (push("milk"), push(&"milk ".repeat(1000)));
    for (request, compression, encoding) in
        [(&small, true, ""), (&large, true, "zstd"), (&large, false, ""), (&small, false, "")]
    {
        let remote = server.builder().compression(compression).user_agent("test/1").build().unwrap();
        remote.push(request).await.unwrap();
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen.header("content-encoding"), encoding);
        assert_eq!(plain(&seen), *request);
        assert_eq!(seen.header("content-type"), "application/json");
        assert_eq!(seen.header("accept"), "application/json");
        assert_eq!(seen.header("authorization"), "Bearer t0ken");
        assert_eq!(seen.header("user-agent"), "test/1");
    }
}

#[tokio::test]
async fn a_server_that_does_not_take_compression_is_asked_once() {
    let server = Server::start(|seen| match seen.header("content-encoding") {
        "" => applied(),
        _ => Reply::error(415, "invalid"),
    })
    .await;
    let remote = server.remote();
    let large = push(&"milk ".repeat(1000));
    for _ in 0..2 {
        remote.clone().push(&large).await.unwrap();
    }
    let encodings: Vec<_> =
        server.seen().iter().map(|seen| seen.header("content-encoding").to_owned()).collect();
    assert_eq!(encodings, ["zstd", "", ""]);
}

#[tokio::test]
async fn a_plain_body_is_not_sent_again() {
    let server = Server::always(Reply::error(415, "invalid")).await;
    server.remote().push(&push("milk")).await.unwrap_err();
    assert_eq!(server.seen().len(), 1);
    server.remote().push(&push(&"milk ".repeat(1000))).await.unwrap_err();
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn a_runtime_of_one_thread_suffices() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::always(Reply::tables()).await;
        // By name, too: it needs no name service.
        let url = format!("http://localhost:{}", server.port());
        let remote = HttpRemote::builder(url).token("t").timeout(Duration::from_secs(20)).build().unwrap();
        remote.tables().await.unwrap();
    });
}

#[test]
fn a_proxy_gets_nothing_that_is_meant_for_this_machine() {
    // The environment of a process is set from outside: the test above runs again, behind a proxy that is not there.
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "requests::a_runtime_of_one_thread_suffices"])
        .envs(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, "http://127.0.0.1:1")))
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&output.stdout);
    assert!(output.contains("1 passed"), "{output}");
}

/// What leaves the device, to the byte: a header or a field more would be something that nobody has agreed to.
#[tokio::test]
async fn nothing_leaves_but_what_the_protocol_names() {
    let server = Server::always(applied()).await;
    server.remote().push(&push("milk")).await.unwrap();
    let seen = server.seen().pop().unwrap();
    let body = r#"{"replica":"01010101-0101-4101-8101-010101010101","entries":[{"counter":1,"table":"tasks","id":"a","op":"upsert","at":5,"data":{"title":"milk"}}]}"#;
    assert_eq!(String::from_utf8(seen.body).unwrap(), body);
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/push"));
    let mut headers: Vec<_> = seen.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    headers.sort();
    let agent = format!("user-agent: dynos-sync/{}", env!("CARGO_PKG_VERSION"));
    let (length, host) =
        (format!("content-length: {}", body.len()), format!("host: 127.0.0.1:{}", server.port()));
    let expected = [
        "accept-encoding: gzip, zstd",
        "accept: application/json",
        "authorization: Bearer t0ken",
        &length,
        "content-type: application/json",
        &host,
        &agent,
    ];
    assert_eq!(headers, expected);
}
