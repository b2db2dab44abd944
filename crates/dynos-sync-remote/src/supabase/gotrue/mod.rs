//! Signing in to a Supabase project, and staying so.

mod api;
mod builder;
pub(crate) mod error;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::Mutex;

use self::api::{Api, Tokens};
pub use self::{builder::GoTrueBuilder, error::SignInError};
use crate::{
    error::BuildError,
    token::{Secret, TokenError, TokenProvider},
};

/// A user who is signed in to a project. The token is renewed a little before it expires, and when the server no
/// longer takes it, once however many calls need it. Clones are the same session.
///
/// Each refresh token is good for one use: whoever wants to stay signed in beyond the end of the process keeps the
/// newest, see [`GoTrueBuilder::on_refresh_token`], and never uses one in two sessions.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use dynos_sync_remote::{GoTrueSession, SupabaseRemote};
///
/// let (url, anon_key) = ("https://abc.supabase.co", "eyJhbGciOi…");
/// let session = GoTrueSession::sign_in(url, anon_key, "ada@example.com", "her password").await?;
/// let remote = SupabaseRemote::builder(url, anon_key).session(session).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct GoTrueSession {
    shared: Arc<Shared>,
}

type Hook = Arc<dyn Fn(&Secret) + Send + Sync>;

struct Shared {
    api: Api,
    hook: Option<Hook>,
    /// Held during a refresh.
    state: Mutex<State>,
}

struct State {
    access: Option<Access>,
    refresh: Secret,
    /// Why the session is over.
    ended: Option<String>,
}

#[derive(Clone)]
struct Access {
    token: Secret,
    /// By the monotonic clock: a device whose time is wrong is signed in all the same.
    expiry: Option<Expiry>,
}

#[derive(Clone, Copy)]
struct Expiry {
    renew_at: Instant,
    ends_at: Instant,
}

impl GoTrueSession {
    /// Begins with the project's URL and its public key.
    pub fn builder(url: impl Into<String>, anon_key: impl Into<Secret>) -> GoTrueBuilder {
        GoTrueBuilder::new(url.into(), anon_key.into())
    }

    fn new(api: Api, hook: Option<Hook>, access: Option<Access>, refresh: Secret) -> Self {
        let state = Mutex::new(State { access, refresh, ended: None });
        Self { shared: Arc::new(Shared { api, hook, state }) }
    }

    /// Signs in with a password.
    ///
    /// # Errors
    /// [`SignInError`], which tells a wrong password from a service that cannot be reached.
    pub async fn sign_in(
        url: impl Into<String>,
        anon_key: impl Into<Secret>,
        email: &str,
        password: impl Into<Secret>,
    ) -> Result<Self, SignInError> {
        Self::builder(url, anon_key).sign_in(email, password).await
    }

    /// Goes on with a session of which the newest refresh token was kept. Nothing is sent yet.
    ///
    /// # Errors
    /// [`BuildError`], where the URL or the key cannot be used.
    pub fn from_refresh_token(
        url: impl Into<String>,
        anon_key: impl Into<Secret>,
        refresh_token: impl Into<Secret>,
    ) -> Result<Self, BuildError> {
        Self::builder(url, anon_key).refresh_token(refresh_token)
    }

    /// The current token. It is replaced first where it is `stale`, or where it is about to expire.
    ///
    /// A refresh runs to its end even where its caller has given up: the answer holds the next refresh token.
    async fn current(&self, stale: Option<Secret>) -> Result<Secret, TokenError> {
        let shared = Arc::clone(&self.shared);
        let working = tokio::spawn(async move { shared.state.lock().await.current(&shared, stale).await });
        working
            .await
            .unwrap_or_else(|_| Err(TokenError::Unavailable("the refresh was interrupted".to_owned())))
    }
}

impl State {
    async fn current(&mut self, shared: &Shared, stale: Option<Secret>) -> Result<Secret, TokenError> {
        if let Some(why) = &self.ended {
            return Err(TokenError::SignedOut(why.clone()));
        }
        let usable = self.access.clone().filter(|access| Some(&access.token) != stale.as_ref());
        match usable {
            Some(access) if !access.is_due(|expiry| expiry.renew_at) => Ok(access.token),
            usable => match (self.renew(shared).await, usable) {
                // Good for a little while.
                (Err(TokenError::Unavailable(_)), Some(access))
                    if !access.is_due(|expiry| expiry.ends_at) =>
                {
                    Ok(access.token)
                }
                (fresh, _) => fresh,
            },
        }
    }

    async fn renew(&mut self, shared: &Shared) -> Result<Secret, TokenError> {
        let tokens = shared.api.refresh(&self.refresh).await.map_err(TokenError::from);
        if let Err(TokenError::SignedOut(why)) = &tokens {
            self.ended = Some(why.clone());
        }
        let tokens = tokens?;
        let access = Access::new(&tokens);
        shared.keep(&tokens.refresh);
        *self = Self { access: Some(access), refresh: tokens.refresh, ended: None };
        Ok(tokens.access)
    }
}

impl Access {
    /// The longest time before its end at which a token is replaced; of a short life, a tenth.
    const MARGIN: Duration = Duration::from_secs(60);

    fn new(tokens: &Tokens) -> Self {
        let expiry = tokens.lifetime.map(|lifetime| {
            let ends_at = Instant::now() + lifetime;
            Expiry { renew_at: ends_at - Self::MARGIN.min(lifetime / 10), ends_at }
        });
        Self { token: tokens.access.clone(), expiry }
    }

    fn is_due(&self, when: impl Fn(&Expiry) -> Instant) -> bool {
        self.expiry.as_ref().is_some_and(|expiry| when(expiry) <= Instant::now())
    }
}

impl Shared {
    fn keep(&self, refresh: &Secret) {
        if let Some(hook) = &self.hook {
            hook(refresh);
        }
    }
}

#[async_trait]
impl TokenProvider for GoTrueSession {
    async fn token(&self) -> Result<Secret, TokenError> {
        self.current(None).await
    }

    async fn refresh(&self, stale: &Secret) -> Result<Option<Secret>, TokenError> {
        self.current(Some(stale.clone())).await.map(Some)
    }
}

impl fmt::Debug for GoTrueSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoTrueSession").finish_non_exhaustive()
    }
}
