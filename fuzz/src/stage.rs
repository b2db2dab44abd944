//! A server as the network sees it, without the network: its router, on an SQLite store.

use std::{cell::RefCell, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, header},
};
use dynos_sync_core::Millis;
use dynos_sync_server::{
    Config, Server,
    config::{Auth, Durability, Limits, Now, Secret, Threads},
};
use http_body_util::BodyExt as _;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;

use crate::script;

/// What signs the tokens that the server takes.
pub(crate) const SECRET: &str = "canary-secret: long enough for HS256";

/// The time, which stands still.
pub(crate) const NOW: Millis = 1_800_000_000_000;

/// After how many users a new server takes over: a database that grows makes the later inputs slow.
const USERS: u64 = 20_000;

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// A server, and who calls it. Each input is a user of its own: the server's users do not see each other.
pub(crate) struct Stage {
    runtime: Runtime,
    router: Router,
    users: u64,
    _folder: TempDir,
}

/// What was answered.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Stage {
    /// Hands out the thread's server.
    pub(crate) fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        STAGE.with_borrow_mut(|stage| {
            if stage.as_ref().is_some_and(|stage| stage.users >= USERS) {
                *stage = None;
            }
            work(stage.get_or_insert_with(Self::new))
        })
    }

    fn new() -> Self {
        let folder = script::folder();
        let mut config = Config::new(folder.path().join("server.db"), Auth::Secret(Secret::new(SECRET)));
        config.now = Now::new(|| NOW);
        config.durability = Durability::Normal;
        config.threads = Threads::Caller;
        config.limits = limits();
        let server = Server::open(config).expect("a server on an empty folder");
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { runtime, router: server.router(), users: 0, _folder: folder }
    }

    /// The `Authorization` of somebody who was not there before.
    pub(crate) fn newcomer(&mut self) -> String {
        self.users += 1;
        let subject = format!("user {}", self.users);
        let lifetime = Duration::from_secs(60);
        let token = dynos_sync_server::mint(&Secret::new(SECRET), &subject, lifetime, NOW);
        format!("Bearer {}", token.expect("a token"))
    }

    /// A request; `None` where HTTP itself does not let the header through.
    pub(crate) fn call(&self, authorization: &[u8], path: &str, body: Option<&[u8]>) -> Option<Answered> {
        let authorization = HeaderValue::from_bytes(authorization).ok()?;
        let request = Request::builder().uri(path).header(header::AUTHORIZATION, authorization);
        let request = match body {
            None => request.method("GET").body(Body::empty()),
            Some(body) => request
                .method("POST")
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_vec())),
        };
        let router = self.router.clone();
        self.runtime.block_on(async {
            let response = router.oneshot(request.ok()?).await.ok()?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes().to_vec();
            Some(Answered { status, body })
        })
    }
}

/// Small enough for an input to reach them.
fn limits() -> Limits {
    Limits {
        body_bytes: 16 << 10,
        decoded_bytes: 16 << 10,
        push_entries: 12,
        record_bytes: 1 << 10,
        page_changes: 5,
        page_bytes: 2 << 10,
        tables: 6,
        ..Limits::default()
    }
}
