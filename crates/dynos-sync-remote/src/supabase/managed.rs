//! The protocol's functions, called through PostgREST.

use std::borrow::Cow;

use async_trait::async_trait;
use dynos_sync_core::{
    Remote, RemoteError, TableSpec,
    wire::{
        Expired, Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushEntry, PushRequest, PushResult,
        Tables,
    },
};
use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    client::Client,
    error::{Failure, Missing},
};
use crate::checks;

/// A project whose database keeps the protocol's books.
#[derive(Debug)]
pub(super) struct Managed {
    client: Client,
}

impl Managed {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The arguments are the fields of the request, by name.
    async fn call<T: DeserializeOwned>(
        &self,
        function: &str,
        arguments: &(impl Serialize + Sync),
    ) -> Result<T, CallError> {
        let path = format!("/rest/v1/rpc/{function}");
        let request = self.client.json(Method::POST, path, arguments).map_err(CallError::Unanswered)?;
        self.client.exchange(&request).await.map_err(CallError::Unanswered)?.map_err(CallError::Failed)
    }
}

/// Why a function has not answered.
enum CallError {
    Unanswered(RemoteError),
    Failed(Failure),
}

impl From<CallError> for RemoteError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unanswered(error) => error,
            CallError::Failed(Failure::Missing(Missing::Function, _)) => Self::Refused {
                code: "not_installed".to_owned(),
                message: "the project's database has no functions for syncing, or older ones: run what `dynos supabase \
                          init` prints in it"
                    .to_owned(),
            },
            CallError::Failed(Failure::Raised { status, message, details }) => raised(status, message, details),
            CallError::Failed(failure) => failure.into(),
        }
    }
}

/// A way in for the fuzz targets: what a function's failure means.
#[cfg(fuzzing)]
pub(crate) fn failed(failure: Failure) -> RemoteError {
    CallError::Failed(failure).into()
}

/// What the functions raise for a whole call, under the status of the HTTP protocol.
fn raised(status: u16, message: String, details: Option<String>) -> RemoteError {
    match status {
        401 => RemoteError::AuthExpired { message },
        409 => RemoteError::ReplicaForked,
        410 => match details.map(|details| serde_json::from_str::<Expired>(&details)) {
            Some(Ok(expired)) => RemoteError::CursorExpired(expired),
            _ => RemoteError::Protocol("the cursor has expired, but not why".to_owned()),
        },
        413 => RemoteError::TooLarge,
        503 => RemoteError::transient(message),
        _ => RemoteError::Refused { code: "invalid".to_owned(), message },
    }
}

#[async_trait]
impl Remote for Managed {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.call::<Tables>("dynos_declare", &Tables { tables: tables.to_vec() }).await?;
        Ok(())
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        checks::tables(self.call("dynos_tables", &serde_json::Map::new()).await?)
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        checks::heads(&request, self.call("dynos_heads", &request).await?)
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        let (sent, kept) = if request.entries.iter().any(PushEntry::has_nul) {
            let (sent, kept) = request.clone().without_nul();
            (Cow::Owned(sent), kept)
        } else {
            (Cow::Borrowed(request), vec![true; request.entries.len()])
        };
        match self.call("dynos_push", &*sent).await {
            // Half as much may be done in time.
            Err(CallError::Failed(Failure::StatementTimeout)) if sent.entries.len() > 1 => {
                Err(RemoteError::TooLarge)
            }
            answer => Ok(checks::push(&sent, answer?)?.filled(&kept, PushResult::holds_nul)),
        }
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        checks::page(&request, self.call("dynos_pull", &request).await?)
    }
}
