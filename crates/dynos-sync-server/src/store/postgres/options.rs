//! How the database is reached.

use std::{path::PathBuf, time::Duration};

/// How a [`PostgresStore`](super::PostgresStore) reaches its database. Start from [`PostgresOptions::new`] and change
/// what differs.
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database`. Unless it names another `sslmode`, the connection is encrypted
    /// and the server's certificate verified, but for this machine's own servers.
    pub url: String,
    /// The database role whose rights requests have: its privileges and row-level security decide what they may do.
    /// The connection's own role must be a member of it. Default: none, requests have the connection's own rights,
    /// and users are kept apart by the tables' owner columns alone.
    pub role: Option<String>,
    /// The only certificate authority that is trusted, in PEM. Default: those of the system.
    pub root_certificate: Option<PathBuf>,
    /// The most connections; one more listens for changes. Default: 16. The database's own limit is shared by all
    /// servers: their sum must stay below it.
    pub connections: usize,
    /// How long a request waits for a connection. Default: 5 s. Then it is answered 503.
    pub wait_time: Duration,
    /// How long making a connection may take. Default: 5 s.
    pub connect_time: Duration,
    /// How long a statement may take in the database. Default: 20 s; less than the server's
    /// [`request_time`](crate::config::Limits::request_time), so that it is the database that gives up.
    pub statement_time: Duration,
}

impl PostgresOptions {
    /// The defaults, for a database.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            role: None,
            root_certificate: None,
            connections: 16,
            wait_time: Duration::from_secs(5),
            connect_time: Duration::from_secs(5),
            statement_time: Duration::from_secs(20),
        }
    }
}

impl std::fmt::Debug for PostgresOptions {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("role", &self.role)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
