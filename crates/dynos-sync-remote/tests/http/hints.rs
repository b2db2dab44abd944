//! Live hints.

use std::{sync::Arc, time::Duration};

use dynos_sync_core::Remote;
use dynos_sync_remote::{HttpRemote, Secret, TokenError, TokenProvider};
use futures_util::StreamExt;

use crate::server::{Reply, Server, Then};

const HEAD: &str = "HTTP/1.1 200 X\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n";

fn events(text: &str, then: Then) -> Reply {
    Reply::raw(format!("{HEAD}{text}"), then)
}

/// The tables of all hints that the server sends until the stream ends, after the one that stands for what was missed before.
async fn hinted(reply: Reply) -> Vec<String> {
    let mut hints = all_hints(reply).await;
    assert!(hints.is_empty() || hints.remove(0).is_empty(), "the first one is about everything");
    hints
}

/// The tables of all hints until the stream ends.
async fn all_hints(reply: Reply) -> Vec<String> {
    let remote = Server::always(reply).await.builder().hints_idle_timeout(Duration::from_secs(1));
    let hints = remote.build().unwrap().hints();
    let hints = tokio::time::timeout(Duration::from_secs(20), hints.collect::<Vec<_>>()).await.unwrap();
    hints
        .iter()
        .map(|hint| hint.tables.iter().map(ToString::to_string).collect::<Vec<_>>().join("+"))
        .collect()
}

#[tokio::test]
async fn hints_arrive_and_end_with_the_connection() {
    let text = ": hello\n\ndata: {\"tables\":[\"a\",\"b\"]}\n\ndata: {\"tables\":[]}\r\n\r\nid: 7\ndata:{\"tables\":\ndata:[\"c\"]}\n\ndata: {\"tab";
    assert_eq!(hinted(events(text, Then::Close)).await, ["a+b", "", "c"]);
}

/// A change that is committed between a device's last pull and this connection reaches nobody as a hint: without the first one it would
/// be noticed at the next pull by the clock, a minute later.
#[tokio::test]
async fn a_connection_begins_with_a_hint_about_what_was_missed() {
    assert_eq!(all_hints(events("", Then::Close)).await, [""]);
    assert_eq!(all_hints(events("data: {\"tables\":[\"a\"]}\n\n", Then::Close)).await, ["", "a"]);
    assert_eq!(
        all_hints(Reply::error(503, "unavailable")).await,
        Vec::<String>::new(),
        "there is no connection"
    );
}

#[tokio::test]
async fn it_does_not_matter_how_the_network_cuts_them() {
    let text = "data: {\"tables\":[\"é\"]}\r\n\r\n: x\r\n\r\ndata: {\"tables\":[\"b\"]}\r\n\r\n";
    for at in 0..text.len() {
        let (first, second) = text.as_bytes().split_at(at);
        let first = [HEAD.as_bytes(), first].concat();
        // The rest follows in a packet of its own, over and over: two hints suffice.
        let reply = Reply::raw(first, Then::Repeat(second.to_vec(), Duration::from_millis(1)));
        let remote = Server::always(reply).await.remote();
        let hints = remote.hints().skip(1).take(1).collect::<Vec<_>>().await;
        assert!(["é", "b"].contains(&hints[0].tables[0].as_str()), "cut at {at}");
    }
}

#[tokio::test]
async fn signs_of_life_keep_the_stream_and_silence_ends_it() {
    let alive = events("", Then::Repeat(b": alive\n\n".to_vec(), Duration::from_millis(30)));
    let remote = Server::always(alive).await.builder().hints_idle_timeout(Duration::from_millis(600));
    let mut hints = remote.build().unwrap().hints();
    assert!(hints.next().await.unwrap().tables.is_empty());
    assert!(
        tokio::time::timeout(Duration::from_millis(1500), hints.next()).await.is_err(),
        "still connected"
    );
    assert_eq!(hinted(events("data: {\"tables\":[\"a\"]}\n\n", Then::Silence)).await, ["a"]);
}

#[tokio::test]
async fn whatever_is_no_hint_ends_the_stream() {
    for text in ["data: {\"tables\":7}\n\n", "data: <html>\n\n", &format!("data: {}", "x".repeat(70_000))] {
        let flood = Then::Repeat(b"\ndata: {\"tables\":[\"late\"]}\n\n".to_vec(), Duration::from_millis(5));
        assert_eq!(hinted(events(text, flood)).await, Vec::<String>::new());
    }
    for reply in [
        Reply::json(200, "data: {\"tables\":[\"a\"]}\n\n"),
        Reply::new(202, "content-type: text/event-stream\r\n", "data: {\"tables\":[\"a\"]}\n\n"),
        Reply::error(503, "unavailable"),
        Reply::error(401, "unauthorized"),
        Reply::new(307, "location: http://localhost:1/\r\n", ""),
        Reply::raw("", Then::Close),
    ] {
        assert_eq!(hinted(reply).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_endless_line_is_left_early() {
    let server = Server::always(events("data: ", Then::Repeat(vec![b'x'; 0x10000], Duration::ZERO))).await;
    assert_eq!(server.remote().hints().count().await, 1, "the one about what was missed");
    server.closed().await;
    assert!(server.written() < 20 * 1024 * 1024, "{} bytes were taken", server.written());
}

#[tokio::test]
async fn the_connection_begins_with_the_first_poll_and_ends_with_the_drop() {
    let server = Server::always(events("data: {\"tables\":[\"a\"]}\n\n", Then::Silence)).await;
    let mut hints = server.remote().hints();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.seen().len(), 0);
    assert!(hints.next().await.unwrap().tables.is_empty());
    assert_eq!(hints.next().await.unwrap().tables[0].as_str(), "a");
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/v1/events"));
    assert_eq!(seen.header("accept"), "text/event-stream");
    drop(hints);
    server.closed().await;
}

struct Renews;

#[async_trait::async_trait]
impl TokenProvider for Renews {
    async fn token(&self) -> Result<Secret, TokenError> {
        Ok("stale".into())
    }

    async fn refresh(&self, _stale: &Secret) -> Result<Option<Secret>, TokenError> {
        Ok(Some("fresh".into()))
    }
}

#[tokio::test]
async fn the_token_is_refreshed_once() {
    let server = Server::start(|seen| match seen.header("authorization") {
        "Bearer fresh" => events("data: {\"tables\":[\"a\"]}\n\n", Then::Close),
        _ => Reply::error(401, "unauthorized"),
    })
    .await;
    let remote = HttpRemote::builder(server.url()).token_provider(Arc::new(Renews)).build().unwrap();
    let hints = tokio::spawn(remote.hints().collect::<Vec<_>>()).await.unwrap();
    assert_eq!((hints.len(), server.seen().len()), (2, 2));
}
