//! A fake of Supabase Realtime: the server's side of its protocol over a real WebSocket, as a test dictates it.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::mpsc, time::timeout};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
    },
};

use crate::{
    supabase::realtime::{
        connection::{Dial, Socket, Wire},
        phoenix::TOPIC,
    },
    token::{Secret, TokenError, TokenProvider},
};

/// Far more than anything takes; in tests with a paused clock it costs nothing.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Accepts the connections of one client.
pub(super) enum FakeRealtime {
    /// On a port of this machine.
    Network(TcpListener),
    /// In memory, so that the clock can be paused: it would run ahead of a real socket.
    Memory(mpsc::UnboundedReceiver<Box<dyn Wire>>),
}

/// Connects to a [`FakeRealtime::Memory`].
pub(super) struct Pipe(mpsc::UnboundedSender<Box<dyn Wire>>);

#[async_trait]
impl Dial for Pipe {
    async fn dial(&self) -> io::Result<Box<dyn Wire>> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        self.0.send(Box::new(theirs)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(ours))
    }
}

impl FakeRealtime {
    pub(super) async fn listen() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (Self::Network(listener), url)
    }

    pub(super) fn in_memory() -> (Self, Pipe) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self::Memory(receiver), Pipe(sender))
    }

    /// The next connection, after its handshake.
    pub(super) async fn accept(&mut self) -> Peer {
        let wire = match self {
            Self::Network(listener) => {
                let (tcp, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap();
                Box::new(tcp) as Box<dyn Wire>
            }
            Self::Memory(wires) => timeout(PATIENCE, wires.recv()).await.expect("a connection").unwrap(),
        };
        Peer::shake_hands(wire).await
    }

    /// The next connection, joined.
    pub(super) async fn accept_and_join(&mut self) -> Peer {
        let mut peer = self.accept().await;
        let join = peer.receive().await.expect("a join");
        peer.reply(&join, "ok", json!({"postgres_changes": []})).await;
        peer
    }
}

/// The server's end of a connection.
pub(super) struct Peer {
    pub(super) uri: String,
    pub(super) user_agent: String,
    socket: Socket,
}

impl Peer {
    pub(super) async fn shake_hands(wire: Box<dyn Wire>) -> Self {
        let (mut uri, mut user_agent) = (String::new(), String::new());
        #[expect(clippy::result_large_err, reason = "the type is given")]
        let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            uri = request.uri().to_string();
            user_agent = request.headers()["user-agent"].to_str().unwrap().to_owned();
            Ok(response)
        };
        let socket = accept_hdr_async(wire, look).await.unwrap();
        Self { uri, user_agent, socket }
    }

    /// The client's next message; `None` where it is gone.
    pub(super) async fn receive(&mut self) -> Option<Value> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("a message or the end") {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub(super) async fn send_text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    pub(super) async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    /// Bytes past the WebSocket.
    pub(super) async fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
        self.socket.get_mut().flush().await.unwrap();
    }

    pub(super) async fn send(&mut self, event: &str, payload: Value) {
        let message = json!({"topic": TOPIC, "event": event, "payload": payload, "ref": null});
        self.send_text(message.to_string()).await;
    }

    pub(super) async fn reply(&mut self, to: &Value, status: &str, response: Value) {
        let payload = json!({"status": status, "response": response});
        let message =
            json!({"topic": to["topic"], "event": "phx_reply", "payload": payload, "ref": to["ref"]});
        self.send_text(message.to_string()).await;
    }

    /// Announces a change of a row as Realtime does.
    pub(super) async fn change(&mut self, kind: &str, schema: &str, table: &str) {
        let mut data = json!({
            "schema": schema, "table": table, "type": kind, "commit_timestamp": "2026-01-01T00:00:00.000Z",
            "columns": [{"name": "id", "type": "int8"}, {"name": "title", "type": "text"}], "errors": null,
        });
        if kind != "DELETE" {
            data["record"] = json!({"id": 1, "title": "canary-record"});
        }
        if kind != "INSERT" {
            data["old_record"] = json!({"id": 1});
        }
        self.send("postgres_changes", json!({"ids": [7], "data": data})).await;
    }

    pub(super) async fn system(&mut self, extension: &str, status: &str, message: &str) {
        let payload =
            json!({"channel": "dynos-sync", "extension": extension, "status": status, "message": message});
        self.send("system", payload).await;
    }
}

/// A token that the test replaces.
#[derive(Clone)]
pub(super) struct Tokens(Arc<std::sync::Mutex<String>>);

impl Tokens {
    pub(super) fn new(token: &str) -> Self {
        Self(Arc::new(std::sync::Mutex::new(token.to_owned())))
    }

    pub(super) fn set(&self, token: &str) {
        *self.0.lock().unwrap() = token.to_owned();
    }
}

#[async_trait]
impl TokenProvider for Tokens {
    async fn token(&self) -> Result<Secret, TokenError> {
        Ok(Secret::new(self.0.lock().unwrap().clone()))
    }

    async fn refresh(&self, _stale: &Secret) -> Result<Option<Secret>, TokenError> {
        panic!("BUG: Realtime renews no token")
    }
}
