//! Reading a request's body: bounded on the wire, bounded after decompression, and never quoted back.

use std::io::Read;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;

use super::{ApiError, State};

/// Bodies above this size, and all compressed ones, are read off the threads that serve connections.
const SMALL: usize = 64 * 1024;

/// The largest window that a zstd frame may ask for, as a power of two: what RFC 9659 allows for HTTP. Without
/// it a few bytes could claim 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A JSON body.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<State> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &State) -> Result<Self, ApiError> {
        let encoding = Encoding::of(request.headers())?;
        let limits = &state.limits;
        let body = receive(request.into_body(), limits.body_bytes).await?;
        let decoded = limits.decoded_bytes;
        if matches!(encoding, Encoding::Identity) && body.len() <= SMALL {
            return parse(&body, &encoding, decoded).map(Self);
        }
        let parsed = spawn_blocking(move || parse(&body, &encoding, decoded)).await;
        parsed.map_err(|_| ApiError::busy("the request could not be read"))?.map(Self)
    }
}

enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let unsupported = |message| ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(unsupported("the body must be application/json"));
        }
        match text(header::CONTENT_ENCODING).trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(unsupported("the body may be encoded with gzip or zstd, and nothing else")),
        }
    }
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request is larger than {limit} bytes"))
}

async fn receive(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Err(_) => Err(ApiError::new(StatusCode::BAD_REQUEST, "the body did not arrive whole")),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8], encoding: &Encoding, limit: usize) -> Result<T, ApiError> {
    let broken = |_| ApiError::new(StatusCode::BAD_REQUEST, "the body cannot be decompressed");
    match encoding {
        Encoding::Identity => json(body),
        Encoding::Gzip => json(&inflate(flate2::read::MultiGzDecoder::new(body), limit)?),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
            json(&inflate(decoder, limit)?)
        }
    }
}

/// Decompresses up to the limit, however much more there would be.
fn inflate(decoder: impl Read, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "the body cannot be decompressed"))?;
    if bytes.len() > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

/// Parses JSON. What the parser says of a fault may quote the body (`invalid type: string "…"`), and an answer
/// ends up in logs: only the kind of fault and its place are passed on.
fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "the body is not what this path expects",
            serde_json::error::Category::Eof => "the body ends too early",
            _ => "the body is not JSON, or nested too deeply",
        };
        let message = format!("{what} (line {}, column {})", error.line(), error.column());
        ApiError::new(StatusCode::BAD_REQUEST, message)
    })
}
