//! How a remote is configured.

use std::{fmt, sync::Arc, time::Duration};

use super::HttpRemote;
use crate::{
    connection::{Connection, not_zero},
    error::BuildError,
};

/// Configures an [`HttpRemote`]; begin with [`HttpRemote::builder`]. Only a token is required.
#[derive(Clone)]
#[must_use = "a builder does nothing until build() is called"]
pub struct HttpRemoteBuilder {
    connection: Connection,
    hints_idle_timeout: Duration,
}

token_settings!(HttpRemoteBuilder);
connection_settings!(HttpRemoteBuilder);

impl HttpRemoteBuilder {
    pub(super) fn new(url: String) -> Self {
        Self { connection: Connection::new(url), hints_idle_timeout: Duration::from_secs(45) }
    }

    /// Longest silence in the stream of hints. Default: 45 s; servers send a sign of life every 15 s.
    pub fn hints_idle_timeout(mut self, timeout: Duration) -> Self {
        self.hints_idle_timeout = timeout;
        self
    }

    /// Whether requests above 1 KiB are compressed with zstd. Default: yes, until the server refuses one with
    /// status 415. Answers may be compressed in any case.
    pub fn compression(mut self, compression: bool) -> Self {
        self.connection.settings.compression = compression;
        self
    }

    /// Makes the remote. Nothing is sent yet.
    ///
    /// # Errors
    /// [`BuildError`], saying which setting is wrong and what to do.
    pub fn build(self) -> Result<HttpRemote, BuildError> {
        not_zero("hints_idle_timeout", self.hints_idle_timeout)?;
        let transport = Arc::new(self.connection.open()?);
        Ok(HttpRemote { transport, hints_idle_timeout: self.hints_idle_timeout })
    }
}

impl fmt::Debug for HttpRemoteBuilder {
    /// Without the URL, which was not checked for a password yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRemoteBuilder").finish_non_exhaustive()
    }
}
