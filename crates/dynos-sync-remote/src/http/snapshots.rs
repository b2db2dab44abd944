//! Snapshots for first pulls.

use async_trait::async_trait;
use dynos_sync_core::{
    RemoteError,
    snapshot::{Snapshot, SnapshotRequest, SnapshotSource},
};
use reqwest::{
    StatusCode,
    header::{HeaderValue, RANGE},
};

use super::{HttpRemote, read, status};
use crate::transport::{Accept, Request};

/// The most bytes that one call fetches.
const PIECE: u64 = 4 << 20;

#[async_trait]
impl SnapshotSource for HttpRemote {
    async fn offer(&self, request: &SnapshotRequest) -> Result<Option<Snapshot>, RemoteError> {
        let request = Request::post("/v1/snapshot", request, self.transport.compresses())?;
        let answer = self.transport.call(&request).await?;
        match answer.status {
            // An older server has no such path.
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(None),
            _ => read(&answer).map(Some),
        }
    }

    async fn fetch(&self, snapshot: &Snapshot, from: u64) -> Result<Vec<u8>, RemoteError> {
        let most = PIECE.min(self.transport.max_response_bytes() as u64);
        let last = from.saturating_add(most).min(snapshot.bytes).saturating_sub(1);
        let range = HeaderValue::try_from(format!("bytes={from}-{last}"))
            .map_err(|error| RemoteError::Protocol(error.to_string()))?;
        let path = format!("/v1/snapshot/{}", snapshot.id);
        let answer = self.transport.call(&Request::get(path, Accept::Bytes).header(RANGE, range)).await?;
        status::check(&answer)?;
        // Whoever ignores the range sends the beginning.
        let is_wanted = answer.status == StatusCode::PARTIAL_CONTENT || from == 0;
        if !is_wanted || answer.body.is_empty() || answer.body.len() as u64 > last.saturating_add(1) - from {
            return Err(RemoteError::Protocol(
                "it is not the piece of the snapshot that was asked for".to_owned(),
            ));
        }
        Ok(answer.body)
    }
}
