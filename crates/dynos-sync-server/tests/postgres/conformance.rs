//! The suite that every remote has to pass, through real HTTP, on a real Postgres.

use std::{sync::Arc, sync::Mutex, time::Duration};

use dynos_sync_core::{Remote, conformance::remote::Fixture, remote_conformance};
use dynos_sync_remote::HttpRemote;
use dynos_sync_server::{
    Server, config::Secret, mint, store::PostgresStore, store::postgres::PostgresOptions,
};
use futures_util::future::BoxFuture;
use tokio::runtime::Runtime;

use crate::{
    database::Database,
    support::{Home, Running, SECRET},
};

struct Served {
    home: Home,
    database: Database,
    running: Mutex<Option<Running>>,
    runtime: Runtime,
}

impl Served {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let home = Home::new();
        let database = Database::new();
        let served = Self { home, database, running: Mutex::new(None), runtime };
        served.runtime.block_on(served.start());
        served
    }

    async fn start(&self) {
        let mut options = PostgresOptions::new(self.database.url());
        options.connections = 4;
        let config = self.home.config();
        let store = PostgresStore::connect(&options, &config).await.unwrap();
        let server = Server::with_store(Arc::new(store), config).unwrap();
        *self.running.lock().unwrap() = Some(self.home.serve(server).await);
    }

    async fn stop(&self) {
        let running = self.running.lock().unwrap().take();
        running.unwrap().stop().await;
    }
}

#[async_trait::async_trait]
impl Fixture for Served {
    async fn remote(&self, user: &str) -> Arc<dyn Remote> {
        let url = self.running.lock().unwrap().as_ref().unwrap().url("");
        let year = Duration::from_secs(365 * 24 * 60 * 60);
        let token = mint(&Secret::new(SECRET), user, year, self.home.clock.now()).unwrap();
        Arc::new(HttpRemote::builder(url).token(token.as_str()).build().unwrap())
    }

    async fn backup(&self) -> Option<()> {
        self.stop().await;
        self.database.backup().await;
        self.start().await;
        Some(())
    }

    async fn restore(&self) {
        self.stop().await;
        self.database.restore().await;
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
