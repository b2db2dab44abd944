//! The protocol over HTTP.

mod body;
mod error;
mod events;
mod observe;
mod push;
mod routes;
mod snapshots;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{FromRequestParts, Request},
    http::{StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use tokio::sync::{Semaphore, watch};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{CompressionLayer, DefaultPredicate, Predicate, predicate::NotForContentType},
    timeout::TimeoutLayer,
};

pub(crate) use self::error::ApiError;
use self::events::Slots;
use crate::{
    auth::{Identity, Verifier},
    config::{Limits, Now},
    metrics::Metrics,
    snapshots::Snapshots,
    store::{Caller, Store},
};

/// What every request needs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) snapshots: Snapshots,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) now: Now,
    pub(crate) slots: Slots,
    /// Becomes true when the server shuts down: event streams end, which nothing else would end.
    pub(crate) closing: watch::Receiver<bool>,
}

/// All paths of the protocol.
pub(crate) fn router(state: State) -> Router {
    let working = Arc::new(Semaphore::new(state.limits.requests));
    let worth = DefaultPredicate::new().and(NotForContentType::const_new(snapshots::MEDIA_TYPE));
    let protocol = Router::new()
        .route("/v1/tables", get(routes::tables).post(routes::declare))
        .route("/v1/heads", post(routes::heads))
        .route("/v1/push", post(routes::offer))
        .route("/v1/pull", post(routes::pull))
        .route("/v1/snapshot", post(snapshots::offer))
        .route("/v1/snapshot/{id}", get(snapshots::fetch))
        .route("/v1/events", get(events::events))
        .layer(middleware::from_fn(move |request, next| crowd(working.clone(), request, next)));
    Router::new()
        .merge(protocol)
        .route("/v1/openapi.json", get(routes::openapi))
        .route("/healthz", get(routes::healthz))
        .route("/metrics", get(routes::metrics))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, state.limits.request_time))
        .layer(CompressionLayer::new().gzip(true).zstd(true).compress_when(worth))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(middleware::from_fn(error::shape))
        .layer(middleware::from_fn_with_state(state.clone(), observe::observe))
        .with_state(state)
}

/// Turns requests away while too many are being worked on. It is better to say so at once than to let all of
/// them time out.
async fn crowd(working: Arc<Semaphore>, request: Request, next: Next) -> Result<Response, ApiError> {
    let _permit = working.try_acquire().map_err(|_| ApiError::busy("too many requests at once"))?;
    Ok(next.run(request).await)
}

/// A caller whose token was accepted.
pub(crate) struct Known {
    pub(crate) caller: Caller,
    /// For how long the token is still good.
    pub(crate) left: Duration,
}

impl FromRequestParts<State> for Known {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, ApiError> {
        let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Identity { subject, until } = state.verifier.check(authorization).await?;
        observe::subject(&subject);
        let left = u64::try_from(until.saturating_sub(state.now.millis())).unwrap_or(0);
        Ok(Self { caller: Caller { subject }, left: Duration::from_millis(left) })
    }
}
