//! The seam to a backend.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::{
    snapshot::SnapshotSource,
    table::TableSpec,
    wire::{Expired, Heads, HeadsRequest, Hint, Page, PullRequest, PushAnswer, PushRequest},
};

/// A backend that keeps the promises of `docs/protocol.md`. Every call ends: with an answer, an error or a timeout.
///
/// Implementations refresh an expired token themselves, once a call; [`RemoteError::AuthExpired`] means that this
/// did not help.
#[async_trait]
pub trait Remote: Debug + Send + Sync + 'static {
    /// Tells the server what the device's tables look like. Repeating it changes nothing.
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError>;

    /// The tables that the server keeps for the caller.
    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError>;

    /// Where the tables' histories end.
    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError>;

    /// Offers entries.
    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError>;

    /// Fetches a page of changes.
    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError>;

    /// Live hints, while the stream is held. It ends when the connection does; the caller asks again, after a
    /// pause. A backend without hints returns a stream that never yields.
    fn hints(&self) -> BoxStream<'static, Hint> {
        stream::pending().boxed()
    }

    /// Snapshots for first pulls, where the backend prepares them.
    fn snapshots(&self) -> Option<&dyn SnapshotSource> {
        None
    }
}

/// Why a call to a backend failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It may work later: no network, a timeout, an overloaded or failing server. Nothing is counted against
    /// the entries sent.
    #[error("the server cannot be reached or cannot answer now: {message}")]
    Transient {
        /// What happened.
        message: String,
        /// How long the server asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The session has ended, and refreshing the token did not help.
    #[error("the session has expired: {message} (sign in again)")]
    AuthExpired {
        /// What the server said.
        message: String,
    },
    /// The cursor cannot be continued from; the table must be resynced.
    #[error("the server no longer has the history that this device was following")]
    CursorExpired(Expired),
    /// The request is larger than the server takes; fewer entries may pass.
    #[error("the request is larger than the server takes")]
    TooLarge,
    /// An entry's number was used before for something else: this database is a copy of another one that syncs.
    #[error("another database uses this replica's identity")]
    ReplicaForked,
    /// The server refuses the call, and will again.
    #[error("the server refused the call: {code}: {message}")]
    Refused {
        /// A word for the reason.
        code: String,
        /// The server's sentence.
        message: String,
    },
    /// The answer does not follow the protocol. Nothing of it was used.
    #[error("the server's answer does not follow the protocol: {0}")]
    Protocol(String),
}

impl RemoteError {
    /// A transient failure without a wish for how long to wait.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::Transient { message: message.into(), retry_after: None }
    }

    /// Whether the same call may work later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }

    /// Whether somebody has to sign in.
    pub fn is_auth(&self) -> bool {
        matches!(self, Self::AuthExpired { .. })
    }

    /// How long the server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Transient { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_who_can_do_something_about_it() {
        let wait = Some(Duration::from_secs(3));
        let busy = RemoteError::Transient { message: "busy".to_owned(), retry_after: wait };
        let expired = RemoteError::AuthExpired { message: "old".to_owned() };
        for (error, transient, auth, retry_after) in [
            (busy, true, false, wait),
            (RemoteError::transient("cut"), true, false, None),
            (expired, false, true, None),
            (RemoteError::TooLarge, false, false, None),
        ] {
            let said = (error.is_transient(), error.is_auth(), error.retry_after());
            assert_eq!(said, (transient, auth, retry_after), "{error}");
        }
    }
}
