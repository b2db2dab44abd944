//! Databases for tests.

use std::time::Duration;

use tokio_postgres::{Client, NoTls};

/// A database of one's own, and at times a copy of it.
pub(crate) struct Database(dynos_sync_testbed::Database);

impl Database {
    /// A new, empty one.
    pub(crate) fn new() -> Self {
        Self(dynos_sync_testbed::Database::create())
    }

    /// A new one, with the functions.
    pub(crate) async fn installed() -> Self {
        let database = Self::new();
        database.sql(&dynos_sync_sql::script()).await;
        database
    }

    pub(crate) fn url(&self) -> String {
        self.0.url().to_owned()
    }

    /// A connection, as the database's owner.
    pub(crate) async fn client(&self) -> Client {
        connect(self.0.url()).await
    }

    /// Runs statements, as psql would.
    pub(crate) async fn sql(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    /// A single value.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.client().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Keeps a copy, which ends with the server. Nobody may be connected.
    pub(crate) async fn backup(&self) {
        let name = self.name();
        self.wait_until_alone().await;
        self.server_sql(&format!("DROP DATABASE IF EXISTS {name}_copy WITH (FORCE)")).await;
        self.server_sql(&format!("CREATE DATABASE {name}_copy TEMPLATE {name}")).await;
    }

    /// Puts the copy in place.
    pub(crate) async fn restore(&self) {
        let name = self.name();
        self.server_sql(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        self.server_sql(&format!("CREATE DATABASE {name} TEMPLATE {name}_copy")).await;
    }

    fn name(&self) -> &str {
        self.0.url().rsplit_once('/').unwrap().1
    }

    /// A connection that was closed takes the server a moment to notice.
    async fn wait_until_alone(&self) {
        let server = self.server().await;
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
        for _ in 0..500 {
            if server.query_one(sql, &[&self.name()]).await.unwrap().get::<_, i64>(0) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("somebody is still connected to {}", self.name());
    }

    async fn server_sql(&self, sql: &str) {
        self.server().await.batch_execute(sql).await.unwrap();
    }

    async fn server(&self) -> Client {
        let (server, _) = self.0.url().rsplit_once('/').unwrap();
        connect(&format!("{server}/postgres")).await
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
