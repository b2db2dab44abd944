//! Answers that are not a success.

use axum::{
    Json,
    body::Body,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use dynos_sync_core::wire::{ErrorBody, ErrorDetail, Expired};

use crate::{auth::Denied, store::StoreError};

/// An error, as the protocol writes it.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    expired: Option<Expired>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: code(status), message: message.into(), expired: None }
    }

    /// Come back later.
    pub(crate) fn busy(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

/// The word that goes with a status.
fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        409 => "replica_forked",
        410 => "cursor_expired",
        413 => "too_large",
        425 | 429 => "rate_limited",
        408 | 502..=504 => "unavailable",
        500.. => "internal",
        _ => "invalid",
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message, expired } = self;
        let body = ErrorBody { error: ErrorDetail { code: code.to_owned(), message, expired } };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            // Not 401: the caller's session is fine, and must not be ended for this.
            Denied::NoKeys => Self::busy(&denied.to_string()),
            _ => Self::new(StatusCode::UNAUTHORIZED, denied.to_string()),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            StoreError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            StoreError::Expired(_) => StatusCode::GONE,
            StoreError::Forked(_) => StatusCode::CONFLICT,
            StoreError::Unavailable | StoreError::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Sqlite(_) | StoreError::Database(_) | StoreError::Corrupt(_) => {
                // The cause is for the operator. It names no content: SQLite's messages quote none of what was bound,
                // and of Postgres' only the code was kept.
                tracing::error!(error = &error as &dyn std::error::Error, "a request failed in the store");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let message = match &error {
            StoreError::Corrupt(_) | StoreError::Database(_) => "the database failed".to_owned(),
            error => error.to_string(),
        };
        let expired = if let StoreError::Expired(expired) = error { Some(expired) } else { None };
        Self { expired, ..Self::new(status, message) }
    }
}

/// Gives errors that did not come from a handler (no such path, a wrong method, a timeout) the protocol's body.
pub(crate) async fn shape(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let reason = status.canonical_reason().unwrap_or("error").to_lowercase();
    let (parts, _) = response.into_parts();
    let mut shaped = ApiError::new(status, reason).into_response();
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        shaped.headers_mut().insert(header::ALLOW, allow.clone());
    }
    shaped
}

/// What a caller gets to see of a panic.
pub(crate) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response<Body> {
    tracing::error!("a request panicked");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed").into_response()
}
