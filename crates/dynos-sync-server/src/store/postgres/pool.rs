//! Connections: encrypted where they leave the machine, limited in number, and never waited for without end.

use std::{fs, path::Path, sync::Arc, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Pool as Connections, RecyclingMethod, Runtime, Timeouts};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::{
    Config, Row,
    config::{Host, SslMode},
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{ConnectError, PostgresOptions};
use crate::store::StoreError;

/// The connections that requests share.
#[derive(Debug)]
pub(super) struct Pool {
    connections: Connections,
    direct: Direct,
}

/// How a connection of one's own is made.
#[derive(Clone)]
pub(super) struct Direct {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direct(…)")
    }
}

impl Pool {
    pub(super) fn new(options: &PostgresOptions) -> Result<Self, ConnectError> {
        let direct = Direct { config: config(options)?, tls: tls(options.root_certificate.as_deref())? };
        let manager = Manager::from_config(
            direct.config.clone(),
            direct.tls.clone(),
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let connections = Connections::builder(manager)
            .max_size(options.connections.max(1))
            .timeouts(Timeouts {
                wait: Some(options.wait_time),
                create: Some(options.connect_time + Duration::from_secs(1)),
                recycle: Some(options.connect_time),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| ConnectError::Options("connections cannot be pooled".to_owned()))?;
        Ok(Self { connections, direct })
    }

    pub(super) fn direct(&self) -> Direct {
        self.direct.clone()
    }

    pub(super) async fn get(&self) -> Result<deadpool_postgres::Object, StoreError> {
        self.connections.get().await.map_err(|error| {
            tracing::warn!(error = %super::error::describe(&error), "there is no connection to the database");
            StoreError::Unavailable
        })
    }

    /// The one row of a statement, which is prepared once a connection.
    pub(super) async fn one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, StoreError> {
        let client = self.get().await?;
        let statement = client.prepare_cached(sql).await?;
        Ok(client.query_one(&statement, params).await?)
    }

    pub(super) fn close(&self) {
        self.connections.close();
    }
}

fn config(options: &PostgresOptions) -> Result<Config, ConnectError> {
    // What the parser says of a fault may quote the URL, and with it the password.
    let mut config: Config = options.url.parse().map_err(|_| {
        ConnectError::Options(
            "the database's URL is not of the form postgres://user:password@host/database".to_owned(),
        )
    })?;
    let local = config.get_hosts().iter().all(is_local);
    if !options.url.contains("sslmode=") {
        config.ssl_mode(if local { SslMode::Disable } else { SslMode::Require });
    }
    let settings = format!(
        "-c statement_timeout={} -c idle_in_transaction_session_timeout=60000 -c client_min_messages=warning",
        options.statement_time.as_millis()
    );
    let settings = config.get_options().map_or(settings.clone(), |given| format!("{settings} {given}"));
    config
        .options(settings)
        .application_name("dynos-sync")
        .connect_timeout(options.connect_time)
        .keepalives_idle(Duration::from_secs(30))
        .tcp_user_timeout(options.statement_time + Duration::from_secs(10));
    Ok(config)
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// Certificates are always verified where a connection is encrypted.
fn tls(root: Option<&Path>) -> Result<MakeRustlsConnect, ConnectError> {
    let fault = |problem: String| ConnectError::Certificate(problem);
    let builder =
        ClientConfig::builder_with_provider(Arc::new(CryptoProvider { ..ring::default_provider() }))
            .with_safe_default_protocol_versions()
            .map_err(|error| fault(error.to_string()))?;
    let config = match root {
        None => builder.with_platform_verifier().map_or_else(
            // A system without roots can still reach a database on this machine.
            |_| {
                ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                    .with_safe_default_protocol_versions()
                    .map(|builder| {
                        builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
                    })
            },
            |builder| Ok(builder.with_no_client_auth()),
        ),
        Some(path) => Ok(builder.with_root_certificates(pinned(path)?).with_no_client_auth()),
    };
    Ok(MakeRustlsConnect::new(config.map_err(|error| fault(error.to_string()))?))
}

fn pinned(path: &Path) -> Result<RootCertStore, ConnectError> {
    let fault = |problem: &dyn std::fmt::Display| {
        ConnectError::Certificate(format!("{} cannot be used: {problem}", path.display()))
    };
    let pem = fs::read(path).map_err(|error| fault(&error))?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        store.add(certificate.map_err(|error| fault(&error))?).map_err(|error| fault(&error))?;
    }
    if store.is_empty() { Err(fault(&"it holds no certificate")) } else { Ok(store) }
}
