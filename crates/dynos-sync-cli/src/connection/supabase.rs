//! A Supabase project, and who is signed in to it.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use dynos_sync::{
    core::Remote,
    remote::{GoTrueSession, Secret, SignInError, SupabaseRemote},
};
use tokio::sync::OnceCell;

use super::{Connection, variable};
use crate::{
    cli::RemoteArgs,
    config_file::{Remembered, RememberedProject},
    error::{Code, Failure},
};

/// What a project needs beside its address.
pub(super) struct Project {
    anon_key: String,
    pub(super) plain: bool,
    entry: Entry,
    session: OnceCell<GoTrueSession>,
    /// The newest refresh token, and whether it is to be written down at once.
    newest: Arc<Mutex<Option<String>>>,
}

/// How the user gets in, where no token is given.
enum Entry {
    Password {
        email: String,
        password: Secret,
    },
    /// By a refresh token that is in the file beside the database, where its successors have to go.
    Remembered(Secret),
    Closed,
}

impl Project {
    pub(super) fn resolve(given: &RemoteArgs, known: Option<RememberedProject>) -> Result<Self, Failure> {
        let plain = given.plain || known.as_ref().is_some_and(|known| known.plain);
        let known_key = known.as_ref().map(|known| known.anon_key.clone());
        let anon_key =
            given.anon_key.clone().map_or_else(|| variable("DYNOS_ANON_KEY"), |key| Ok(Some(key)))?;
        let anon_key = anon_key.or(known_key).ok_or_else(|| {
            Failure::new(Code::Usage, "the Supabase project's public key is missing")
                .hint("give --anon-key, or set DYNOS_ANON_KEY; the project's API settings show it")
        })?;
        let entry = match (&given.email, known.and_then(|known| known.refresh_token)) {
            (Some(email), _) => Entry::Password { email: email.clone(), password: password(given)? },
            (None, Some(token)) => Entry::Remembered(token.into()),
            (None, None) => Entry::Closed,
        };
        Ok(Self { anon_key, plain, entry, session: OnceCell::new(), newest: Arc::default() })
    }

    pub(super) async fn open(
        &self,
        connection: &Connection,
        token: Option<&str>,
    ) -> Result<Arc<dyn Remote>, Failure> {
        let builder = SupabaseRemote::builder(&connection.url, self.anon_key.as_str());
        let builder = if self.plain { builder.plain() } else { builder };
        let builder = match token {
            Some(token) => builder.token(token),
            None => builder.session(self.session(connection).await?.clone()),
        };
        Ok(Arc::new(builder.allow_plain_http(connection.allow_plain_http).build()?))
    }

    /// Signs in with the password, if that is the way and has not been done.
    pub(super) async fn signed_in(&self, connection: &Connection) -> Result<(), Failure> {
        match self.entry {
            Entry::Password { .. } => self.session(connection).await.map(drop),
            Entry::Remembered(_) | Entry::Closed => Ok(()),
        }
    }

    pub(super) fn remembered(&self) -> RememberedProject {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let refresh_token = newest.or_else(|| match &self.entry {
            Entry::Remembered(token) => Some(token.expose().to_owned()),
            Entry::Password { .. } | Entry::Closed => None,
        });
        RememberedProject { anon_key: self.anon_key.clone(), plain: self.plain, refresh_token }
    }

    async fn session(&self, connection: &Connection) -> Result<&GoTrueSession, Failure> {
        self.session.get_or_try_init(|| self.begin(connection)).await
    }

    async fn begin(&self, connection: &Connection) -> Result<GoTrueSession, Failure> {
        let newest = Arc::clone(&self.newest);
        let file = matches!(self.entry, Entry::Remembered(_)).then(|| connection.database.clone());
        let builder = GoTrueSession::builder(&connection.url, self.anon_key.as_str())
            .allow_plain_http(connection.allow_plain_http)
            .on_refresh_token(move |token| {
                *newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.expose().to_owned());
                if let Some(database) = &file
                    && let Err(failure) = replace(database, token)
                {
                    tracing::warn!(error = failure.message(), "the next sync will need a password");
                }
            });
        match &self.entry {
            Entry::Password { email, password } => Ok(builder.sign_in(email, password.clone()).await?),
            Entry::Remembered(token) => Ok(builder.refresh_token(token.clone())?),
            Entry::Closed => Err(Failure::signed_out("nobody is signed in to this Supabase project")),
        }
    }
}

/// The refresh token in the file is used up: its successor takes its place.
fn replace(database: &std::path::Path, token: &Secret) -> Result<(), Failure> {
    let Some(mut remembered) = Remembered::load(database)? else { return Ok(()) };
    if let Some(project) = &mut remembered.supabase {
        project.refresh_token = Some(token.expose().to_owned());
        remembered.save(database)?;
    }
    Ok(())
}

fn password(given: &RemoteArgs) -> Result<Secret, Failure> {
    if let Some(path) = &given.password_file {
        let text = fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
        return Ok(text.trim_end_matches(['\r', '\n']).into());
    }
    std::env::var("DYNOS_PASSWORD").ok().filter(|password| !password.is_empty()).map(Secret::from).ok_or_else(
        || {
            Failure::new(Code::Usage, "the password is missing")
                .hint("set DYNOS_PASSWORD, or give --password-file")
        },
    )
}

impl From<SignInError> for Failure {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Build(error) => error.into(),
            SignInError::Refused { ref code, .. } if code == "api_key" => {
                Self::new(Code::Server, error.to_string()).hint("check --anon-key")
            }
            SignInError::Refused { .. } => {
                Self::new(Code::SignInRequired, error.to_string()).hint("check --email and the password")
            }
            SignInError::Unavailable(_) => Self::new(Code::Unreachable, error.to_string()).hint(
                "nothing is lost: changes wait in the database; check --supabase, and sync again later",
            ),
            _ => {
                Self::new(Code::Server, error.to_string()).hint("check that --supabase is a Supabase project")
            }
        }
    }
}
