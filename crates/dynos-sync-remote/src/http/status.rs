//! What an HTTP status means to the engine: the last table of `docs/protocol.md`.

use dynos_sync_core::{
    RemoteError,
    wire::{ErrorBody, ErrorDetail},
};

use crate::transport::{Answer, json};

/// Lets successes pass.
///
/// # Errors
/// What the table says of any other status.
pub(super) fn check(answer: &Answer) -> Result<(), RemoteError> {
    if answer.status.is_success() { Ok(()) } else { Err(failure(answer)) }
}

fn failure(answer: &Answer) -> RemoteError {
    // A proxy in between explains itself in HTML, or not at all.
    let detail = json::decode::<ErrorBody>(&answer.body).ok().map(|body| body.error);
    let code = detail.as_ref().map_or("", |detail| detail.code.as_str());
    let message = message(answer, detail.as_ref());
    match answer.status.as_u16() {
        401 => RemoteError::AuthExpired { message },
        403 => RemoteError::Refused { code: "forbidden".to_owned(), message },
        // These two have consequences for the local data: only a sync server's own word counts.
        409 if code == "replica_forked" => RemoteError::ReplicaForked,
        410 if code == "cursor_expired" => expired(detail),
        413 => RemoteError::TooLarge,
        408 | 425 | 429 | 500..=599 => RemoteError::Transient { message, retry_after: answer.retry_after() },
        400..=499 => RemoteError::Refused { code: refusal(answer, code), message },
        other => RemoteError::Protocol(format!("HTTP status {other} is not one of the protocol's")),
    }
}

fn message(answer: &Answer, detail: Option<&ErrorDetail>) -> String {
    match detail.map(|detail| answer.readable(&detail.message)) {
        Some(message) if !message.is_empty() => message,
        _ => format!("HTTP status {}", answer.status),
    }
}

fn expired(detail: Option<ErrorDetail>) -> RemoteError {
    match detail.and_then(|detail| detail.expired) {
        Some(expired) => RemoteError::CursorExpired(expired),
        None => RemoteError::Protocol("the cursor has expired, but not why".to_owned()),
    }
}

fn refusal(answer: &Answer, code: &str) -> String {
    match (answer.status.as_u16(), code) {
        (404, "") => "not_found".to_owned(),
        (_, "") => "invalid".to_owned(),
        (_, code) => answer.readable(code),
    }
}
