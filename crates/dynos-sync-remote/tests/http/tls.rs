//! Whom the client trusts.

use std::sync::Arc;

use dynos_sync_core::{Remote, RemoteError};
use dynos_sync_remote::{BuildError, HttpRemote};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::server::{Reply, Server};

/// Signs certificates that no platform knows.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn acceptor(&self, host: &str, until: i32) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        Arc::new(config).into()
    }

    /// A server with a certificate for `host`.
    async fn server(&self, host: &str) -> Server {
        self.serving(host, 4096, Reply::tables()).await
    }

    async fn serving(&self, host: &str, until: i32, reply: Reply) -> Server {
        let acceptor = self.acceptor(host, until);
        let (server, listener) = Server::bind(move |_| reply.clone()).await;
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if let Ok(socket) = acceptor.accept(socket).await {
                    tokio::spawn(serving.clone().serve(socket));
                }
            }
        });
        server
    }
}

async fn asked(host: &str, server: &Server, root: Option<&str>) -> Result<(), RemoteError> {
    let builder = HttpRemote::builder(format!("https://{host}:{}", server.port())).token("t");
    let builder = match root {
        None => builder,
        Some(pem) => builder.root_certificate(pem),
    };
    builder.build().unwrap().tables().await.map(drop)
}

#[tokio::test]
async fn only_the_given_root_is_trusted_and_only_for_the_right_host() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = ours.server("localhost").await;
    asked("localhost", &server, Some(&ours.pem)).await.unwrap();
    asked("localhost", &server, Some(&format!("{}{}", theirs.pem, ours.pem))).await.unwrap();
    assert_eq!(server.seen().len(), 2);

    let wrong_host = asked("127.0.0.1", &server, Some(&ours.pem)).await.unwrap_err();
    let wrong_root = asked("localhost", &server, Some(&theirs.pem)).await.unwrap_err();
    for error in [wrong_host, wrong_root] {
        assert!(error.is_transient() && error.to_string().contains("certificate"), "{error}");
    }
    assert_eq!(server.seen().len(), 2, "no request got through");
}

#[tokio::test]
async fn the_platform_does_not_trust_a_stranger() {
    let server = Authority::new().server("localhost").await;
    let builder = HttpRemote::builder(format!("https://localhost:{}", server.port())).token("t");
    // A system without any root certificate cannot build the client at all.
    match builder.build() {
        Ok(remote) => assert!(remote.tables().await.unwrap_err().is_transient()),
        Err(error) => assert!(matches!(error, BuildError::Client { .. }), "{error}"),
    }
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn a_root_that_is_none_is_refused() {
    for pem in [
        "",
        "canary",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!",
    ] {
        let refused =
            HttpRemote::builder("https://localhost").token("t").root_certificate(pem).build().unwrap_err();
        assert!(matches!(refused, BuildError::Certificate { .. }), "{pem}: {refused}");
    }
}

#[tokio::test]
async fn the_applications_choice_of_cryptography_does_not_matter() {
    ring::default_provider().install_default().unwrap();
    let authority = Authority::new();
    let server = authority.server("localhost").await;
    asked("localhost", &server, Some(&authority.pem)).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused_before_anything_is_sent() {
    let authority = Authority::new();
    let server = authority.serving("localhost", 2020, Reply::tables()).await;
    let error = asked("localhost", &server, Some(&authority.pem)).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("certificate"), "{error}");
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn a_redirect_leads_to_nobody_whom_the_root_does_not_name() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let other = theirs.server("localhost").await;
    let elsewhere = format!("location: https://localhost:{}/v1/tables\r\n", other.port());
    let server = ours.serving("localhost", 4096, Reply::new(307, &elsewhere, "")).await;
    let error = asked("localhost", &server, Some(&ours.pem)).await.unwrap_err();
    assert!(matches!(&error, RemoteError::Refused { code, .. } if code == "redirect"), "{error:?}");
    assert_eq!((server.seen().len(), other.seen().len()), (1, 0));
}

/// A server that speaks TLS 1.1 and nothing newer: what it was sent, and what it got after its hello.
async fn old_server(listener: TcpListener) -> (Vec<u8>, Vec<u8>) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut hello = vec![0; 5];
    socket.read_exact(&mut hello).await.unwrap();
    let mut body = vec![0; usize::from(u16::from_be_bytes([hello[3], hello[4]]))];
    socket.read_exact(&mut body).await.unwrap();
    // Record of a handshake, ServerHello, version 1.1; random, no session, ECDHE-RSA with AES-128-CBC, no compression.
    let random = [7; 32];
    let parts: [&[u8]; 3] = [&[0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2], &random, &[0, 0xc0, 0x13, 0]];
    socket.write_all(&parts.concat()).await.unwrap();
    let mut answer = Vec::new();
    // It may be reset as well as closed.
    let _ = socket.read_to_end(&mut answer).await;
    (body, answer)
}

#[tokio::test]
async fn tls_before_1_2_is_not_spoken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let serving = tokio::spawn(old_server(listener));
    let remote =
        HttpRemote::builder(url).token("t0ken").root_certificate(Authority::new().pem).build().unwrap();
    let error = remote.tables().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let (hello, answer) = serving.await.unwrap();
    // Extension supported_versions: TLS 1.3 and 1.2.
    assert!(hello.windows(9).any(|part| part == [0, 43, 0, 5, 4, 3, 4, 3, 3]), "{hello:02x?}");
    // An alert (0x15), and no byte of a request.
    assert!(answer.first() == Some(&0x15) && answer.len() < 20, "{answer:02x?}");
}
