//! A span and numbers for every request. Neither holds contents, tokens or names of users.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request, State as Extract},
    middleware::Next,
    response::Response,
};
use sha2::{Digest as _, Sha256};
use tracing::{Instrument as _, Span, field::Empty};

use super::State;

pub(super) async fn observe(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    // The path as it was registered: what a caller makes up must neither fill the log nor become a label.
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", method = %request.method(), route, status = Empty, ms = Empty, subject = Empty);
    let response = next.run(request).instrument(span.clone()).await;
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    span.record("status", status);
    span.record("ms", took.as_millis() as u64);
    span.in_scope(|| tracing::info!("answered"));
    state.metrics.answered(&route, status, took);
    response
}

/// Notes who calls, so that the requests of one user can be told from another's, but not whose they are.
pub(super) fn subject(subject: &str) {
    let hash = Sha256::digest(subject);
    let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Span::current().record("subject", short);
}
