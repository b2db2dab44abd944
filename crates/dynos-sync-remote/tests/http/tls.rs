//! Whom the client trusts.

use std::sync::Arc;

use dynos_sync_core::{Remote, RemoteError};
use dynos_sync_remote::{BuildError, HttpRemote};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
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

    fn acceptor(&self, host: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
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
        let acceptor = self.acceptor(host);
        let (server, listener) = Server::bind(|_| Reply::tables()).await;
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
