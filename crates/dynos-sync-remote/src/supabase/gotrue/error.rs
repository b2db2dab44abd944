//! Why nobody is signed in.

use dynos_sync_core::RemoteError;
use serde::Deserialize;

use crate::{
    error::BuildError,
    token::{Secret, TokenError},
    transport::{Answer, json},
};

/// Why somebody could not be signed in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignInError {
    /// The URL, the key or a setting cannot be used. Nothing was sent.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A wrong password or e-mail address, an account that is not confirmed or barred, a session that is over.
    #[error("the sign-in was refused: {message} ({code})")]
    Refused {
        /// The service's word for the reason, such as `invalid_credentials`.
        code: String,
        /// The service's sentence.
        message: String,
    },
    /// It may work later: no network, a timeout, too many attempts, a failing service.
    #[error("nobody can sign in now: {0}")]
    Unavailable(String),
    /// The answer is not what the service promises.
    #[error("the answer is not one of Supabase's authentication: {0}")]
    Protocol(String),
}

/// A failure, as older and newer versions and the gateway word it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error_code: Option<String>,
    error: Option<String>,
    msg: Option<String>,
    error_description: Option<String>,
    message: Option<String>,
}

/// What a status that is no success means.
pub(crate) fn refused(answer: &Answer, secret: &Secret) -> SignInError {
    let ErrorBody { error_code, error, msg, error_description, message } = json::failure(&answer.body);
    let readable = |text: String| answer.readable_without(secret, &text);
    let by_gateway = message.map(readable);
    let code = error_code.or(error).map(readable);
    let message = msg.or(error_description).map(readable);
    let status = answer.status.as_u16();
    let http = || format!("HTTP status {}", answer.status);
    match (status, code, message) {
        (408 | 425 | 429 | 500..=599, _, message) => SignInError::Unavailable(message.unwrap_or_else(http)),
        (400..=499, None, None) => match by_gateway {
            Some(message) if message.contains("API key") => {
                SignInError::Refused { code: "api_key".to_owned(), message }
            }
            _ => SignInError::Protocol(http()),
        },
        (400..=499, code, message) => SignInError::Refused {
            code: code.unwrap_or_else(|| format!("http_{status}")),
            message: message.unwrap_or_else(http),
        },
        _ => SignInError::Protocol(http()),
    }
}

/// There was no answer, or none that can be read.
impl From<RemoteError> for SignInError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Transient { message, .. } => Self::Unavailable(message),
            RemoteError::Refused { code, message } => Self::Refused { code, message },
            RemoteError::Protocol(message) => Self::Protocol(message),
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// Only what the service says itself ends a session: what a proxy in between answers may pass.
impl From<SignInError> for TokenError {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Refused { .. } => Self::SignedOut(error.to_string()),
            SignInError::Build(_) | SignInError::Unavailable(_) | SignInError::Protocol(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{StatusCode, header::HeaderMap};

    use super::*;

    #[test]
    fn the_password_cannot_be_hidden() {
        let body = br#"{"error_code": "bad", "msg": "not can\u0007ary-password"}"#;
        let token = Secret::new("canary-token");
        let answer = Answer::received(StatusCode::BAD_REQUEST, HeaderMap::new(), body, token, 1000).unwrap();
        let error = refused(&answer, &Secret::new("canary-password")).to_string();
        assert!(error.contains("not [secret]"), "{error:?}");
    }
}
