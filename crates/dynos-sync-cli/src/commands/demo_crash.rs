//! `dynos demo-crash`: a sync that stops where stopping hurts most, until it is killed.

use std::{io::Write, sync::Arc};

use async_trait::async_trait;
use dynos_sync::core::{
    Remote, RemoteError, TableSpec,
    wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushRequest},
};

use super::sync;
use crate::{
    cli::{DemoCrashArgs, StrategyArg},
    connection::Connection,
    database,
    error::Failure,
    output::Output,
};

/// What is printed when the moment has come.
pub(crate) const MARK: &str = "stopped";

pub(crate) async fn run(args: &DemoCrashArgs) -> Result<(), Failure> {
    let connection = Connection::resolve(&args.remote, &args.database)?;
    let remote = Arc::new(Stopping(connection.open().await?));
    let work = async |replica: &_, _| {
        sync::once(replica, remote.clone(), StrategyArg::LastWriteWins, 0, &Output::new(true)).await
    };
    database::with_tracked(&args.database, work).await.map(drop)
}

/// The server takes the push; the answer never arrives.
#[derive(Debug)]
struct Stopping(Arc<dyn Remote>);

#[async_trait]
impl Remote for Stopping {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.0.declare(tables).await
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        self.0.tables().await
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        self.0.heads(request).await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        self.0.push(request).await?;
        let mut out = std::io::stdout();
        writeln!(out, "{MARK}")
            .and_then(|()| out.flush())
            .map_err(|error| RemoteError::transient(error.to_string()))?;
        std::future::pending().await
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        self.0.pull(request).await
    }
}
