//! What is sent.

use bytes::Bytes;
use dynos_sync_core::RemoteError;
use reqwest::{
    Method,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName,
        HeaderValue,
    },
};
use serde::Serialize;

use crate::token::Secret;

/// Bodies up to this size, in bytes, are not worth compressing.
const COMPRESS_ABOVE: usize = 1024;
/// Quick, and within a few percent of what the slow levels reach on JSON.
const ZSTD_LEVEL: i32 = 3;

/// What kind of answer is wanted.
#[derive(Clone, Copy)]
pub(crate) enum Accept {
    /// A JSON body, which may be compressed.
    Json,
    /// A stream of events, uncompressed so that each arrives at once.
    Events,
    /// Bytes as they are.
    Bytes,
}

/// A request, which may have to be sent more than once.
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Below the endpoint's base, encoded where that is needed.
    pub(crate) path: String,
    /// As it is meant: the endpoint encodes it.
    pub(super) query: Vec<(String, String)>,
    accept: Accept,
    headers: HeaderMap,
    plain: Option<Bytes>,
    packed: Option<Bytes>,
}

impl Request {
    /// A request without a body, for a JSON answer.
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            accept: Accept::Json,
            headers: HeaderMap::new(),
            plain: None,
            packed: None,
        }
    }

    pub(crate) fn get(path: impl Into<String>, accept: Accept) -> Self {
        Self { accept, ..Self::new(Method::GET, path) }
    }

    pub(crate) fn post(
        path: impl Into<String>,
        body: &impl Serialize,
        compress: bool,
    ) -> Result<Self, RemoteError> {
        Self::new(Method::POST, path).json(body, compress)
    }

    /// A JSON body, prepared in its compressed form too where that is wanted and shorter.
    pub(crate) fn json(mut self, body: &impl Serialize, compress: bool) -> Result<Self, RemoteError> {
        let plain = serde_json::to_vec(body).map_err(|_| RemoteError::Refused {
            code: "invalid".to_owned(),
            message: "the request cannot be written as JSON".to_owned(),
        })?;
        let packed =
            (compress && plain.len() > COMPRESS_ABOVE).then(|| zstd::bulk::compress(&plain, ZSTD_LEVEL));
        // A failure to compress costs nothing but bytes.
        self.packed =
            packed.and_then(Result::ok).filter(|packed| packed.len() < plain.len()).map(Bytes::from);
        self.plain = Some(plain.into());
        Ok(self)
    }

    /// Adds to the query. Neither part is encoded yet.
    pub(crate) fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Adds a header, or replaces it.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Whether there is a compressed form.
    pub(super) fn is_compressed(&self) -> bool {
        self.packed.is_some()
    }

    pub(super) fn body(&self, packed: bool) -> Option<Bytes> {
        if packed { self.packed.clone() } else { self.plain.clone() }
    }

    pub(super) fn headers(&self, token: &Secret, packed: bool) -> Result<HeaderMap, RemoteError> {
        let mut headers = self.headers.clone();
        headers.insert(AUTHORIZATION, bearer(token)?);
        match self.accept {
            Accept::Json => {
                headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
            }
            Accept::Events => {
                headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            Accept::Bytes => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
        }
        if self.plain.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if packed {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
        }
        Ok(headers)
    }
}

/// The header, marked so that it is shown in no log and kept out of the compression tables of HTTP/2.
fn bearer(token: &Secret) -> Result<HeaderValue, RemoteError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| {
        RemoteError::AuthExpired { message: "the token holds characters that no header can carry".to_owned() }
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_do_not_show_the_token() {
        let headers = Request::get("/", Accept::Json).headers(&Secret::new("canary"), false).unwrap();
        assert_eq!(headers[AUTHORIZATION], "Bearer canary");
        assert!(!format!("{headers:?}").contains("canary"));
    }
}
