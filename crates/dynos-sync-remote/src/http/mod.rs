//! The client of dynos-sync's own protocol.

mod builder;
mod hints;
mod snapshots;
pub(crate) mod sse;
mod status;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use dynos_sync_core::{
    Remote, RemoteError, TableSpec,
    snapshot::SnapshotSource,
    wire::{Heads, HeadsRequest, Hint, Page, PullRequest, PushAnswer, PushRequest, Tables},
};
use futures_util::stream::BoxStream;
use serde::{Serialize, de::DeserializeOwned};

pub use self::builder::HttpRemoteBuilder;
use crate::{
    checks,
    transport::{Accept, Answer, Request, Transport},
};

/// A dynos-sync server, reached over HTTP. Clones share connections and the token.
///
/// Connections belong to the tokio runtime in which they were made: use one remote in one runtime.
///
/// How failures are reported is the last table of `docs/protocol.md`. Beyond it: an unreachable server, a refused
/// certificate, a timeout and an answer that is cut off are [`RemoteError::Transient`]; an answer that arrived
/// whole but is not what the protocol promises is [`RemoteError::Protocol`]; a redirect is followed at most three
/// times, only to the same origin and only by 307 or 308, and is else [`RemoteError::Refused`] with the code
/// `redirect`. What the server says is shown without control characters and cut to 500 characters.
#[derive(Clone)]
pub struct HttpRemote {
    transport: Arc<Transport>,
    hints_idle_timeout: Duration,
}

impl HttpRemote {
    /// Begins with the server's URL, `https://` and optionally with a port and a base path. The rest is in
    /// [`HttpRemoteBuilder`].
    pub fn builder(url: impl Into<String>) -> HttpRemoteBuilder {
        HttpRemoteBuilder::new(url.into())
    }

    async fn get<T: DeserializeOwned>(&self, path: &'static str) -> Result<T, RemoteError> {
        self.exchange(&Request::get(path, Accept::Json)).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &'static str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, RemoteError> {
        self.exchange(&Request::post(path, body, self.transport.compresses())?).await
    }

    async fn exchange<T: DeserializeOwned>(&self, request: &Request) -> Result<T, RemoteError> {
        read(&self.transport.call(request).await?)
    }
}

/// What an answer holds, where it is a success.
pub(crate) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, RemoteError> {
    status::check(answer)?;
    answer.json()
}

impl fmt::Debug for HttpRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRemote")
            .field("url", &self.transport.endpoint().to_string())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Remote for HttpRemote {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.post::<Tables>("/v1/tables", &Tables { tables: tables.to_vec() }).await.map(drop)
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        checks::tables(self.get("/v1/tables").await?)
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        checks::heads(&request, self.post("/v1/heads", &request).await?)
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        checks::push(request, self.post("/v1/push", request).await?)
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        checks::page(&request, self.post("/v1/pull", &request).await?)
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        hints::stream(Arc::clone(&self.transport), self.hints_idle_timeout)
    }

    fn snapshots(&self) -> Option<&dyn SnapshotSource> {
        Some(self)
    }
}
