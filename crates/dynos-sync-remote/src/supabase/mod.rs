//! A Supabase project as a backend.

mod builder;
mod client;
pub(crate) mod error;
pub(crate) mod gotrue;
pub(crate) mod managed;
mod plain;
pub(crate) mod realtime;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use dynos_sync_core::{
    Remote, RemoteError, TableSpec,
    wire::{Heads, HeadsRequest, Hint, Page, PullRequest, PushAnswer, PushRequest},
};
use futures_util::stream::BoxStream;

use self::realtime::Realtime;
pub use self::{
    builder::SupabaseRemoteBuilder,
    gotrue::{GoTrueBuilder, GoTrueSession, SignInError},
};
use crate::token::Secret;

/// A Supabase project. Clones share connections and the token.
///
/// In its *managed* mode the project keeps the protocol's books itself: its database holds the functions that
/// `dynos supabase init` prints, and syncs the tables that were tracked there. Everything that `docs/protocol.md`
/// promises holds.
///
/// In its *plain* mode nothing is installed: tables are synced as they are, by the time of their last change. That is weaker;
/// `docs/supabase.md` says what is promised.
///
/// Live hints come from Supabase Realtime, for tables of its publication.
///
/// Connections belong to the tokio runtime in which they were made: use one remote in one runtime.
///
/// Failures are reported as those of [`HttpRemote`](https://docs.rs/dynos-sync-remote) are. Beyond it: a call that the
/// database's statement timeout ends is [`RemoteError::Transient`], or [`RemoteError::TooLarge`] where it offered
/// several entries; a project without the functions is [`RemoteError::Refused`] with the code `not_installed`; a wrong
/// key of the project is `Refused` with the code `api_key`.
#[derive(Clone)]
pub struct SupabaseRemote {
    url: String,
    mode: Arc<dyn Remote>,
    realtime: Arc<Realtime>,
}

impl SupabaseRemote {
    /// Begins with the project's URL, such as `https://abc.supabase.co`, and its public key: the "anon" or
    /// "publishable" one. The rest is in [`SupabaseRemoteBuilder`].
    pub fn builder(url: impl Into<String>, anon_key: impl Into<Secret>) -> SupabaseRemoteBuilder {
        SupabaseRemoteBuilder::new(url.into(), anon_key.into())
    }
}

impl fmt::Debug for SupabaseRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupabaseRemote").field("url", &self.url).finish_non_exhaustive()
    }
}

#[async_trait]
impl Remote for SupabaseRemote {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.mode.declare(tables).await
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        self.mode.tables().await
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        self.mode.heads(request).await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        self.mode.push(request).await
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        self.mode.pull(request).await
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        self.realtime.hints(Vec::new())
    }
}
