//! Failures below HTTP.

use std::error::Error;

use dynos_sync_core::RemoteError;

use super::text;
use crate::token::Secret;

/// A request or an answer that did not get through.
pub(super) fn failure(error: reqwest::Error, token: &Secret) -> RemoteError {
    RemoteError::transient(text::readable(&chain(error), &[token]))
}

/// What went wrong where no token was involved.
pub(super) fn describe(error: reqwest::Error) -> String {
    text::public(&chain(error))
}

/// The whole chain of causes, since the outermost says little, without the URL.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    message
}
