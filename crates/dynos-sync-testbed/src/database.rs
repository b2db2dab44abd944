//! A database of one's own on the shared server.

use std::{
    process::{self, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::shared::variable;

static CREATED: AtomicU32 = AtomicU32::new(0);

/// An empty database with a unique name on the shared PostgreSQL. Dropped, with whoever is connected, at the end.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
}

impl Database {
    /// Creates it, with the locale and the roles of the shared server.
    #[must_use]
    pub fn create() -> Self {
        let admin = variable("DYNOS_TEST_DATABASE_URL");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let name = format!(
            "test_{}_{}_{}",
            process::id(),
            CREATED.fetch_add(1, Ordering::Relaxed),
            since.subsec_nanos()
        );
        sql(&admin, &format!("create database {name} template template0"));
        let (server, _) = admin.rsplit_once('/').expect("DYNOS_TEST_DATABASE_URL ends with /DATABASE");
        Self { url: format!("{server}/{name}"), name }
    }

    /// Where it answers, as its superuser: `postgresql://USER:PASSWORD@127.0.0.1:PORT/NAME`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Keeps a copy, in place of an earlier one. Whoever is connected is thrown out.
    ///
    /// # Panics
    /// Where that fails.
    pub fn backup(&self) {
        self.copy(&self.name, &self.copied());
    }

    /// Puts the copy in place, as an operator who restores a backup does: it is a new database with the same name.
    ///
    /// # Panics
    /// Where there is none.
    pub fn restore(&self) {
        self.copy(&self.copied(), &self.name);
    }

    fn copied(&self) -> String {
        format!("{}_copy", self.name)
    }

    fn copy(&self, from: &str, to: &str) {
        let admin = variable("DYNOS_TEST_DATABASE_URL");
        sql(&admin, &format!("drop database if exists {to} with (force)"));
        sql(
            &admin,
            &format!(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{from}'"
            ),
        );
        sql(&admin, &format!("create database {to} template {from}"));
    }

    /// Runs SQL as the superuser, with `psql`, and answers its rows: a line each, columns parted by `|`.
    ///
    /// # Panics
    /// Where a statement fails, with the server's message.
    pub fn sql(&self, statements: &str) -> String {
        sql(&self.url, statements)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let admin = variable("DYNOS_TEST_DATABASE_URL");
        for name in [&self.copied(), &self.name] {
            let statement = format!("drop database if exists {name} with (force)");
            // A failure here is no verdict about the test, and the database goes with the server anyway.
            let _ = psql(&admin, &statement).output();
        }
    }
}

/// Runs SQL with `psql` and answers what it prints.
pub(crate) fn sql(url: &str, statements: &str) -> String {
    let output = psql(url, statements).output().expect("psql can be run");
    assert!(output.status.success(), "SQL failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("psql prints UTF-8").trim_end().to_owned()
}

fn psql(url: &str, statements: &str) -> Command {
    let mut command = Command::new(format!("{}/psql", variable("DYNOS_TEST_PG_BIN")));
    command
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statements])
        .env("PGOPTIONS", "-c client_min_messages=warning")
        .stdin(Stdio::null());
    command
}
