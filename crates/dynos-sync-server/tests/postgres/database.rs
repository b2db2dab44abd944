//! Databases for tests.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio_postgres::{Client, NoTls};

/// A database of one's own, dropped in the end.
pub(crate) struct Database {
    server: String,
    name: String,
}

impl Database {
    /// A new, empty one.
    pub(crate) async fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = std::env::var("DYNOS_TEST_DATABASE_URL").expect(
            "DYNOS_TEST_DATABASE_URL is not set: these tests need a Postgres, run them with scripts/test",
        );
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        let database = Self { server, name };
        database.server_sql(&format!("CREATE DATABASE {}", database.name)).await;
        database
    }

    pub(crate) fn url(&self) -> String {
        self.url_of(&self.name)
    }

    fn url_of(&self, name: &str) -> String {
        let (base, _) = self.server.rsplit_once('/').unwrap();
        format!("{base}/{name}")
    }

    /// A connection, as the database's owner.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    /// Runs statements, as psql would.
    pub(crate) async fn sql(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    /// Keeps a copy. Nobody may be connected.
    pub(crate) async fn backup(&self) {
        let Self { name, .. } = self;
        self.server_sql(&format!("DROP DATABASE IF EXISTS {name}_copy WITH (FORCE)")).await;
        self.wait_until_alone().await;
        self.server_sql(&format!("CREATE DATABASE {name}_copy TEMPLATE {name}")).await;
    }

    /// Puts the copy in place.
    pub(crate) async fn restore(&self) {
        let Self { name, .. } = self;
        self.server_sql(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        self.server_sql(&format!("CREATE DATABASE {name} TEMPLATE {name}_copy")).await;
    }

    /// A connection that was closed takes the server a moment to notice.
    async fn wait_until_alone(&self) {
        let server = connect(&self.server).await;
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
        for _ in 0..500 {
            if server.query_one(sql, &[&self.name]).await.unwrap().get::<_, i64>(0) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("somebody is still connected to {}", self.name);
    }

    async fn server_sql(&self, sql: &str) {
        connect(&self.server).await.batch_execute(sql).await.unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // Tests end inside their runtime or outside of it: this needs one of its own.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = connect(&server).await;
                for name in [format!("{name}_copy"), name] {
                    let _ =
                        server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
                }
            });
        });
        let _ = dropping.join();
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
