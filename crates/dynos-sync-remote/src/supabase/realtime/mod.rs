//! Live hints from Supabase Realtime: Phoenix channels over a WebSocket.
//!
//! A hint says that a pull is worth it, never what changed: of a message nothing but the table's name is used. So
//! nothing depends on a message being delivered. Whatever may have been missed is made up for by a hint that names
//! no table, which means "pull everything" and is given at every beginning of a subscription.
//!
//! The token is taken from the provider and never renewed here, because a refresh that ran beside the one of an HTTP
//! call could end the session. Where the server refuses the channel, one such hint a token is given instead: the pull
//! that follows meets the same refusal, and renews the token.

mod connection;
mod follow;
mod outbox;
mod phoenix;
mod session;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use dynos_sync_core::{TableName, wire::Hint};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;

use self::{
    connection::{Dial, Network},
    outbox::Outbox,
};
use crate::{
    error::BuildError,
    token::{Secret, TokenProvider},
    transport::Endpoint,
};

/// Where Realtime is, and who listens.
pub(crate) struct RealtimeSettings {
    /// The project's URL, `https://PROJECT.supabase.co`.
    pub(crate) endpoint: Endpoint,
    /// The project's public ("anon") API key.
    pub(crate) api_key: Secret,
    /// Supplies the user's token. Asked at every heartbeat.
    pub(crate) tokens: Arc<dyn TokenProvider>,
    /// The schema of the tables.
    pub(crate) schema: String,
    /// The only root that is trusted, in PEM; the platform's where it is absent.
    pub(crate) root_certificate: Option<Vec<u8>>,
    /// The `User-Agent` header.
    pub(crate) user_agent: String,
    /// How long to wait for what.
    pub(crate) timing: Timing,
}

/// How long to wait for what.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    /// For a connection, TLS and WebSocket handshakes included.
    pub(crate) connect: Duration,
    /// For the token, for a reply to the join, and for the server to take what is sent.
    pub(crate) reply: Duration,
    /// Between two heartbeats. One that is unanswered when the next is due ends the connection. The server ends one
    /// that is silent for a minute.
    pub(crate) heartbeat: Duration,
    /// How long a first change waits for others that it can share a hint with.
    pub(crate) gather: Duration,
    /// The longest pause before the next connection. The first is one to two seconds.
    pub(crate) longest_pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            reply: Duration::from_secs(10),
            heartbeat: Duration::from_secs(25),
            gather: Duration::from_millis(100),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// A project's live hints.
pub(crate) struct Realtime {
    client: Arc<Client>,
}

struct Client {
    dial: Box<dyn Dial>,
    /// Holds the API key.
    url: Secret,
    api_key: Secret,
    user_agent: String,
    tokens: Arc<dyn TokenProvider>,
    schema: String,
    timing: Timing,
}

impl Realtime {
    /// Checks the settings. Nothing is sent.
    ///
    /// # Errors
    /// [`BuildError::Certificate`] or [`BuildError::Client`] where TLS cannot be set up.
    pub(crate) fn new(settings: RealtimeSettings) -> Result<Self, BuildError> {
        let dial = Network::new(&settings.endpoint, settings.root_certificate.as_deref())?;
        Ok(Self::with_dial(settings, Box::new(dial)))
    }

    fn with_dial(settings: RealtimeSettings, dial: Box<dyn Dial>) -> Self {
        let url = connection::url(&settings.endpoint, &settings.api_key);
        let RealtimeSettings { api_key, tokens, schema, user_agent, timing, .. } = settings;
        Self { client: Arc::new(Client { dial, url, api_key, user_agent, tokens, schema, timing }) }
    }

    /// Hints about these tables; about every table of the schema where none is named, and then the hints name none.
    ///
    /// Connects when first polled, in tokio, and goes on until dropped: lost connections are replaced after a pause
    /// that grows. The socket is served while nobody polls, and what comes meanwhile waits as one hint.
    pub(crate) fn hints(&self, tables: Vec<TableName>) -> BoxStream<'static, Hint> {
        let client = Arc::clone(&self.client);
        stream::once(async move {
            let (sender, hints) = mpsc::channel(1);
            tokio::spawn(async move {
                let mut outbox = Outbox::new(sender.clone(), client.timing.gather);
                tokio::select! {
                    () = sender.closed() => {}
                    () = client.follow(&tables, &mut outbox) => {}
                }
            });
            stream::unfold(hints, |mut hints| async { hints.recv().await.map(|hint| (hint, hints)) })
        })
        .flatten()
        .boxed()
    }
}
