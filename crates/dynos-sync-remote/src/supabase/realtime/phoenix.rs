//! The messages of Phoenix channels, version 1.0.0 of their form, and of Realtime.
//!
//! <https://supabase.com/docs/guides/realtime/protocol>

use std::borrow::Cow;

use dynos_sync_core::TableName;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use crate::token::Secret;

/// The one channel of a connection. The name after the colon is ours to choose.
pub(super) const TOPIC: &str = "realtime:dynos-sync";
/// Where heartbeats go.
const PHOENIX: &str = "phoenix";

#[derive(Serialize)]
struct Outgoing<'a> {
    topic: &'a str,
    event: &'a str,
    payload: serde_json::Value,
    #[serde(rename = "ref")]
    reference: String,
    join_ref: Option<String>,
}

fn message(event: &str, payload: serde_json::Value, reference: u64, join: u64) -> String {
    let (reference, join_ref) = (reference.to_string(), Some(join.to_string()));
    text(&Outgoing { topic: TOPIC, event, payload, reference, join_ref })
}

fn text(message: &Outgoing<'_>) -> String {
    serde_json::to_string(message).expect("BUG: a message of texts and numbers is JSON")
}

/// Subscribes to changes of these tables; of the whole schema where none is named.
pub(super) fn join(schema: &str, tables: &[TableName], token: &Secret, reference: u64) -> String {
    let mut changes: Vec<_> =
        tables.iter().map(|table| json!({"event": "*", "schema": schema, "table": table.as_str()})).collect();
    if changes.is_empty() {
        changes.push(json!({"event": "*", "schema": schema}));
    }
    let config = json!({
        "broadcast": {"ack": false, "self": false},
        "presence": {"enabled": false, "key": ""},
        "postgres_changes": changes,
        "private": false,
    });
    message("phx_join", json!({"config": config, "access_token": token.expose()}), reference, reference)
}

/// Replaces the token of a channel that was joined.
pub(super) fn access_token(token: &Secret, reference: u64, join: u64) -> String {
    message("access_token", json!({"access_token": token.expose()}), reference, join)
}

/// Asks for a sign of life.
pub(super) fn heartbeat(reference: u64) -> String {
    let reference = reference.to_string();
    text(&Outgoing { topic: PHOENIX, event: "heartbeat", payload: json!({}), reference, join_ref: None })
}

/// What a message of the server means to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The reply to the message with this number; `Err` is the server's reason for refusing.
    Reply { reference: u64, outcome: Result<(), String> },
    /// A row of a table was inserted, updated or deleted.
    Changed { schema: String, table: String },
    /// From now on changes are announced. Comes some time after the reply to the join, and again where the server lost its
    /// own connection to the database.
    Subscribed,
    /// The server could not subscribe, or gives the channel up.
    Trouble(String),
    /// The channel is closed or has crashed.
    Closed,
    /// Nothing that concerns us.
    Other,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ref")]
    reference: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Reply<'a> {
    status: String,
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Refusal {
    reason: String,
}

#[derive(Deserialize)]
struct Changes {
    data: Change,
}

/// The rest, which is the row, is skipped.
#[derive(Deserialize)]
struct Change {
    schema: String,
    table: String,
}

#[derive(Deserialize)]
struct System {
    status: String,
    #[serde(default)]
    extension: String,
    #[serde(default)]
    message: Option<serde_json::Value>,
}

impl Event {
    /// Reads a frame. What is not understood is [`Event::Other`]: servers learn new messages.
    pub(super) fn read(frame: &str) -> Self {
        Self::understand(frame).unwrap_or(Self::Other)
    }

    fn understand(frame: &str) -> Option<Self> {
        let incoming: Incoming<'_> = serde_json::from_str(frame).ok()?;
        let payload = incoming.payload.map_or("null", RawValue::get);
        match (&*incoming.topic, &*incoming.event) {
            (TOPIC | PHOENIX, "phx_reply") => {
                let reply: Reply<'_> = serde_json::from_str(payload).ok()?;
                let reference = incoming.reference?.parse().ok()?;
                let outcome = if reply.status == "ok" { Ok(()) } else { Err(reason(reply.response)) };
                Some(Self::Reply { reference, outcome })
            }
            (TOPIC, "postgres_changes") => {
                let Change { schema, table } = serde_json::from_str::<Changes>(payload).ok()?.data;
                Some(Self::Changed { schema, table })
            }
            (TOPIC, "system") => {
                let system: System = serde_json::from_str(payload).ok()?;
                match (&*system.status, &*system.extension) {
                    ("ok", "postgres_changes") => Some(Self::Subscribed),
                    ("ok", _) => None,
                    _ => Some(Self::Trouble(plain(system.message.unwrap_or_default()))),
                }
            }
            (TOPIC, "phx_close" | "phx_error") => Some(Self::Closed),
            _ => None,
        }
    }
}

fn reason(response: Option<&RawValue>) -> String {
    response
        .and_then(|response| serde_json::from_str::<Refusal>(response.get()).ok())
        .map_or_else(|| "no reason was given".to_owned(), |refusal| refusal.reason)
}

fn plain(message: serde_json::Value) -> String {
    match message {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}
