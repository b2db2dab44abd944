//! Whom TLS trusts.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::error::BuildError;

/// A configuration that trusts `root` alone, or the platform's roots where it is absent.
///
/// The cryptography is named, never the process's default: a library neither installs one nor fails because
/// the application did, or did not.
pub(crate) fn config(needed: bool, root: Option<&[u8]>) -> Result<ClientConfig, BuildError> {
    let client = |error: rustls::Error| BuildError::Client { problem: error.to_string() };
    let builder =
        ClientConfig::builder_with_provider(Arc::new(CryptoProvider { ..ring::default_provider() }))
            .with_safe_default_protocol_versions()
            .map_err(client)?;
    let mut config = match root {
        Some(pem) => builder.with_root_certificates(pinned(pem)?).with_no_client_auth(),
        // Plain HTTP to this machine must work on a system that has no root certificates.
        None if !needed => builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
        None => builder.with_platform_verifier().map_err(client)?.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn pinned(pem: &[u8]) -> Result<RootCertStore, BuildError> {
    let fault = |problem: String| BuildError::Certificate { problem };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| fault(format!("is not PEM: {error}")))?;
        store.add(certificate).map_err(|error| fault(format!("cannot be used: {error}")))?;
    }
    if store.is_empty() {
        return Err(fault("is missing: the PEM text holds no certificate".to_owned()));
    }
    Ok(store)
}
