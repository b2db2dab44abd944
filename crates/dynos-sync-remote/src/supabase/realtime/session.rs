//! One connection: joined, kept alive and listened to until it fails.

use std::{convert::Infallible, future::Future, time::Duration};

use dynos_sync_core::TableName;
use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::{
    Client,
    connection::{self, Socket},
    outbox::Outbox,
    phoenix::{self, Event},
};
use crate::{
    token::{Secret, TokenError},
    transport::text,
};

/// Why a connection ended, or never came about. Holds no token, no key and nothing of a row.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("there is no token: {0}")]
    Token(String),
    #[error("no connection: {0}")]
    Unreachable(String),
    #[error("{what} took longer than {limit:?}")]
    Late { what: &'static str, limit: Duration },
    #[error("the connection failed: {0}")]
    Broken(String),
    #[error("a heartbeat was not answered")]
    Silent,
    /// The server does not want this channel, or not any more.
    #[error("the server refused the channel: {0}")]
    Refused(String),
}

/// What remains to be known of a connection that ended.
pub(super) struct Ended {
    pub(super) failure: Failure,
    /// The token that it ended with.
    pub(super) token: Option<Secret>,
    /// Whether it was of use: it answered a heartbeat after it was joined.
    pub(super) lasted: bool,
}

struct Session<'a> {
    client: &'a Client,
    tables: &'a [TableName],
    socket: Socket,
    token: Secret,
    /// The number of the last message that was sent; the join is the first.
    sent: u64,
    joined: bool,
    /// The number of the heartbeat that waits for its reply.
    unanswered: Option<u64>,
    lasted: bool,
}

const JOIN: u64 = 1;

impl Client {
    /// Connects, and listens until the connection ends.
    pub(super) async fn listen(&self, tables: &[TableName], outbox: &mut Outbox) -> Ended {
        let opened = async {
            let token = self.token().await?;
            let socket = self.connect().await?;
            Ok((token, socket))
        };
        let (token, socket) = match opened.await {
            Ok(opened) => opened,
            Err(failure) => return Ended { failure, token: None, lasted: false },
        };
        let (sent, joined, unanswered, lasted) = (JOIN, false, None, false);
        let mut session = Session { client: self, tables, socket, token, sent, joined, unanswered, lasted };
        let Err(failure) = session.run(outbox).await;
        Ended { failure, token: Some(session.token), lasted: session.lasted }
    }

    async fn token(&self) -> Result<Secret, Failure> {
        in_time("the token", self.timing.reply, self.tokens.token()).await?.map_err(|error| match error {
            TokenError::Unavailable(message) | TokenError::SignedOut(message) => {
                Failure::Token(text::public(&message))
            }
        })
    }

    async fn connect(&self) -> Result<Socket, Failure> {
        let opened = async {
            let wire =
                self.dial.dial().await.map_err(|error| Failure::Unreachable(error.kind().to_string()))?;
            connection::open(wire, &self.url, &self.user_agent)
                .await
                .map_err(|error| Failure::Unreachable(connection::describe(&error)))
        };
        in_time("the connection", self.timing.connect, opened).await?
    }
}

async fn in_time<T>(
    what: &'static str,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    timeout(limit, work).await.map_err(|_| Failure::Late { what, limit })
}

impl Session<'_> {
    async fn run(&mut self, outbox: &mut Outbox) -> Result<Infallible, Failure> {
        let timing = &self.client.timing;
        self.send(phoenix::join(&self.client.schema, self.tables, &self.token, JOIN)).await?;
        let deadline = Instant::now() + timing.reply;
        let mut heartbeat = interval_at(Instant::now() + timing.heartbeat, timing.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = self.socket.next() => self.receive(message, outbox)?,
                _ = heartbeat.tick() => self.beat().await?,
                () = outbox.deliver() => {}
                () = sleep_until(deadline), if !self.joined => {
                    return Err(Failure::Late { what: "the reply to the join", limit: timing.reply });
                }
            }
        }
    }

    fn receive(
        &mut self,
        message: Option<Result<Message, WsError>>,
        outbox: &mut Outbox,
    ) -> Result<(), Failure> {
        match message {
            None => Err(Failure::Broken("the connection was closed".to_owned())),
            Some(Err(error)) => Err(Failure::Broken(connection::describe(&error))),
            Some(Ok(Message::Text(frame))) => self.heed(Event::read(&frame), outbox),
            // Pings are answered by the WebSocket itself; this form of the protocol has no binary messages.
            Some(Ok(_)) => Ok(()),
        }
    }

    fn heed(&mut self, event: Event, outbox: &mut Outbox) -> Result<(), Failure> {
        match event {
            Event::Reply { reference: JOIN, outcome } if !self.joined => {
                outcome.map_err(|reason| self.refused(&reason))?;
                self.joined = true;
                outbox.everything();
            }
            Event::Reply { reference, .. } if self.unanswered == Some(reference) => {
                self.unanswered = None;
                self.lasted = self.joined;
            }
            // What changed before it was not announced.
            Event::Subscribed => outbox.everything(),
            Event::Changed { schema, table } if schema == self.client.schema => self.changed(&table, outbox),
            Event::Trouble(reason) => return Err(self.refused(&reason)),
            Event::Closed => return Err(Failure::Refused("it closed it".to_owned())),
            Event::Reply { .. } | Event::Changed { .. } | Event::Other => {}
        }
        Ok(())
    }

    fn changed(&self, name: &str, outbox: &mut Outbox) {
        if self.tables.is_empty() {
            outbox.any_table();
        } else if let Some(table) = self.tables.iter().find(|table| table.as_str() == name) {
            outbox.table(table);
        }
    }

    /// Asks for a sign of life, and hands over the token where there is a new one.
    async fn beat(&mut self) -> Result<(), Failure> {
        if self.unanswered.is_some() {
            return Err(Failure::Silent);
        }
        let reference = self.number();
        self.unanswered = Some(reference);
        self.send(phoenix::heartbeat(reference)).await?;
        let token = self.client.token().await?;
        if self.joined && token != self.token {
            self.token = token;
            let reference = self.number();
            self.send(phoenix::access_token(&self.token, reference, JOIN)).await?;
        }
        Ok(())
    }

    fn number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    async fn send(&mut self, message: String) -> Result<(), Failure> {
        in_time("sending", self.client.timing.reply, self.socket.send(Message::text(message)))
            .await?
            .map_err(|error| Failure::Broken(connection::describe(&error)))
    }

    /// The server's words, without the secrets that it may repeat.
    fn refused(&self, reason: &str) -> Failure {
        Failure::Refused(text::readable(reason, &[&self.token, &self.client.api_key]))
    }
}
