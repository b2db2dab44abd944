//! Authenticated, bounded HTTP to one origin. Knows nothing of the protocol's messages: adapters add those.

mod answer;
mod auth;
mod decode;
pub(crate) mod endpoint;
pub(crate) mod json;
mod network;
mod opened;
mod redirect;
mod request;
mod retry_after;
pub(crate) mod text;
pub(crate) mod tls;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use dynos_sync_core::RemoteError;
use reqwest::{Client, Response, StatusCode, Url, header::HeaderMap, redirect::Policy};

pub(crate) use self::{
    answer::Answer,
    endpoint::Endpoint,
    opened::Opened,
    request::{Accept, Request},
};
use crate::{
    error::BuildError,
    token::{Secret, TokenProvider},
};
use auth::Authenticator;

/// How long to wait and how much to take.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// For a connection, TLS handshake included.
    pub(crate) connect_timeout: Duration,
    /// For a whole call: token, redirects, retries, answer.
    pub(crate) timeout: Duration,
    /// For the next bytes of an answer.
    pub(crate) idle_timeout: Duration,
    /// The longest answer, decoded.
    pub(crate) max_response_bytes: usize,
    /// Whether requests may be compressed.
    pub(crate) compression: bool,
    /// What every request carries beside its own headers.
    pub(crate) headers: HeaderMap,
    /// The `User-Agent` header.
    pub(crate) user_agent: String,
    /// The only root that is trusted, in PEM; the platform's where it is absent.
    pub(crate) root_certificate: Option<Vec<u8>>,
}

/// A client of one origin.
pub(crate) struct Transport {
    client: Client,
    endpoint: Endpoint,
    auth: Authenticator,
    settings: Settings,
    /// Cleared for good when the server turns out not to take compressed requests.
    compresses: AtomicBool,
}

impl Transport {
    pub(crate) fn new(
        endpoint: Endpoint,
        provider: Arc<dyn TokenProvider>,
        settings: Settings,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            client: client(&endpoint, &settings)?,
            endpoint,
            auth: Authenticator::new(provider, settings.timeout),
            compresses: AtomicBool::new(settings.compression),
            settings,
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The longest answer that is read, decoded.
    pub(crate) fn max_response_bytes(&self) -> usize {
        self.settings.max_response_bytes
    }

    /// Whether requests are worth compressing.
    pub(crate) fn compresses(&self) -> bool {
        self.compresses.load(Ordering::Relaxed)
    }

    /// Sends a request and reads the whole answer, whatever its status (but no redirect).
    pub(crate) async fn call(&self, request: &Request) -> Result<Answer, RemoteError> {
        let (limit, idle) = (self.settings.max_response_bytes, self.settings.idle_timeout);
        let answer = self.in_time(async { self.open(request).await?.read(limit, idle).await }).await?;
        tracing::debug!(
            method = %request.method,
            path = %request.path,
            status = answer.status.as_u16(),
            bytes = answer.body.len(),
            "answered"
        );
        Ok(answer)
    }

    /// Sends a request and leaves the answer's body to be streamed.
    pub(crate) async fn stream(&self, request: &Request) -> Result<Opened, RemoteError> {
        self.in_time(self.open(request)).await
    }

    /// A 401 is answered with one refresh of the token and one repetition.
    async fn open(&self, request: &Request) -> Result<Opened, RemoteError> {
        let ticket = self.auth.token().await?;
        let response = self.send(request, &ticket.secret).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(Opened { response, token: ticket.secret });
        }
        match self.auth.refresh(&ticket).await? {
            None => Ok(Opened { response, token: ticket.secret }),
            Some(token) => Ok(Opened { response: self.send(request, &token).await?, token }),
        }
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
        let limit = self.settings.timeout;
        tokio::time::timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(RemoteError::transient(format!("no complete answer within {limit:?}"))))
    }

    /// Sends compressed where that is worth it, and plain to a server that does not take it.
    async fn send(&self, request: &Request, token: &Secret) -> Result<Response, RemoteError> {
        if !(request.is_compressed() && self.compresses()) {
            return self.follow(request, token, false).await;
        }
        let response = self.follow(request, token, true).await?;
        if response.status() != StatusCode::UNSUPPORTED_MEDIA_TYPE {
            return Ok(response);
        }
        self.compresses.store(false, Ordering::Relaxed);
        self.follow(request, token, false).await
    }

    async fn follow(&self, request: &Request, token: &Secret, packed: bool) -> Result<Response, RemoteError> {
        let mut url = self.endpoint.at(&request.path, &request.query);
        for _ in 0..=redirect::MAX {
            let response = self.once(request, url.clone(), token, packed).await?;
            match redirect::target(&url, &response)? {
                None => return Ok(response),
                Some(next) => url = next,
            }
        }
        Err(redirect::too_many())
    }

    async fn once(
        &self,
        request: &Request,
        url: Url,
        token: &Secret,
        packed: bool,
    ) -> Result<Response, RemoteError> {
        let builder =
            self.client.request(request.method.clone(), url).headers(request.headers(token, packed)?);
        let builder = match request.body(packed) {
            None => builder,
            Some(body) => builder.body(body),
        };
        builder.send().await.map_err(|error| network::failure(error, token))
    }
}

fn client(endpoint: &Endpoint, settings: &Settings) -> Result<Client, BuildError> {
    let builder = Client::builder()
        .tls_backend_preconfigured(tls::config(endpoint.is_tls(), settings.root_certificate.as_deref())?)
        .connect_timeout(settings.connect_timeout)
        .user_agent(&settings.user_agent)
        .default_headers(settings.headers.clone())
        // Redirects are followed here, where it is seen that the token stays with its origin.
        .redirect(Policy::none())
        // Bodies are decoded here too, where their size is limited and corrupt is told from interrupted.
        .no_gzip()
        .no_zstd()
        .no_brotli()
        .no_deflate();
    let builder = if endpoint.is_loopback() {
        // No name service decides where the token for this machine goes, and no proxy gets it.
        builder.no_proxy().resolve_to_addrs("localhost", &endpoint::LOCALHOST)
    } else {
        builder
    };
    builder.build().map_err(|error| BuildError::Client { problem: network::describe(error) })
}
