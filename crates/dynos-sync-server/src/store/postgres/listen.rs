//! Hearing of changes, whichever server or program made them.

use std::{future::poll_fn, time::Duration};

use dynos_sync_core::TableName;
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::{sync::broadcast, task::JoinHandle, time::sleep};
use tokio_postgres::AsyncMessage;

use super::{error::describe, pool::Direct};
use crate::store::{MOVES, Moved, Scope};

/// The first pause before a new connection, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// A connection that listens, made anew whenever it is lost.
#[derive(Debug)]
pub(super) struct Listener {
    moves: broadcast::Sender<Moved>,
    task: JoinHandle<()>,
}

impl Listener {
    pub(super) fn start(direct: Direct) -> Self {
        let moves = broadcast::Sender::new(MOVES);
        let task = tokio::spawn(listen(direct, moves.clone()));
        Self { moves, task }
    }

    pub(super) fn moves(&self) -> broadcast::Receiver<Moved> {
        self.moves.subscribe()
    }

    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn listen(direct: Direct, moves: broadcast::Sender<Moved>) {
    let mut pause = PAUSES[0];
    loop {
        match hear(&direct, &moves).await {
            Heard::Something => pause = PAUSES[0],
            Heard::Nothing => pause = (pause * 2).min(PAUSES[1]),
        }
        sleep(pause).await;
    }
}

/// Whether a connection came about before it was lost.
enum Heard {
    Something,
    Nothing,
}

/// Listens for as long as the connection lasts.
async fn hear(direct: &Direct, moves: &broadcast::Sender<Moved>) -> Heard {
    let (client, mut connection) = match direct.config.connect(direct.tls.clone()).await {
        Ok(connected) => connected,
        Err(error) => {
            tracing::warn!(error = %describe(&error), "changes cannot be listened for");
            return Heard::Nothing;
        }
    };
    let mut messages = futures_util::stream::poll_fn(move |context| connection.poll_message(context));
    let mut listening = Box::pin(client.batch_execute("LISTEN dynos"));
    let mut subscribed = false;
    loop {
        // The statement moves on only while the connection is driven.
        let message = poll_fn(|context| {
            if !subscribed && let std::task::Poll::Ready(done) = listening.as_mut().poll(context) {
                subscribed = done.is_ok();
                // What happened before nobody has heard of. (Nobody may be there to be told.)
                let _ = moves.send(Moved::Anything);
            }
            messages.poll_next_unpin(context)
        });
        match message.await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                for moved in parse(notification.payload()) {
                    let _ = moves.send(moved);
                }
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
    tracing::info!("the connection that listens for changes was lost");
    if subscribed { Heard::Something } else { Heard::Nothing }
}

#[derive(Deserialize)]
struct Payload {
    scope: String,
    tables: Vec<TableName>,
}

/// What a notification says. Anybody with a connection to the database may send one.
fn parse(payload: &str) -> Vec<Moved> {
    let Ok(Payload { scope, tables }) = serde_json::from_str(payload) else { return Vec::new() };
    let scope = match scope.strip_prefix("u:") {
        Some(subject) => Scope::User(subject.to_owned()),
        None => Scope::Shared,
    };
    tables.into_iter().map(|table| Moved::Table { scope: scope.clone(), table }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_name_scopes_and_tables() {
        let table = |scope| Moved::Table { scope, table: "tasks".parse().unwrap() };
        let ada = parse(r#"{"scope":"u:ada","tables":["tasks"]}"#);
        assert_eq!(ada, [table(Scope::User("ada".to_owned()))]);
        assert_eq!(parse(r#"{"scope":"s","tables":["tasks"]}"#), [table(Scope::Shared)]);
        for forged in ["", "{}", r#"{"scope":"s","tables":["dynos_meta"]}"#] {
            assert_eq!(parse(forged), [], "{forged}");
        }
    }
}
