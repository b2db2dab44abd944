//! The server, through real HTTP and the real client, passes the suite that every remote has to pass.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use dynos_sync_core::{Remote, conformance::remote::Fixture, remote_conformance};
use dynos_sync_remote::HttpRemote;
use dynos_sync_server::{config::Secret, mint};
use futures_util::future::BoxFuture;
use support::{Home, Running, SECRET};
use tokio::runtime::Runtime;

struct Served {
    home: Home,
    running: Mutex<Option<Running>>,
    runtime: Runtime,
}

impl Served {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let home = Home::new();
        let running = Mutex::new(Some(runtime.block_on(home.start())));
        Self { home, running, runtime }
    }

    fn copy(&self) -> PathBuf {
        self.home.path().join("backup.db")
    }

    async fn stop(&self) {
        let running = self.running.lock().unwrap().take();
        running.unwrap().stop().await;
    }

    async fn start(&self) {
        // A later life begins later.
        self.home.clock.advance(Duration::from_secs(1));
        let running = self.home.start().await;
        *self.running.lock().unwrap() = Some(running);
    }
}

#[async_trait::async_trait]
impl Fixture for Served {
    async fn remote(&self, user: &str) -> Arc<dyn Remote> {
        let (url, token) = {
            let running = self.running.lock().unwrap();
            let running = running.as_ref().unwrap();
            // Longer than the retention that a case may let pass.
            let year = Duration::from_secs(365 * 24 * 60 * 60);
            let token = mint(&Secret::new(SECRET), user, year, self.home.clock.now()).unwrap();
            (running.url(""), token)
        };
        Arc::new(HttpRemote::builder(url).token(token.as_str()).build().unwrap())
    }

    async fn backup(&self) -> Option<()> {
        let _ = fs::remove_file(self.copy());
        let database = rusqlite::Connection::open(self.home.database()).unwrap();
        database.execute("VACUUM INTO ?", [self.copy().to_str().unwrap()]).unwrap();
        Some(())
    }

    async fn restore(&self) {
        self.stop().await;
        fs::copy(self.copy(), self.home.database()).unwrap();
        self.start().await;
    }

    async fn purge(&self) -> Option<()> {
        self.home.clock.advance(Duration::from_secs(91 * 24 * 60 * 60));
        let server = self.running.lock().unwrap().as_ref().unwrap().server.clone();
        server.forget().await.unwrap();
        Some(())
    }

    fn run(&self, case: BoxFuture<'_, ()>) {
        self.runtime.block_on(case);
    }
}

remote_conformance!(Served::new());
