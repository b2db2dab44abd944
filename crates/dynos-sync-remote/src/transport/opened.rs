//! An answer that is still arriving.

use std::time::Duration;

use bytes::Bytes;
use dynos_sync_core::RemoteError;
use reqwest::{Response, StatusCode};

use super::{
    answer::{self, Answer},
    decode::{Decoder, Fault},
    network,
};
use crate::token::Secret;

/// An answer whose body was not read yet, and the token that it was asked with. Dropping it ends the transfer.
pub(crate) struct Opened {
    pub(super) response: Response,
    pub(super) token: Secret,
}

impl Opened {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn media_type(&self) -> Option<String> {
        answer::media_type(self.response.headers())
    }

    /// The next bytes of the body, as they are on the wire; `None` at its end.
    ///
    /// # Errors
    /// `Transient` where none arrive within `idle`, or the connection fails.
    pub(crate) async fn chunk(&mut self, idle: Duration) -> Result<Option<Bytes>, RemoteError> {
        match tokio::time::timeout(idle, self.response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| network::failure(error, &self.token)),
            Err(_) => Err(RemoteError::transient(format!("the answer stopped for {idle:?}"))),
        }
    }

    /// The whole answer, its body decoded and of at most `limit` bytes.
    ///
    /// # Errors
    /// Of a success only, since any other status holds even where its explanation got lost: `Transient` where
    /// the connection fails, stalls or is cut, `Protocol` where what arrived is too long or corrupt.
    pub(super) async fn read(mut self, limit: usize, idle: Duration) -> Result<Answer, RemoteError> {
        let body = self.body(limit, idle).await;
        let status = self.response.status();
        Ok(Answer {
            status,
            body: if status.is_success() { body? } else { body.unwrap_or_default() },
            headers: self.response.headers().clone(),
            token: self.token,
        })
    }

    async fn body(&mut self, limit: usize, idle: Duration) -> Result<Vec<u8>, RemoteError> {
        let protocol = |fault| RemoteError::Protocol(describe(&fault, limit));
        if self.response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(protocol(Fault::TooLong));
        }
        let mut decoder = Decoder::new(self.response.headers(), limit).map_err(protocol)?;
        while let Some(bytes) = self.chunk(idle).await? {
            decoder.push(&bytes).map_err(protocol)?;
        }
        decoder.finish().map_err(protocol)
    }
}

fn describe(fault: &Fault, limit: usize) -> String {
    match fault {
        Fault::TooLong => format!("it is longer than {limit} bytes, the limit of max_response_bytes"),
        Fault::Corrupt => "its compressed body is corrupt".to_owned(),
        Fault::Unknown => "its body has an encoding that was not asked for".to_owned(),
    }
}
