//! How a backend is reached: what the builders of all backends have in common.

use std::{sync::Arc, time::Duration};

use reqwest::header::{HeaderMap, HeaderValue};

use crate::{
    error::BuildError,
    token::TokenProvider,
    transport::{Endpoint, Settings, Transport},
};

/// A server, who asks it, and how.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) url: String,
    pub(crate) provider: Option<Arc<dyn TokenProvider>>,
    pub(crate) allow_plain_http: bool,
    pub(crate) settings: Settings,
}

impl Connection {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            provider: None,
            allow_plain_http: false,
            settings: Settings {
                connect_timeout: Duration::from_secs(10),
                timeout: Duration::from_secs(60),
                idle_timeout: Duration::from_secs(20),
                max_response_bytes: 16 * 1024 * 1024,
                compression: true,
                headers: HeaderMap::new(),
                user_agent: concat!("dynos-sync/", env!("CARGO_PKG_VERSION")).to_owned(),
                root_certificate: None,
            },
        }
    }

    /// # Errors
    /// Which setting is wrong.
    pub(crate) fn open(self) -> Result<Transport, BuildError> {
        let endpoint = Endpoint::parse(&self.url, self.allow_plain_http)?;
        let provider = self.provider.ok_or(BuildError::NoToken)?;
        check(&self.settings)?;
        Transport::new(endpoint, provider, self.settings)
    }
}

/// # Errors
/// Where a call could not succeed in no time.
pub(crate) fn not_zero(setting: &'static str, timeout: Duration) -> Result<(), BuildError> {
    if timeout.is_zero() { fault(setting, "is zero: no call could ever succeed") } else { Ok(()) }
}

fn check(settings: &Settings) -> Result<(), BuildError> {
    not_zero("connect_timeout", settings.connect_timeout)?;
    not_zero("timeout", settings.timeout)?;
    not_zero("idle_timeout", settings.idle_timeout)?;
    if settings.max_response_bytes == 0 {
        return fault("max_response_bytes", "is zero: no answer could ever be read");
    }
    if HeaderValue::from_str(&settings.user_agent).is_err() {
        return fault("user_agent", "holds characters that no header can carry");
    }
    Ok(())
}

fn fault(setting: &'static str, problem: &str) -> Result<(), BuildError> {
    Err(BuildError::Setting { setting, problem: problem.to_owned() })
}

/// The settings of a builder that has a field `connection`.
macro_rules! connection_settings {
    ($builder:ty) => {
        impl $builder {
            /// Lets tokens travel unencrypted to another machine. Default: no, only to this one (`localhost`,
            /// 127.0.0.0/8, `::1`). Anybody on the way can read the token and everything else.
            pub fn allow_plain_http(mut self, allow: bool) -> Self {
                self.connection.allow_plain_http = allow;
                self
            }

            /// Longest wait for a connection, TLS included. Default: 10 s.
            pub fn connect_timeout(mut self, timeout: std::time::Duration) -> Self {
                self.connection.settings.connect_timeout = timeout;
                self
            }

            /// Longest time of a whole call: token, connection, redirects, repetition, answer. Default: 60 s. Too
            /// short, and large batches never get through on a slow network.
            pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
                self.connection.settings.timeout = timeout;
                self
            }

            /// Longest silence while an answer arrives. Default: 20 s.
            pub fn idle_timeout(mut self, timeout: std::time::Duration) -> Self {
                self.connection.settings.idle_timeout = timeout;
                self
            }

            /// Longest answer, in bytes after decompression. Default: 16 MiB. It bounds the memory of a call, and
            /// must have room for a page of changes.
            pub fn max_response_bytes(mut self, bytes: usize) -> Self {
                self.connection.settings.max_response_bytes = bytes;
                self
            }

            /// The `User-Agent` header. Default: `dynos-sync/` and the version.
            pub fn user_agent(mut self, name: impl Into<String>) -> Self {
                self.connection.settings.user_agent = name.into();
                self
            }

            /// Trusts certificates that descend from this root, in PEM (several may follow one another), and **no
            /// other**. Default: the roots of the platform.
            pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
                self.connection.settings.root_certificate = Some(pem.into());
                self
            }
        }
    };
}

/// Where the token of a builder that has a field `connection` comes from.
macro_rules! token_settings {
    ($builder:ty) => {
        impl $builder {
            /// A token that never changes. When it expires, calls fail with
            /// [`AuthExpired`](dynos_sync_core::RemoteError::AuthExpired).
            pub fn token(self, token: impl Into<crate::token::Secret>) -> Self {
                self.token_provider(std::sync::Arc::new(crate::token::StaticToken::new(token)))
            }

            /// Where the token comes from, and how it is renewed.
            pub fn token_provider(
                mut self,
                provider: std::sync::Arc<dyn crate::token::TokenProvider>,
            ) -> Self {
                self.connection.provider = Some(provider);
                self
            }
        }
    };
}
