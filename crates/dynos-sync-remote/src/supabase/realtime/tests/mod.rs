//! Hints as the engine gets them, from a fake of Supabase Realtime.

mod fake;
mod listening;
mod reading;
mod secrecy;
mod time;
mod trouble;

use std::{sync::Arc, time::Duration};

use dynos_sync_core::wire::Hint;
use futures_util::{StreamExt, stream::BoxStream};

use self::fake::{FakeRealtime, Pipe, Tokens};
use super::{Realtime, RealtimeSettings, Timing};
use crate::transport::Endpoint;

const TOKEN: &str = "canary-token-1";
const API_KEY: &str = "canary-key";

fn settings(url: &str, tokens: &Tokens, timing: Timing) -> RealtimeSettings {
    RealtimeSettings {
        endpoint: Endpoint::parse(url, false).unwrap(),
        api_key: API_KEY.into(),
        tokens: Arc::new(tokens.clone()),
        schema: "public".to_owned(),
        root_certificate: None,
        user_agent: "dynos-sync/test".to_owned(),
        timing,
    }
}

/// Over a real socket, with pauses so short that nobody waits for them.
fn over_network(url: &str) -> Realtime {
    let timing = Timing { longest_pause: Duration::from_millis(5), ..Timing::default() };
    Realtime::new(settings(url, &Tokens::new(TOKEN), timing)).unwrap()
}

/// Over a connection in memory, with the times of real life.
fn in_memory(pipe: Pipe, tokens: &Tokens) -> Realtime {
    Realtime::with_dial(settings("http://localhost", tokens, Timing::default()), Box::new(pipe))
}

fn hints(realtime: &Realtime, tables: &[&str]) -> BoxStream<'static, Hint> {
    realtime.hints(tables.iter().map(|table| table.parse().unwrap()).collect())
}

/// The tables of the next hint.
async fn next(hints: &mut BoxStream<'static, Hint>) -> Vec<String> {
    let hint = tokio::time::timeout(Duration::from_secs(3600), hints.next()).await.expect("a hint in time");
    hint.expect("hints do not end").tables.into_iter().map(String::from).collect()
}

const EVERYTHING: [&str; 0] = [];

/// The stream connects only when it is polled: the server's side of a test runs beside that.
async fn joined(fake: &mut FakeRealtime, hints: &mut BoxStream<'static, Hint>) -> fake::Peer {
    let (peer, hint) = tokio::join!(fake.accept_and_join(), next(hints));
    assert_eq!(hint, EVERYTHING);
    peer
}
