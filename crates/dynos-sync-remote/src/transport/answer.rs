//! What was received.

use std::time::{Duration, SystemTime};

use dynos_sync_core::RemoteError;
use reqwest::{
    StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde::de::DeserializeOwned;

use super::{json, retry_after, text};
use crate::token::Secret;

/// A whole answer. The body of one that is no success may be missing.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(super) token: Secret,
}

impl Answer {
    /// For tests: as if it had been received. `None` where its body cannot be decoded within `limit`.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn received(
        status: StatusCode,
        headers: HeaderMap,
        body: &[u8],
        token: Secret,
        limit: usize,
    ) -> Option<Self> {
        let mut decoder = super::decode::Decoder::new(&headers, limit).ok()?;
        decoder.push(body).ok()?;
        Some(Self { status, headers, body: decoder.finish().ok()?, token })
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// `Protocol` where it is something else, or not what is expected.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, RemoteError> {
        match media_type(&self.headers) {
            Some(found) if found == "application/json" || found.ends_with("+json") => {
                json::decode(&self.body)
            }
            Some(found) => {
                let found = self.readable(&found);
                Err(RemoteError::Protocol(format!(
                    "it is {found}, not JSON (is the URL that of a sync server?)"
                )))
            }
            None => Err(RemoteError::Protocol("it does not say that it is JSON".to_owned())),
        }
    }

    /// A header, where it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How long the server asks to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after::read(&self.headers, SystemTime::now())
    }

    /// Text of the answer, made fit for a message.
    pub(crate) fn readable(&self, text: &str) -> String {
        text::readable(text, &[&self.token])
    }

    /// As [`readable`](Self::readable), for the answer to a request that showed another secret, too.
    #[cfg(feature = "supabase")]
    pub(crate) fn readable_without(&self, secret: &Secret, text: &str) -> String {
        text::readable(text, &[&self.token, secret])
    }
}

/// The `Content-Type` without parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}
