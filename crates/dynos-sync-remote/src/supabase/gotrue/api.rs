//! The two calls of GoTrue's that a session needs.

use std::time::Duration;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::error::{SignInError, refused};
use crate::{connection::Connection, error::BuildError, supabase::client::Client, token::Secret};

pub(super) struct Api {
    client: Client,
}

/// What a sign-in and a refresh bring.
pub(super) struct Tokens {
    pub(super) access: Secret,
    pub(super) refresh: Secret,
    /// How long the access token is valid from now on, where the service says so.
    pub(super) lifetime: Option<Duration>,
}

#[derive(Serialize)]
struct Password<'a> {
    email: &'a str,
    password: &'a str,
}

#[derive(Serialize)]
struct Refresh<'a> {
    refresh_token: &'a str,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    refresh_token: String,
    expires_in: Option<u32>,
}

impl Api {
    pub(super) fn new(connection: Connection, anon_key: &Secret) -> Result<Self, BuildError> {
        Ok(Self { client: Client::new(connection, anon_key)? })
    }

    pub(super) async fn sign_in(&self, email: &str, password: &Secret) -> Result<Tokens, SignInError> {
        self.token("password", &Password { email, password: password.expose() }, password).await
    }

    pub(super) async fn refresh(&self, token: &Secret) -> Result<Tokens, SignInError> {
        self.token("refresh_token", &Refresh { refresh_token: token.expose() }, token).await
    }

    /// `secret` is what the body holds that no message may show.
    async fn token(
        &self,
        grant: &str,
        body: &(impl Serialize + Sync),
        secret: &Secret,
    ) -> Result<Tokens, SignInError> {
        let request = self.client.json(Method::POST, "/auth/v1/token", body)?.query("grant_type", grant);
        let answer = self.client.send(&request).await?;
        if !answer.status.is_success() {
            return Err(refused(&answer, secret));
        }
        let granted: Granted = answer.json()?;
        Ok(Tokens {
            access: granted.access_token.into(),
            refresh: granted.refresh_token.into(),
            lifetime: granted.expires_in.map(u64::from).map(Duration::from_secs),
        })
    }
}
