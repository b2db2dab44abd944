//! How a project is configured.

use std::{fmt, sync::Arc, time::Duration};

use dynos_sync_core::Remote;

use super::{
    SupabaseRemote,
    client::Client,
    gotrue::GoTrueSession,
    managed::Managed,
    plain::Plain,
    realtime::{Realtime, RealtimeSettings, Timing},
};
use crate::{connection::Connection, error::BuildError, token::Secret, transport::Endpoint};

/// Configures a [`SupabaseRemote`]; begin with [`SupabaseRemote::builder`]. Only a token or a session is required.
#[derive(Clone)]
#[must_use = "a builder does nothing until build() is called"]
pub struct SupabaseRemoteBuilder {
    connection: Connection,
    anon_key: Secret,
    mode: Mode,
}

/// Who keeps the protocol's books.
#[derive(Clone)]
enum Mode {
    /// Functions in the project's database.
    Managed,
    /// Nobody: tables as they are. What may be committed so late is pulled again.
    Plain { window: Duration },
}

token_settings!(SupabaseRemoteBuilder);
connection_settings!(SupabaseRemoteBuilder);

impl SupabaseRemoteBuilder {
    const WINDOW: Duration = Duration::from_secs(30);

    pub(super) fn new(url: String, anon_key: Secret) -> Self {
        Self { connection: Connection::new(url), anon_key, mode: Mode::Managed }
    }

    /// The user who signed in, whose token is renewed as it expires.
    pub fn session(self, session: GoTrueSession) -> Self {
        self.token_provider(Arc::new(session))
    }

    /// The project's database has the functions that `dynos supabase init` prints. This is the default.
    pub fn managed(mut self) -> Self {
        self.mode = Mode::Managed;
        self
    }

    /// Nothing was installed in the project's database: tables are synced as they are. Weaker than
    /// [`managed`](Self::managed); `docs/supabase.md` says what a table needs and what is promised. A call makes as many
    /// requests as it needs; each has the [`timeout`](Self::timeout) to itself.
    pub fn plain(self) -> Self {
        self.plain_within(Self::WINDOW)
    }

    /// As [`plain`](Self::plain), for a project whose transactions may take up to `window` from their first statement
    /// to their commit: so long are rows listed again. Default: 30 s, well above the 8 s that a hosted project gives a
    /// statement. Too short, and devices miss rows that were committed late, until these are written again; too long, and
    /// each pull repeats more. With zero nothing is listed again.
    pub fn plain_within(mut self, window: Duration) -> Self {
        self.mode = Mode::Plain { window };
        self
    }

    /// Makes the remote. Nothing is sent yet.
    ///
    /// # Errors
    /// [`BuildError`], saying which setting is wrong and what to do.
    pub fn build(self) -> Result<SupabaseRemote, BuildError> {
        let realtime = Arc::new(self.realtime()?);
        let client = Client::new(self.connection, &self.anon_key)?;
        let url = client.endpoint().to_string();
        let mode: Arc<dyn Remote> = match self.mode {
            Mode::Managed => Arc::new(Managed::new(client)),
            Mode::Plain { window } => Arc::new(Plain::new(client, window)),
        };
        Ok(SupabaseRemote { url, mode, realtime })
    }

    fn realtime(&self) -> Result<Realtime, BuildError> {
        let Connection { url, provider, allow_plain_http, settings } = self.connection.clone();
        Realtime::new(RealtimeSettings {
            endpoint: Endpoint::parse(&url, allow_plain_http)?,
            api_key: self.anon_key.clone(),
            tokens: provider.ok_or(BuildError::NoToken)?,
            schema: "public".to_owned(),
            root_certificate: settings.root_certificate,
            user_agent: settings.user_agent,
            timing: Timing { connect: settings.connect_timeout, ..Timing::default() },
        })
    }
}

impl fmt::Debug for SupabaseRemoteBuilder {
    /// Without the URL, which was not checked for a password yet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupabaseRemoteBuilder").finish_non_exhaustive()
    }
}
