//! How a session begins.

use std::{fmt, sync::Arc};

use super::{Access, GoTrueSession, Hook, api::Api, error::SignInError};
use crate::{
    connection::Connection,
    error::BuildError,
    token::{Secret, StaticToken},
};

/// Begins a [`GoTrueSession`]; see [`GoTrueSession::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until sign_in() or refresh_token() is called"]
pub struct GoTrueBuilder {
    connection: Connection,
    anon_key: Secret,
    hook: Option<Hook>,
}

connection_settings!(GoTrueBuilder);

impl GoTrueBuilder {
    pub(super) fn new(url: String, anon_key: Secret) -> Self {
        Self { connection: Connection::new(url), anon_key, hook: None }
    }

    /// Called with every new refresh token, the first one too, before it is needed: to write it down, in place of the
    /// one before. It should return soon, since calls wait for it.
    pub fn on_refresh_token(mut self, hook: impl Fn(&Secret) + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Signs in with a password.
    ///
    /// # Errors
    /// [`SignInError`], which tells a wrong password from a service that cannot be reached.
    pub async fn sign_in(
        self,
        email: &str,
        password: impl Into<Secret>,
    ) -> Result<GoTrueSession, SignInError> {
        let (api, hook) = self.open()?;
        let tokens = api.sign_in(email, &password.into()).await?;
        let session = GoTrueSession::new(api, hook, Some(Access::new(&tokens)), tokens.refresh.clone());
        session.shared.keep(&tokens.refresh);
        Ok(session)
    }

    /// Goes on with a session of which the newest refresh token was kept. Nothing is sent yet.
    ///
    /// # Errors
    /// [`BuildError`], where the URL, the key or a setting cannot be used.
    pub fn refresh_token(self, refresh_token: impl Into<Secret>) -> Result<GoTrueSession, BuildError> {
        let (api, hook) = self.open()?;
        Ok(GoTrueSession::new(api, hook, None, refresh_token.into()))
    }

    fn open(self) -> Result<(Api, Option<Hook>), BuildError> {
        let Self { mut connection, anon_key, hook } = self;
        connection.provider = Some(Arc::new(StaticToken::new(anon_key.clone())));
        Ok((Api::new(connection, &anon_key)?, hook))
    }
}

impl fmt::Debug for GoTrueBuilder {
    /// Without the URL, which was not checked for a password yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoTrueBuilder").finish_non_exhaustive()
    }
}
