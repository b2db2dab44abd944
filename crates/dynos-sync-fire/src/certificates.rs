//! Certificates: one that is good, and those that nobody must believe.

use std::{fs, io, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

/// What is wrong with the bad ones.
pub(crate) const BAD: [&str; 4] = ["self-signed", "expired", "stranger's", "wrong name's"];

/// The authority that the devices trust.
pub(crate) const AUTHORITY: &str = "authority.pem";

/// Writes all of them to a directory.
pub(crate) fn make(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (trusted, stranger) = (authority()?, authority()?);
    fs::write(dir.join(AUTHORITY), trusted.pem())?;
    write(dir, "good", "127.0.0.1", 2100, Some(&trusted))?;
    write(dir, BAD[0], "127.0.0.1", 2100, None)?;
    write(dir, BAD[1], "127.0.0.1", 2020, Some(&trusted))?;
    write(dir, BAD[2], "127.0.0.1", 2100, Some(&stranger))?;
    write(dir, BAD[3], "example.org", 2100, Some(&trusted))
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn write(
    dir: &Path,
    name: &str,
    host: &str,
    until: i32,
    issuer: Option<&Authority>,
) -> Result<(), Box<dyn std::error::Error>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer)?,
        None => params.self_signed(&key)?,
    };
    fs::write(dir.join(format!("{name}.pem")), certificate.pem() + &key.serialize_pem())?;
    Ok(())
}

/// Accepts with the good one.
pub(crate) fn good(dir: &Path) -> io::Result<TlsAcceptor> {
    acceptor(dir, "good")
}

/// Accepts with the bad ones, in the order of their names.
pub(crate) fn bad(dir: &Path) -> io::Result<Vec<TlsAcceptor>> {
    BAD.iter().map(|name| acceptor(dir, name)).collect()
}

fn acceptor(dir: &Path, name: &str) -> io::Result<TlsAcceptor> {
    let pem = fs::read(dir.join(format!("{name}.pem")))?;
    let certificate = CertificateDer::from_pem_slice(&pem).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(io::Error::other)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = builder
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
