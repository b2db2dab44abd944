//! Which server a command talks to, and with which token.

use std::{ffi::OsString, fs, path::Path};

use dynos_sync::remote::HttpRemote;

use crate::{
    cli::RemoteArgs,
    config_file::Remembered,
    error::{Code, Failure},
};

/// A server and the token for it.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
}

impl Connection {
    /// The flag counts before the environment, and that before what is remembered. A remembered token goes to no other
    /// server than the one that it was remembered with.
    pub(crate) fn resolve(given: &RemoteArgs, database: &Path) -> Result<Self, Failure> {
        let remembered = Remembered::load(database)?;
        let url = given.remote.clone().or(variable("DYNOS_REMOTE")?);
        let url = url.or_else(|| remembered.as_ref().map(|known| known.remote.clone())).ok_or_else(|| {
            Failure::new(Code::Usage, "no server is named")
                .hint("give --remote URL, set DYNOS_REMOTE, or remember one with dynos track --remember")
        })?;
        let known = remembered.filter(|known| same(&known.remote, &url)).and_then(|known| known.token);
        let token = match given_token(given)? {
            Some(token) => Some(token),
            None => known,
        };
        Ok(Self { url, token })
    }

    /// The client. Nothing is sent yet.
    pub(crate) fn open(&self, allow_plain_http: bool) -> Result<HttpRemote, Failure> {
        let Some(token) = &self.token else {
            return Err(Failure::signed_out("there is no token for this server"));
        };
        Ok(HttpRemote::builder(&self.url).token(token.as_str()).allow_plain_http(allow_plain_http).build()?)
    }

    /// Writes it down beside the database.
    pub(crate) fn remember(&self, database: &Path) -> Result<(), Failure> {
        let remembered = Remembered { remote: self.url.clone(), token: self.token.clone() };
        remembered.save(database).map(drop)
    }
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

fn given_token(given: &RemoteArgs) -> Result<Option<String>, Failure> {
    if let Some(token) = &given.token {
        return Ok(Some(token.trim().to_owned()));
    }
    if let Some(path) = &given.token_file {
        let text = fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
        return Ok(Some(text.trim().to_owned()));
    }
    variable("DYNOS_TOKEN")
}

/// A variable of the environment; an empty one counts as missing.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var_os(name).filter(|value| !value.is_empty()).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value.trim().to_owned())),
        Some(Err(_)) => Err(Failure::new(Code::Usage, format!("{name} is not text"))),
    }
}
