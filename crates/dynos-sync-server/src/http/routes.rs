//! What each path does.

use axum::{
    Json,
    extract::State as Extract,
    http::header,
    response::{IntoResponse, Response},
};
use dynos_sync_core::wire::{Heads, HeadsRequest, PullRequest, PushAnswer, Tables};

use super::{
    ApiError, Known, State,
    body::JsonBody,
    push::{self, LoosePush},
};
use crate::store::{Page, StoreError, used_twice};

/// The description of this interface.
const OPENAPI: &str = include_str!("../openapi.json");

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn declare(
    Extract(state): Extract<State>,
    known: Known,
    JsonBody(wanted): JsonBody<Tables>,
) -> Answer<Tables> {
    let tables = state.store.declare(&known.caller, wanted.tables).await?;
    Ok(Json(Tables { tables }))
}

pub(super) async fn tables(Extract(state): Extract<State>, known: Known) -> Answer<Tables> {
    let tables = state.store.tables(&known.caller).await?;
    Ok(Json(Tables { tables }))
}

pub(super) async fn heads(
    Extract(state): Extract<State>,
    known: Known,
    JsonBody(request): JsonBody<HeadsRequest>,
) -> Answer<Heads> {
    Ok(Json(state.store.heads(&known.caller, request).await?))
}

pub(super) async fn offer(
    Extract(state): Extract<State>,
    known: Known,
    JsonBody(request): JsonBody<LoosePush>,
) -> Answer<PushAnswer> {
    let (request, sound) = request.sort();
    if let Some(counter) = used_twice(&request.entries) {
        return Err(StoreError::Forked(counter).into());
    }
    let answer = push::fill(state.store.push(&known.caller, request).await?, &sound);
    state.metrics.pushed(&answer.results);
    Ok(Json(answer))
}

pub(super) async fn pull(
    Extract(state): Extract<State>,
    known: Known,
    JsonBody(request): JsonBody<PullRequest>,
) -> Answer<Page> {
    let page = state.store.pull(&known.caller, request).await?;
    state.metrics.pulled(page.changes.len());
    Ok(Json(page))
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(super) async fn healthz(Extract(state): Extract<State>) -> Result<Response, ApiError> {
    state.store.health().await?;
    Ok(Json(serde_json::json!({"status": "ok"})).into_response())
}

pub(super) async fn metrics(Extract(state): Extract<State>) -> Result<Response, ApiError> {
    // A store that cannot answer is no reason to hide the other numbers.
    let bytes = state.store.health().await.map_or(0, |health| health.bytes);
    let text = state.metrics.text(bytes).ok_or_else(|| ApiError::busy("the numbers cannot be written"))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
