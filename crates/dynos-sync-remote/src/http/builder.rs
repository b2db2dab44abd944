//! How a remote is configured.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::header::HeaderValue;

use super::HttpRemote;
use crate::{
    error::BuildError,
    token::{Secret, StaticToken, TokenProvider},
    transport::{Endpoint, Settings, Transport},
};

/// Configures an [`HttpRemote`]; begin with [`HttpRemote::builder`]. Only a token is required.
#[derive(Clone)]
#[must_use = "a builder does nothing until build() is called"]
pub struct HttpRemoteBuilder {
    url: String,
    provider: Option<Arc<dyn TokenProvider>>,
    allow_plain_http: bool,
    hints_idle_timeout: Duration,
    settings: Settings,
}

impl HttpRemoteBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            provider: None,
            allow_plain_http: false,
            hints_idle_timeout: Duration::from_secs(45),
            settings: Settings {
                connect_timeout: Duration::from_secs(10),
                timeout: Duration::from_secs(60),
                idle_timeout: Duration::from_secs(20),
                max_response_bytes: 16 * 1024 * 1024,
                compression: true,
                user_agent: concat!("dynos-sync/", env!("CARGO_PKG_VERSION")).to_owned(),
                root_certificate: None,
            },
        }
    }

    /// A token that never changes. When it expires, calls fail with
    /// [`AuthExpired`](dynos_sync_core::RemoteError::AuthExpired).
    pub fn token(self, token: impl Into<Secret>) -> Self {
        self.token_provider(Arc::new(StaticToken::new(token)))
    }

    /// Where the token comes from, and how it is renewed.
    pub fn token_provider(mut self, provider: Arc<dyn TokenProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Lets the token travel unencrypted to another machine. Default: no, only to this one (`localhost`,
    /// 127.0.0.0/8, `::1`). Anybody on the way can read the token and everything else.
    pub fn allow_plain_http(mut self, allow: bool) -> Self {
        self.allow_plain_http = allow;
        self
    }

    /// Longest wait for a connection, TLS included. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// Longest time of a whole call: token, connection, redirects, repetition, answer. Default: 60 s. Too short, and
    /// large batches never get through on a slow network.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Longest silence while an answer arrives. Default: 20 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// Longest silence in the stream of hints. Default: 45 s; servers send a sign of life every 15 s.
    pub fn hints_idle_timeout(mut self, timeout: Duration) -> Self {
        self.hints_idle_timeout = timeout;
        self
    }

    /// Longest answer, in bytes after decompression. Default: 16 MiB. It bounds the memory of a call, and must
    /// have room for a page of changes.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_response_bytes = bytes;
        self
    }

    /// Whether requests above 1 KiB are compressed with zstd. Default: yes, until the server refuses one with
    /// status 415. Answers may be compressed in any case.
    pub fn compression(mut self, compression: bool) -> Self {
        self.settings.compression = compression;
        self
    }

    /// The `User-Agent` header. Default: `dynos-sync/` and the version.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.settings.user_agent = name.into();
        self
    }

    /// Trusts certificates that descend from this root, in PEM (several may follow one another), and **no other**.
    /// Default: the roots of the platform.
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.settings.root_certificate = Some(pem.into());
        self
    }

    /// Makes the remote. Nothing is sent yet.
    ///
    /// # Errors
    /// [`BuildError`], saying which setting is wrong and what to do.
    pub fn build(self) -> Result<HttpRemote, BuildError> {
        let endpoint = Endpoint::parse(&self.url, self.allow_plain_http)?;
        let provider = self.provider.ok_or(BuildError::NoToken)?;
        check(&self.settings, self.hints_idle_timeout)?;
        let transport = Transport::new(endpoint, provider, self.settings)?;
        Ok(HttpRemote { transport: Arc::new(transport), hints_idle_timeout: self.hints_idle_timeout })
    }
}

impl fmt::Debug for HttpRemoteBuilder {
    /// Without the URL, which was not checked for a password yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRemoteBuilder").finish_non_exhaustive()
    }
}

fn check(settings: &Settings, hints_idle_timeout: Duration) -> Result<(), BuildError> {
    let fault = |setting, problem: &str| Err(BuildError::Setting { setting, problem: problem.to_owned() });
    for (setting, timeout) in [
        ("connect_timeout", settings.connect_timeout),
        ("timeout", settings.timeout),
        ("idle_timeout", settings.idle_timeout),
        ("hints_idle_timeout", hints_idle_timeout),
    ] {
        if timeout.is_zero() {
            return fault(setting, "is zero: no call could ever succeed");
        }
    }
    if settings.max_response_bytes == 0 {
        return fault("max_response_bytes", "is zero: no answer could ever be read");
    }
    if HeaderValue::from_str(&settings.user_agent).is_err() {
        return fault("user_agent", "holds characters that no header can carry");
    }
    Ok(())
}
