//! Live hints.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use dynos_sync_core::{json, wire::Hint};
use reqwest::Response;
use support::*;

/// The next hint; `None` when the stream has ended.
async fn hint(stream: &mut Response) -> Option<Hint> {
    loop {
        let chunk = within(stream.chunk()).await.ok().flatten()?;
        let text = String::from_utf8(chunk.to_vec()).unwrap();
        if let Some(data) = text.lines().find_map(|line| line.strip_prefix("data:")) {
            return Some(serde_json::from_str(data).unwrap());
        }
    }
}

fn names(hint: Option<Hint>) -> Vec<String> {
    hint.unwrap().tables.iter().map(ToString::to_string).collect()
}

async fn listen(device: &Device) -> Response {
    let stream = device.get("/v1/events").await;
    assert_eq!(stream.status(), 200);
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    stream
}

#[tokio::test]
async fn a_change_is_told_to_those_who_may_see_it() {
    let home = Home::new();
    let mut config = home.config();
    config.shared_tables = ["everyone".parse().unwrap()].into();
    let server = home.start_with(config).await;
    let (alice, bob) = (server.device("alice", 1), server.device("bob", 2));
    alice.declare(&["t", "u", "everyone"]).await;
    let (mut of_alice, mut of_bob) = (listen(&alice).await, listen(&bob).await);
    server
        .device("alice", 9)
        .push(vec![upsert(1, "a", json!({})), upsert(2, "a", json!({})).table("u")])
        .await;
    let mut told = names(hint(&mut of_alice).await);
    if told.len() == 1 {
        told.extend(names(hint(&mut of_alice).await));
    }
    assert_eq!(told, ["t", "u"]);
    // The first that Bob hears of is the table that he shares.
    alice.push(vec![upsert(1, "a", json!({})).table("everyone")]).await;
    assert_eq!(names(hint(&mut of_bob).await), ["everyone"]);
    assert_eq!(names(hint(&mut of_alice).await), ["everyone"]);
    // What changes nothing is not told: a repeat, a refusal.
    alice
        .push(vec![upsert(1, "a", json!({})).table("everyone"), upsert(2, "a", json!({})).table("none")])
        .await;
    alice.push(vec![upsert(3, "b", json!({}))]).await;
    assert_eq!(names(hint(&mut of_alice).await), ["t"]);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let home = Home::new();
    let server = home.start().await;
    let secret = dynos_sync_server::config::Secret::new(SECRET);
    // It is good for the leeway only: until the clock says so, which stands still, and then for a moment.
    let token = dynos_sync_server::mint(&secret, "alice", Duration::from_secs(1), home.clock.now()).unwrap();
    home.clock.advance(Duration::from_millis(5900));
    let mut stream = listen(&Device { token, ..server.device("alice", 1) }).await;
    assert_eq!(hint(&mut stream).await, None);
    server.stop().await;
}

#[tokio::test]
async fn a_user_holds_so_many_streams_and_no_more() {
    let home = Home::new();
    let mut config = home.config();
    config.limits.events_per_user = 2;
    let server = home.start_with(config).await;
    let alice = server.device("alice", 1);
    let (first, _second) = (listen(&alice).await, listen(&alice).await);
    let (status, detail) = error(alice.get("/v1/events").await).await;
    assert_eq!((status, detail.code.as_str()), (429, "rate_limited"));
    let _of_bob = listen(&server.device("bob", 1)).await;
    drop(first);
    // The server notices in its own time that the stream is gone.
    within(async { while alice.get("/v1/events").await.status() != 200 {} }).await;
    server.stop().await;
}

#[tokio::test]
async fn shutting_down_ends_the_streams() {
    let home = Home::new();
    let mut server = home.start().await;
    let mut stream = listen(&server.device("alice", 1)).await;
    server.begin_stop();
    assert_eq!(hint(&mut stream).await, None);
    server.stop().await;
}
