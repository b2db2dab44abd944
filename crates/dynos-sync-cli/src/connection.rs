//! Which server a command talks to, and with which token.

mod supabase;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use dynos_sync::{core::Remote, remote::HttpRemote};

use self::supabase::Project;
use crate::{
    cli::RemoteArgs,
    config_file::Remembered,
    error::{Code, Failure},
};

/// A server and the token for it.
pub(crate) struct Connection {
    url: String,
    token: Option<String>,
    /// Where the server is a Supabase project.
    project: Option<Project>,
    allow_plain_http: bool,
    database: PathBuf,
}

/// Where the server's address comes from says what kind of server it is.
enum Address {
    Dynos(String),
    Supabase(String),
}

impl Connection {
    /// The flag counts before the environment, and that before what is remembered. What is remembered of a server goes
    /// to no other one.
    pub(crate) fn resolve(given: &RemoteArgs, database: &Path) -> Result<Self, Failure> {
        let remembered = Remembered::load(database)?;
        let (url, is_project) = match address(given, remembered.as_ref())? {
            Address::Dynos(url) => (url, false),
            Address::Supabase(url) => (url, true),
        };
        let known =
            remembered.filter(|known| same(&known.remote, &url) && known.supabase.is_some() == is_project);
        let project = match is_project {
            true => Some(Project::resolve(given, known.as_ref().and_then(|known| known.supabase.clone()))?),
            false if given.email.is_some() || given.anon_key.is_some() || given.plain => {
                let message = "--email, --anon-key and --plain are for Supabase projects";
                return Err(
                    Failure::new(Code::Usage, message).hint("give --supabase URL, or set DYNOS_SUPABASE_URL")
                );
            }
            false => None,
        };
        // Whoever signs in wants neither the token of the environment nor a remembered one.
        let token = match given.email {
            Some(_) => None,
            None => given_token(given)?.or(known.and_then(|known| known.token)),
        };
        let (allow_plain_http, database) = (given.allow_plain_http, database.to_owned());
        Ok(Self { url, token, project, allow_plain_http, database })
    }

    /// The client. A Supabase project is signed in to, if need be; to a server nothing is sent yet.
    pub(crate) async fn open(&self) -> Result<Arc<dyn Remote>, Failure> {
        match (&self.project, &self.token) {
            (Some(project), token) => project.open(self, token.as_deref()).await,
            (None, Some(token)) => {
                let builder = HttpRemote::builder(&self.url).token(token.as_str());
                Ok(Arc::new(builder.allow_plain_http(self.allow_plain_http).build()?))
            }
            (None, None) => Err(Failure::signed_out("there is no token for this server")),
        }
    }

    /// Whether it is a project whose tables are synced as they are.
    pub(crate) fn is_plain(&self) -> bool {
        self.project.as_ref().is_some_and(|project| project.plain)
    }

    /// Writes it down beside the database. Of a sign-in to a Supabase project, what renews it.
    pub(crate) async fn remember(&self) -> Result<(), Failure> {
        if let Some(project) = &self.project {
            project.signed_in(self).await?;
        }
        self.remembered().save(&self.database).map(drop)
    }

    fn remembered(&self) -> Remembered {
        let supabase = self.project.as_ref().map(Project::remembered);
        Remembered { remote: self.url.clone(), token: self.token.clone(), supabase }
    }
}

fn address(given: &RemoteArgs, remembered: Option<&Remembered>) -> Result<Address, Failure> {
    if let Some(url) = given.remote.clone() {
        return Ok(Address::Dynos(url));
    }
    if let Some(url) = given.supabase.clone() {
        return Ok(Address::Supabase(url));
    }
    if let Some(url) = variable("DYNOS_REMOTE")? {
        return Ok(Address::Dynos(url));
    }
    if let Some(url) = variable("DYNOS_SUPABASE_URL")? {
        return Ok(Address::Supabase(url));
    }
    match remembered {
        Some(known) if known.supabase.is_some() => Ok(Address::Supabase(known.remote.clone())),
        Some(known) => Ok(Address::Dynos(known.remote.clone())),
        None => Err(Failure::new(Code::Usage, "no server is named").hint(
            "give --remote URL or --supabase URL, set DYNOS_REMOTE or DYNOS_SUPABASE_URL, or remember one with dynos \
             track --remember",
        )),
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
