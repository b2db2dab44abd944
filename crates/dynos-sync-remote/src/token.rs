//! Where the bearer token comes from.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

/// A token, or anything else that is not to be shown. Neither `Debug` nor `Display` reveals it; cloning shares it.
///
/// ```
/// use dynos_sync_remote::Secret;
/// let secret = Secret::new("eyJhbGciOi…");
/// assert_eq!(format!("{secret} {secret:?}"), "[secret] [secret]");
/// assert_eq!(secret.expose(), "eyJhbGciOi…");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }

    /// The text. Where it goes from here is the caller's responsibility.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without the secret: a server or a provider may repeat it in a message. What is shorter than 8
    /// bytes is a placeholder, and would take half of the words with it.
    #[cfg(feature = "transport")]
    pub(crate) fn scrub(&self, text: &str) -> String {
        if self.0.len() < 8 { text.to_owned() } else { text.replace(&*self.0, "[secret]") }
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Supplies the bearer token, and renews it when the server no longer takes it.
///
/// Both methods are cut off after the remote's timeout. They run while a call is waiting, so they may ask an
/// account service over the network, but should not wait for the user.
#[async_trait]
pub trait TokenProvider: Send + Sync + 'static {
    /// The token to use now. Called once for every call of the remote, so it should be kept in memory.
    ///
    /// # Errors
    /// [`TokenError`] where there is none.
    async fn token(&self) -> Result<Secret, TokenError>;

    /// Replaces the token that the server refused, and answers the new one, which
    /// [`token`](Self::token) answers too from then on. `None` means that it cannot be renewed.
    ///
    /// Concurrent calls that were refused with the same token share one refresh. If the current token is no
    /// longer `stale`, because the user signed in again meanwhile, answer the current one.
    ///
    /// # Errors
    /// [`TokenError`], with the difference between "not now" and "never again".
    async fn refresh(&self, stale: &Secret) -> Result<Option<Secret>, TokenError>;
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not now: the account service cannot be reached. The call fails as transient and is tried again later.
    #[error("the token cannot be obtained now: {0}")]
    Unavailable(String),
    /// Not until somebody signs in again.
    #[error("signed out: {0}")]
    SignedOut(String),
}

/// A token that never changes: for servers with long-lived keys, for tools and for tests.
#[derive(Clone, Debug)]
pub struct StaticToken(Secret);

impl StaticToken {
    /// Always answers `token`.
    pub fn new(token: impl Into<Secret>) -> Self {
        Self(token.into())
    }
}

#[async_trait]
impl TokenProvider for StaticToken {
    async fn token(&self) -> Result<Secret, TokenError> {
        Ok(self.0.clone())
    }

    async fn refresh(&self, _stale: &Secret) -> Result<Option<Secret>, TokenError> {
        Ok(None)
    }
}
