//! A project's tables as they are, with nothing installed in its database.
//!
//! Every write carries the server's time, and a pull reads what carries a later time than the pull before. That is less
//! than the protocol promises; `docs/supabase.md` says what, and how much.

mod id;
mod place;
mod pull;
mod push;
mod query;
mod row;
mod shapes;
mod status;
mod time;
mod written;

use std::time::Duration;

use async_trait::async_trait;
use dynos_sync_core::{
    Remote, RemoteError, TableSpec,
    wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushEntry, PushRequest, PushResult},
};

use self::{pull::LongIds, shapes::Shapes, status::Status, time::Micros, written::Written};
use super::client::Client;

/// A project whose tables are synced through PostgREST's table endpoints.
#[derive(Debug)]
pub(super) struct Plain {
    client: Client,
    /// How long a write may take from its time to its commit, and still be found by everybody.
    window: Micros,
    shapes: Shapes,
    written: Written,
    status: Status,
    long_ids: LongIds,
}

impl Plain {
    pub(super) fn new(client: Client, window: Duration) -> Self {
        Self {
            client,
            window: time::micros(window),
            shapes: Shapes::default(),
            written: Written::default(),
            status: Status::default(),
            long_ids: LongIds::default(),
        }
    }
}

#[async_trait]
impl Remote for Plain {
    /// Does nothing: the tables are the project's.
    async fn declare(&self, _: &[TableSpec]) -> Result<(), RemoteError> {
        Ok(())
    }

    /// None: PostgREST need not tell which there are.
    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        Ok(Vec::new())
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        let heads = self.heads_of(request.tables).await?;
        Ok(Heads { server: self.client.endpoint().host(), last_counter: 0, heads })
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        if !request.entries.iter().any(PushEntry::has_nul) {
            return self.push_all(request).await;
        }
        let (sent, kept) = request.clone().without_nul();
        Ok(self.push_all(&sent).await?.filled(&kept, PushResult::holds_nul))
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        self.pull_page(&request).await
    }
}
