use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{
    fake::{FakeRealtime, Peer},
    *,
};
use crate::supabase::realtime::connection::MAX_MESSAGE_BYTES;

/// Goes through a connection for each kind of end, and expects another one that hints at everything.
#[tokio::test]
async fn after_every_kind_of_end_the_next_connection_hints_at_everything() {
    let (mut fake, url) = FakeRealtime::listen().await;
    let mut hints = hints(&over_network(&url), &["note"]);
    let mut peer = joined(&mut fake, &mut hints).await;
    for end in 0..5 {
        match end {
            0 => drop(peer),
            1 => peer.send("phx_close", json!({})).await,
            2 => peer.send("phx_error", json!({})).await,
            3 => peer.system("system", "error", "Token has expired").await,
            _ => peer.system("postgres_changes", "error", "Unable to subscribe").await,
        }
        peer = fake.accept_and_join().await;
        // A refusal of a token that was not refused before hints too, in front of the connection.
        peer.change("INSERT", "public", "note").await;
        let mut seen = vec![next(&mut hints).await];
        while seen.last().is_some_and(Vec::is_empty) {
            seen.push(next(&mut hints).await);
        }
        assert!(seen.len() >= 2, "{end}: {seen:?}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_before_it_is_read() {
    let (mut fake, url) = FakeRealtime::listen().await;
    let mut hints = hints(&over_network(&url), &["note"]);
    let mut peer = joined(&mut fake, &mut hints).await;
    // The head of a text frame of 2^62 bytes, and nothing more.
    peer.send_raw(&[0x81, 127, 0x40, 0, 0, 0, 0, 0, 0, 0]).await;
    assert_eq!(peer.receive().await, None);
    drop(peer);

    let mut peer = joined(&mut fake, &mut hints).await;
    // Pieces that are allowed alone: a text that goes on, and its continuations.
    let piece = vec![b' '; MAX_MESSAGE_BYTES / 2];
    for first in [true, false, false] {
        let mut frame = vec![if first { 0x01 } else { 0x00 }, 127];
        frame.extend((piece.len() as u64).to_be_bytes());
        frame.extend(&piece);
        peer.send_raw(&frame).await;
    }
    assert_eq!(peer.receive().await, None);
    drop(peer);

    let mut peer = joined(&mut fake, &mut hints).await;
    let data =
        json!({"schema": "public", "table": "note", "record": {"title": "x".repeat(MAX_MESSAGE_BYTES / 2)}});
    peer.send("postgres_changes", json!({"data": data})).await;
    assert_eq!(next(&mut hints).await, ["note"], "what Supabase may send is read");
}

#[tokio::test]
async fn a_handshake_that_is_refused_is_tried_again() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut hints = hints(&over_network(&url), &["note"]);
    let server = async {
        for answer in [
            "HTTP/1.1 403 Forbidden\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "nonsense\r\n\r\n",
            "",
        ] {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut request = vec![];
            while !request.ends_with(b"\r\n\r\n") {
                assert_ne!(tcp.read_buf(&mut request).await.unwrap(), 0);
            }
            tcp.write_all(answer.as_bytes()).await.unwrap();
        }
        FakeRealtime::Network(listener).accept_and_join().await
    };
    let (_peer, hint) = tokio::join!(server, next(&mut hints));
    assert_eq!(hint, EVERYTHING);
}

fn tls() -> (TlsAcceptor, Vec<u8>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem().into_bytes())
}

#[tokio::test]
async fn tls_is_spoken_with_whom_the_root_certificate_names_and_nobody_else() {
    let (acceptor, root) = tls();
    let (stranger, _) = tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let timing = Timing { longest_pause: Duration::from_millis(5), ..Timing::default() };
    let settings =
        RealtimeSettings { root_certificate: Some(root), ..settings(&url, &Tokens::new(TOKEN), timing) };
    let mut hints = hints(&Realtime::new(settings).unwrap(), &["note"]);
    let server = async {
        let (tcp, _) = listener.accept().await.unwrap();
        assert!(stranger.accept(tcp).await.is_err());
        let (tcp, _) = listener.accept().await.unwrap();
        let mut peer = Peer::shake_hands(Box::new(acceptor.accept(tcp).await.unwrap())).await;
        let join = peer.receive().await.unwrap();
        peer.reply(&join, "ok", json!({})).await;
        peer
    };
    let (_peer, hint) = tokio::join!(server, next(&mut hints));
    assert_eq!(hint, EVERYTHING);
}
