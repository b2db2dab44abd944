//! HTTP to one Supabase project.

use std::{fmt, sync::Arc};

use dynos_sync_core::RemoteError;
use reqwest::{
    Method,
    header::{HeaderName, HeaderValue},
};
use serde::{Serialize, de::DeserializeOwned};

use super::error::{Failure, check};
use crate::{
    connection::Connection,
    error::BuildError,
    token::Secret,
    transport::{Answer, Endpoint, Request, Transport},
};

const APIKEY: HeaderName = HeaderName::from_static("apikey");

/// Sends requests with the project's public key and the user's token. Clones share connections and the token.
#[derive(Clone)]
pub(crate) struct Client {
    transport: Arc<Transport>,
}

impl Client {
    /// `connection` says where the project is and whose token is sent.
    pub(crate) fn new(mut connection: Connection, anon_key: &Secret) -> Result<Self, BuildError> {
        let mut key = HeaderValue::from_str(anon_key.expose()).map_err(|_| BuildError::Setting {
            setting: "anon_key",
            problem: "holds characters that no header can carry".to_owned(),
        })?;
        key.set_sensitive(true);
        connection.settings.headers.insert(APIKEY, key);
        // The gateway in front of a project takes no compressed bodies.
        connection.settings.compression = false;
        Ok(Self { transport: Arc::new(connection.open()?) })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.transport.endpoint()
    }

    /// The whole answer, whatever its status. A 401 was already answered with a refreshed token.
    ///
    /// # Errors
    /// Where there is no answer: no network, no token, a timeout, a redirect to elsewhere.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer, RemoteError> {
        self.transport.call(request).await
    }

    /// The answer to a request whose failure concerns the whole call.
    ///
    /// # Errors
    /// `Err` where there is no answer, `Ok(Err)` where it is no success.
    pub(crate) async fn exchange<T: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<Result<T, Failure>, RemoteError> {
        let answer = self.send(request).await?;
        match check(&answer) {
            Ok(()) => answer.json().map(Ok),
            Err(failure) => Ok(Err(failure)),
        }
    }

    /// A JSON request to `path`, below the project's URL.
    pub(crate) fn json(
        &self,
        method: Method,
        path: impl Into<String>,
        body: &impl Serialize,
    ) -> Result<Request, RemoteError> {
        Request::new(method, path).json(body, self.transport.compresses())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.endpoint().to_string()).finish_non_exhaustive()
    }
}
