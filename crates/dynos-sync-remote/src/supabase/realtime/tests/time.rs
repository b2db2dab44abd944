//! What happens when. The clock is paused: it moves on when everybody waits.

use serde_json::json;
use tokio::time::{Duration, Instant};

use super::{fake::FakeRealtime, *};

fn seconds(from: Instant) -> f64 {
    from.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_every_25_seconds_keeps_the_connection() {
    let (mut fake, pipe) = FakeRealtime::in_memory();
    let mut hints = hints(&in_memory(pipe, &Tokens::new(TOKEN)), &["note"]);
    let mut peer = joined(&mut fake, &mut hints).await;
    let begin = Instant::now();
    for beat in 1..=100_u32 {
        let message = peer.receive().await.unwrap();
        let reference = (beat + 1).to_string();
        let expected = json!({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": reference, "join_ref": null});
        assert_eq!(message, expected);
        assert_eq!(seconds(begin).round(), f64::from(beat * 25));
        peer.reply(&message, "ok", json!({})).await;
    }
    peer.change("UPDATE", "public", "note").await;
    assert_eq!(next(&mut hints).await, ["note"]);
}

#[tokio::test(start_paused = true)]
async fn a_missed_heartbeat_ends_the_connection_and_the_next_one_hints_at_everything() {
    let (mut fake, pipe) = FakeRealtime::in_memory();
    let mut hints = hints(&in_memory(pipe, &Tokens::new(TOKEN)), &["note"]);
    let mut peer = joined(&mut fake, &mut hints).await;
    let begin = Instant::now();
    assert_eq!(peer.receive().await.unwrap()["event"], "heartbeat");
    assert_eq!(peer.receive().await, None);
    assert_eq!(seconds(begin).round(), 50.0);
    let _peer = joined(&mut fake, &mut hints).await;
    assert!(seconds(begin) <= 52.1, "{}", seconds(begin));
}

#[tokio::test(start_paused = true)]
async fn a_join_without_a_reply_is_given_up_after_10_seconds() {
    let (mut fake, pipe) = FakeRealtime::in_memory();
    let mut hints = hints(&in_memory(pipe, &Tokens::new(TOKEN)), &["note"]);
    let server = async {
        let mut peer = fake.accept().await;
        let begin = Instant::now();
        assert_eq!(peer.receive().await.unwrap()["event"], "phx_join");
        assert_eq!(peer.receive().await, None);
        assert_eq!(seconds(begin).round(), 10.0);
        fake.accept_and_join().await
    };
    let (_peer, hint) = tokio::join!(server, next(&mut hints));
    assert_eq!(hint, EVERYTHING);
}

#[tokio::test(start_paused = true)]
async fn a_new_token_is_handed_over_with_the_next_heartbeat() {
    let (mut fake, pipe) = FakeRealtime::in_memory();
    let tokens = Tokens::new(TOKEN);
    let mut hints = hints(&in_memory(pipe, &tokens), &["note"]);
    let mut peer = joined(&mut fake, &mut hints).await;
    tokens.set("canary-token-2");
    let heartbeat = peer.receive().await.unwrap();
    peer.reply(&heartbeat, "ok", json!({})).await;
    let expected = json!({
        "topic": "realtime:dynos-sync", "event": "access_token", "payload": {"access_token": "canary-token-2"},
        "ref": "3", "join_ref": "1",
    });
    assert_eq!(peer.receive().await.unwrap(), expected);
    assert_eq!(peer.receive().await.unwrap()["event"], "heartbeat", "once is enough");
}

#[tokio::test(start_paused = true)]
async fn a_refused_join_is_repeated_after_growing_pauses_and_hints_once_a_token() {
    let (mut fake, pipe) = FakeRealtime::in_memory();
    let tokens = Tokens::new(TOKEN);
    let mut hints = hints(&in_memory(pipe, &tokens), &["note"]);
    let server = async {
        let mut attempts = vec![];
        for attempt in 0..12 {
            if attempt == 6 {
                tokens.set("canary-token-2");
            }
            let mut peer = fake.accept().await;
            attempts.push(Instant::now());
            let join = peer.receive().await.unwrap();
            peer.reply(&join, "error", json!({"reason": "InvalidJWTToken: Token has expired"})).await;
            assert_eq!(peer.receive().await, None);
        }
        attempts
    };
    let mut hinted = 0;
    let attempts = tokio::select! {
        attempts = server => attempts,
        () = async { loop { assert_eq!(next(&mut hints).await, EVERYTHING); hinted += 1; } } => unreachable!(),
    };
    assert_eq!(hinted, 2, "once for each of two tokens");
    for (failures, pair) in attempts.windows(2).enumerate() {
        let step = f64::from(2_u32.pow(failures as u32 + 1)).min(60.0);
        let pause = (pair[1] - pair[0]).as_secs_f64();
        assert!(
            step / 2.0 - 0.01 <= pause && pause <= step + 0.01,
            "{pause} after {} failures",
            failures + 1
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_hint_however_slow_the_listener() {
    let (mut fake, pipe) = FakeRealtime::in_memory();
    let mut hints = hints(&in_memory(pipe, &Tokens::new(TOKEN)), &["note", "tag", "other"]);
    let mut peer = joined(&mut fake, &mut hints).await;
    for _ in 0..500 {
        peer.change("INSERT", "public", "tag").await;
        peer.change("INSERT", "public", "note").await;
    }
    assert_eq!(next(&mut hints).await, ["note", "tag"]);
    let begin = Instant::now();
    peer.change("INSERT", "public", "other").await;
    assert_eq!(next(&mut hints).await, ["other"], "nothing was left of the burst");
    assert!(begin.elapsed() <= Duration::from_millis(150), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_connection_is_kept_and_hints_add_up_while_nobody_listens() {
    let (mut fake, pipe) = FakeRealtime::in_memory();
    let mut hints = hints(&in_memory(pipe, &Tokens::new(TOKEN)), &["note", "tag", "other"]);
    let mut peer = joined(&mut fake, &mut hints).await;
    for table in ["note", "tag", "other", "tag", "other"] {
        let heartbeat = peer.receive().await.expect("a heartbeat");
        peer.reply(&heartbeat, "ok", json!({})).await;
        peer.change("INSERT", "public", table).await;
    }
    peer.receive().await.expect("a heartbeat");
    assert_eq!(next(&mut hints).await, ["note"]);
    assert_eq!(next(&mut hints).await, ["other", "tag"]);
}
