//! Live hints over server-sent events.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use dynos_sync_core::{RemoteError, wire::Hint};
use futures_util::stream::{self, BoxStream, StreamExt};
use reqwest::StatusCode;

use super::sse::Parser;
use crate::transport::{Accept, Opened, Request, Transport, json};

/// Begins with a hint about everything: what was committed between the last pull and this connection is a hint to nobody.
///
/// Connects when first polled, and ends with the connection, at the first error or after `idle` without a sign
/// of life. Nothing is read ahead of the caller but what one read of the socket brought.
pub(super) fn stream(transport: Arc<Transport>, idle: Duration) -> BoxStream<'static, Hint> {
    stream::once(async move { open(&transport).await })
        .map(move |opened| match opened {
            Ok(opened) => stream::once(async { missed() }).chain(events(Events::new(opened, idle))).boxed(),
            Err(error) => {
                tracing::debug!(%error, "no hints");
                stream::empty().boxed()
            }
        })
        .flatten()
        .boxed()
}

/// The hint that stands for whatever happened before anybody listened.
fn missed() -> Hint {
    Hint { tables: Vec::new() }
}

async fn open(transport: &Transport) -> Result<Opened, RemoteError> {
    let opened = transport.stream(&Request::get("/v1/events", Accept::Events)).await?;
    if opened.status() != StatusCode::OK {
        return Err(RemoteError::Protocol(format!("HTTP status {} in place of events", opened.status())));
    }
    match opened.media_type().as_deref() {
        Some("text/event-stream") => Ok(opened),
        _ => Err(RemoteError::Protocol("the answer is no stream of events".to_owned())),
    }
}

fn events(events: Events) -> BoxStream<'static, Hint> {
    stream::unfold(events, |mut events| async move {
        match events.next().await {
            Ok(hint) => hint.map(|hint| (hint, events)),
            Err(error) => {
                tracing::debug!(%error, "hints ended");
                None
            }
        }
    })
    .boxed()
}

struct Events {
    opened: Opened,
    idle: Duration,
    parser: Parser,
    waiting: VecDeque<Vec<u8>>,
}

impl Events {
    fn new(opened: Opened, idle: Duration) -> Self {
        Self { opened, idle, parser: Parser::default(), waiting: VecDeque::new() }
    }

    /// The next hint; `None` where the server closed the stream.
    async fn next(&mut self) -> Result<Option<Hint>, RemoteError> {
        loop {
            if let Some(data) = self.waiting.pop_front() {
                return json::decode(&data).map(Some);
            }
            let Some(bytes) = self.opened.chunk(self.idle).await? else { return Ok(None) };
            for byte in bytes {
                let event = self.parser.feed(byte).map_err(|_| oversize())?;
                self.waiting.extend(event);
            }
        }
    }
}

fn oversize() -> RemoteError {
    RemoteError::Protocol(format!("an event is longer than {} bytes", Parser::MAX_BYTES))
}
