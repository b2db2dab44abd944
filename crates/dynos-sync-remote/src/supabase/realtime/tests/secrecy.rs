use std::{io, sync::Mutex};

use serde_json::json;

use super::{fake::FakeRealtime, *};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_token_nor_key_nor_row_is_logged_whatever_the_server_repeats() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let (mut fake, url) = FakeRealtime::listen().await;
    let mut hints = hints(&over_network(&url), &["note"]);
    let echo = format!("bad {TOKEN}, {API_KEY}");
    let server = async {
        let mut peer = fake.accept().await;
        let join = peer.receive().await.unwrap();
        peer.reply(&join, "error", json!({"reason": echo})).await;
        let mut peer = fake.accept_and_join().await;
        peer.change("INSERT", "public", "note").await;
        peer.system("system", "error", &echo).await;
        fake.accept_and_join().await
    };
    let mut heard = vec![];
    let peer = tokio::select! {
        peer = server => peer,
        () = async { loop { heard.push(next(&mut hints).await); } } => unreachable!(),
    };
    drop(peer);
    fake.accept_and_join().await;

    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("no live hints") && logged.contains("bad [secret], [secret]"), "{logged}");
    assert!(!logged.contains("canary"), "{logged}");
}
