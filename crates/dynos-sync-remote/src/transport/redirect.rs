//! Which redirects are followed: those that stay at the origin and keep the method.

use dynos_sync_core::RemoteError;
use reqwest::{Response, StatusCode, Url, header::LOCATION};

/// The most redirects that one request follows.
pub(super) const MAX: usize = 3;

/// Where the server wants the same request to be sent instead; `None` where it answered.
///
/// # Errors
/// `Refused` with the code `redirect` for another origin (the token is not meant for it) and for redirects that
/// would turn a POST into a GET.
pub(super) fn target(from: &Url, response: &Response) -> Result<Option<Url>, RemoteError> {
    let status = response.status();
    if !status.is_redirection() {
        return Ok(None);
    }
    if !matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
        return Err(refused(&format!("the server answered with redirect {status}, which is not followed")));
    }
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    match location.and_then(|location| from.join(location).ok()) {
        None => Err(refused("the server redirects without saying where to")),
        Some(to) if is_same_origin(from, &to) => Ok(Some(to)),
        Some(_) => Err(refused("the server redirects to another origin: configure that URL if it is right")),
    }
}

pub(super) fn too_many() -> RemoteError {
    refused(&format!("the server redirects more than {MAX} times"))
}

fn is_same_origin(a: &Url, b: &Url) -> bool {
    // A user name in the new URL would displace the token.
    a.origin() == b.origin() && b.username().is_empty() && b.password().is_none()
}

fn refused(message: &str) -> RemoteError {
    RemoteError::Refused { code: "redirect".to_owned(), message: message.to_owned() }
}
