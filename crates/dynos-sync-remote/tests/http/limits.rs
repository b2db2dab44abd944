//! Time and memory are bounded, whatever the server does.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use dynos_sync_core::{Remote, RemoteError};
use dynos_sync_remote::HttpRemote;
use flate2::{Compression, write::GzEncoder};

use crate::server::{Reply, Server, Then};

const MIB: usize = 1024 * 1024;
const JSON: &str = "content-type: application/json\r\n";

async fn over_limit(reply: Reply) -> Server {
    let server = Server::always(reply).await;
    match server.builder().max_response_bytes(MIB).build().unwrap().tables().await.unwrap_err() {
        RemoteError::Protocol(problem) => {
            assert!(problem.contains("1048576") && problem.contains("max_response_bytes"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
    server.closed().await;
    server
}

#[tokio::test]
async fn an_endless_body_is_left_early() {
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let head = format!("HTTP/1.1 200 X\r\n{JSON}transfer-encoding: chunked\r\n\r\n");
    let server = over_limit(Reply::raw(head, Then::Repeat(chunk, Duration::ZERO))).await;
    // What the kernel buffers on both sides comes on top of the limit.
    assert!(server.written() < 20 * MIB, "{} bytes were taken", server.written());
}

#[tokio::test]
async fn a_body_that_announces_its_size_is_not_waited_for() {
    let head = format!("HTTP/1.1 200 X\r\n{JSON}content-length: 1073741824\r\n\r\n");
    over_limit(Reply::raw(head, Then::Silence)).await;
}

#[tokio::test]
async fn bombs_do_not_go_off() {
    let zeros = vec![b' '; 64 * MIB];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&zeros).unwrap();
    over_limit(Reply::new(200, &format!("{JSON}content-encoding: gzip\r\n"), gzip.finish().unwrap())).await;
    let zstd = zstd::bulk::compress(&zeros, 1).unwrap();
    over_limit(Reply::new(200, &format!("{JSON}content-encoding: zstd\r\n"), zstd)).await;
}

#[tokio::test]
async fn compressed_answers_are_read() {
    let body = br#"{"tables":[]}"#;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(body).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::bulk::compress(body, 1).unwrap();
    for (encoding, body) in [("gzip", gzip), ("zstd", zstd), ("identity", body.to_vec())] {
        let server =
            Server::always(Reply::new(200, &format!("{JSON}content-encoding: {encoding}\r\n"), body)).await;
        assert_eq!(server.remote().tables().await.unwrap(), [], "{encoding}");
        assert_eq!(server.seen()[0].header("accept-encoding"), "gzip, zstd");
    }
}

#[tokio::test]
async fn corrupt_compression_is_against_the_protocol_and_cut_off_is_transient() {
    let head = format!("{JSON}content-encoding: gzip\r\n");
    let error = Server::always(Reply::new(200, &head, "no gzip")).await.remote().tables().await.unwrap_err();
    assert!(matches!(error, RemoteError::Protocol(_)), "{error:?}");
    let cut = format!("HTTP/1.1 200 X\r\n{head}content-length: 99\r\n\r\n");
    let reply = Reply::raw([cut.as_bytes(), b"\x1f\x8b\x08\0\0\0\0\0\0\x03"].concat(), Then::Close);
    let error = Server::always(reply).await.remote().tables().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

async fn times_out(reply: Reply, timeout: u64, idle: u64) {
    let server = Server::always(reply).await;
    let builder =
        server.builder().timeout(Duration::from_millis(timeout)).idle_timeout(Duration::from_millis(idle));
    let begun = Instant::now();
    let error = builder.build().unwrap().tables().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{error}");
    server.closed().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_or_stops_or_drips_is_given_up() {
    let head = format!("HTTP/1.1 200 X\r\n{JSON}content-length: 999\r\n\r\n");
    times_out(Reply::raw("", Then::Silence), 120, 60_000).await;
    times_out(Reply::raw(&head, Then::Silence), 60_000, 120).await;
    times_out(Reply::raw(&head, Then::Repeat(b" ".to_vec(), Duration::from_millis(20))), 150, 60_000).await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let silent = Server::bind(|_| Reply::tables()).await;
    let remote = HttpRemote::builder(format!("https://127.0.0.1:{}", silent.0.port()))
        .root_certificate(crate::tls::Authority::new().pem)
        .token("t")
        .connect_timeout(Duration::from_millis(120))
        .build()
        .unwrap();
    let begun = Instant::now();
    let error = remote.tables().await.unwrap_err();
    assert!(error.is_transient() && begun.elapsed() < Duration::from_secs(5), "{error:?}");
}
