use serde_json::json;

use super::{fake::FakeRealtime, *};

#[tokio::test]
async fn joins_one_channel_for_the_tables_as_the_user() {
    let (mut fake, url) = FakeRealtime::listen().await;
    let mut hints = hints(&over_network(&format!("{url}/base")), &["note", "Ünï \"q\""]);
    let server = async {
        let mut peer = fake.accept().await;
        (peer.receive().await.unwrap(), peer)
    };
    let ((join, peer), _) = tokio::join!(server, futures_util::future::poll_immediate(hints.next()));
    assert_eq!(peer.uri, "/base/realtime/v1/websocket?apikey=canary-key&vsn=1.0.0");
    assert_eq!(peer.user_agent, "dynos-sync/test");
    assert_eq!(
        join,
        json!({
            "topic": "realtime:dynos-sync", "event": "phx_join", "ref": "1", "join_ref": "1",
            "payload": {
                "access_token": TOKEN,
                "config": {
                    "broadcast": {"ack": false, "self": false},
                    "presence": {"enabled": false, "key": ""},
                    "private": false,
                    "postgres_changes": [
                        {"event": "*", "schema": "public", "table": "note"},
                        {"event": "*", "schema": "public", "table": "Ünï \"q\""},
                    ],
                },
            },
        })
    );
}

#[tokio::test]
async fn every_kind_of_change_hints_at_its_table() {
    let (mut fake, url) = FakeRealtime::listen().await;
    let mut hints = hints(&over_network(&url), &["note", "tag"]);
    let mut peer = joined(&mut fake, &mut hints).await;
    for kind in ["INSERT", "UPDATE", "DELETE"] {
        for table in ["note", "tag"] {
            peer.change(kind, "public", table).await;
            assert_eq!(next(&mut hints).await, [table]);
        }
    }
}

#[tokio::test]
async fn without_tables_the_whole_schema_is_listened_to() {
    let (mut fake, url) = FakeRealtime::listen().await;
    let mut hints = hints(&over_network(&url), &[]);
    let server = async {
        let mut peer = fake.accept().await;
        let join = peer.receive().await.unwrap();
        peer.reply(&join, "ok", json!({})).await;
        (join, peer)
    };
    let ((join, mut peer), first) = tokio::join!(server, next(&mut hints));
    assert_eq!(join["payload"]["config"]["postgres_changes"], json!([{"event": "*", "schema": "public"}]));
    assert_eq!(first, EVERYTHING);
    peer.change("INSERT", "public", "whatever").await;
    assert_eq!(next(&mut hints).await, EVERYTHING);
}

/// Between the reply to the join and the subscription, and while the server had lost its database, nothing is announced.
#[tokio::test]
async fn each_subscription_of_the_server_hints_at_everything() {
    let (mut fake, url) = FakeRealtime::listen().await;
    let mut hints = hints(&over_network(&url), &["note"]);
    let mut peer = joined(&mut fake, &mut hints).await;
    for _ in 0..2 {
        peer.system("postgres_changes", "ok", "Subscribed to PostgreSQL").await;
        assert_eq!(next(&mut hints).await, EVERYTHING);
    }
}

#[tokio::test]
async fn what_is_unknown_or_somebody_elses_is_passed_over() {
    let (mut fake, url) = FakeRealtime::listen().await;
    let mut hints = hints(&over_network(&url), &["note"]);
    let mut peer = joined(&mut fake, &mut hints).await;
    for text in ["", "null", "[]", "{", "{\"topic\":7}", "[\"1\",\"1\",\"realtime:dynos-sync\",\"x\",{}]"] {
        peer.send_text(text).await;
    }
    peer.send_text(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).await;
    peer.send_binary(vec![0xff; 1000]).await;
    peer.send("presence_state", json!({})).await;
    peer.send("from_the_future", json!({"data": {"schema": "public", "table": "note"}})).await;
    peer.send("postgres_changes", json!({"data": {"table": "note"}})).await;
    peer.system("system", "ok", "hello").await;
    peer.reply(&json!({"topic": "realtime:dynos-sync", "ref": "1"}), "error", json!({})).await;
    peer.reply(&json!({"topic": "phoenix", "ref": "99"}), "ok", json!({})).await;
    peer.change("INSERT", "private", "note").await;
    peer.change("INSERT", "public", "other").await;
    let elsewhere = json!({"schema": "public", "table": "note"});
    let message = json!({"topic": "realtime:other", "event": "postgres_changes", "payload": {"data": elsewhere}, "ref": null});
    peer.send_text(message.to_string()).await;
    peer.change("INSERT", "public", "note").await;
    assert_eq!(next(&mut hints).await, ["note"], "the first hint is the last message's");
}

#[tokio::test]
async fn dropping_the_hints_ends_the_connection() {
    let (mut fake, url) = FakeRealtime::listen().await;
    let mut hints = hints(&over_network(&url), &["note"]);
    let mut peer = joined(&mut fake, &mut hints).await;
    drop(hints);
    assert_eq!(peer.receive().await, None);
}
