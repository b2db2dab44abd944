//! Snapshots for first pulls.

use axum::{
    Json,
    extract::{Path, State as Extract},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use dynos_sync_core::snapshot::SnapshotRequest;

use super::{ApiError, Known, State, body::JsonBody};

/// What a snapshot's bytes are. They are not compressed again.
pub(super) const MEDIA_TYPE: &str = "application/zstd";

/// The most bytes of one answer.
const PIECE: usize = 4 << 20;

/// 204 where the tables are better pulled by pages.
pub(super) async fn offer(
    Extract(state): Extract<State>,
    known: Known,
    JsonBody(request): JsonBody<SnapshotRequest>,
) -> Result<Response, ApiError> {
    let offer = state.snapshots.offer(&state.store, known.caller, request).await?;
    Ok(offer.map_or_else(|| StatusCode::NO_CONTENT.into_response(), |offer| Json(offer).into_response()))
}

/// The piece that `Range` asks for, or the first of that.
pub(super) async fn fetch(
    Extract(state): Extract<State>,
    known: Known,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (from, most) = range(&headers)?;
    let Some(bytes) = state.snapshots.read(&known.caller, &id, from, most).await? else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "there is no such snapshot (any more)"));
    };
    if bytes.is_empty() {
        return Err(ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "the snapshot ends before that"));
    }
    let range = format!("bytes {from}-{}/*", from + bytes.len() as u64 - 1);
    let headers = [(header::CONTENT_TYPE, MEDIA_TYPE), (header::CONTENT_RANGE, range.as_str())];
    Ok((StatusCode::PARTIAL_CONTENT, headers, bytes).into_response())
}

/// `bytes=FIRST-` or `bytes=FIRST-LAST`; no more than one range.
fn range(headers: &HeaderMap) -> Result<(u64, usize), ApiError> {
    let Some(value) = headers.get(header::RANGE) else { return Ok((0, PIECE)) };
    let parse = || {
        let (first, last) = value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
        let first: u64 = first.parse().ok()?;
        let most = match last {
            "" => PIECE as u64,
            last => last.parse::<u64>().ok()?.checked_sub(first)?.saturating_add(1),
        };
        Some((first, usize::try_from(most).unwrap_or(PIECE).min(PIECE)))
    };
    parse().ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "the range is not one of bytes=FIRST-LAST"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_no_larger_than_a_piece() {
        let of = |text: &'static str| {
            range(&HeaderMap::from_iter([(header::RANGE, axum::http::HeaderValue::from_static(text))])).ok()
        };
        assert_eq!(range(&HeaderMap::new()).ok(), Some((0, PIECE)));
        assert_eq!(of("bytes=7-"), Some((7, PIECE)));
        assert_eq!(of("bytes=7-9"), Some((7, 3)));
        assert_eq!(of("bytes=0-18446744073709551615"), Some((0, PIECE)));
        for text in ["7-9", "bytes=9-7", "bytes=-5", "bytes=a-b", "bytes=1-2,4-5", "lines=1-2"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
