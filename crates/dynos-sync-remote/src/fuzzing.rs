//! Ways in for the fuzz targets: what an answer from outside comes to, without a network.

use dynos_sync_core::{
    RemoteError, TableSpec,
    wire::{Heads, HeadsRequest, Hint, Page, PullRequest, PushAnswer, PushRequest},
};
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};

use crate::{
    checks,
    http::{self, sse::Parser},
    supabase::{
        SignInError,
        error::{self, Failure},
        gotrue, managed,
    },
    token::Secret,
    transport::{self, json},
};

/// The longest body that is read.
const LIMIT: usize = 1 << 20;

/// An answer that has arrived.
pub struct Answer(transport::Answer);

impl Answer {
    /// An answer to a call that was made with `token`. `None` where HTTP itself would not let it through, or where its body
    /// cannot be decoded.
    pub fn new(status: u16, headers: &[(&[u8], &[u8])], body: &[u8], token: &str) -> Option<Self> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        }
        let status = StatusCode::from_u16(status).ok()?;
        transport::Answer::received(status, map, body, Secret::new(token), LIMIT).map(Self)
    }

    /// As the answer of a sync server to `tables`.
    pub fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        checks::tables(http::read(&self.0)?)
    }

    /// As its answer to `heads`.
    pub fn heads(&self, request: &HeadsRequest) -> Result<Heads, RemoteError> {
        checks::heads(request, http::read(&self.0)?)
    }

    /// As its answer to `push`.
    pub fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        checks::push(request, http::read(&self.0)?)
    }

    /// As its answer to `pull`.
    pub fn page(&self, request: &PullRequest) -> Result<Page, RemoteError> {
        checks::page(request, http::read(&self.0)?)
    }

    /// As PostgREST's: what a failure means where a table was written or read, and where a function of the SQL core was
    /// called; and whether it would be the refusal of one row, with the words that go with it.
    pub fn postgrest(&self) -> Result<(), (RemoteError, RemoteError, Option<String>)> {
        let failure = || error::check(&self.0);
        failure().map_err(|first: Failure| {
            let row = first.rejection().map(|(_, message)| message.to_owned());
            let managed = failure().err().map_or(RemoteError::TooLarge, managed::failed);
            (first.into(), managed, row)
        })
    }

    /// As that of a project's sign-in, to which `secret` was shown.
    pub fn sign_in(&self, secret: &str) -> SignInError {
        gotrue::error::refused(&self.0, &Secret::new(secret))
    }
}

/// The hints in a stream of events, up to what ends it.
pub fn hints(stream: &[u8]) -> Vec<Hint> {
    let mut parser = Parser::default();
    let events = stream.iter().map_while(|byte| parser.feed(*byte).ok()).flatten();
    events.map_while(|event| json::decode(&event).ok()).collect()
}
