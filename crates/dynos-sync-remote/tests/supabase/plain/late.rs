//! Writes that are committed after later ones were read.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
    time::Duration,
};

use dynos_sync_core::Remote;
use dynos_sync_testbed::Supabase;

use super::table::{Table, eventually};
use crate::support::User;

/// A transaction that stays open until it is told to end.
struct Transaction(Child);

impl Transaction {
    /// Runs the statements, and waits until the check is true for other connections.
    fn begin(supabase: &Supabase, statements: &str) -> Self {
        let psql = format!("{}/psql", std::env::var("DYNOS_TEST_PG_BIN").unwrap());
        let mut child = Command::new(psql)
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &supabase.database_url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "begin; {statements}; \\echo written").unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line)
            .unwrap();
        assert_eq!(line.trim(), "written");
        Self(child)
    }

    fn commit(mut self) {
        writeln!(self.0.stdin.as_mut().unwrap(), "commit;").unwrap();
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Transaction {
    /// What was not committed ends with its connection.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a row is found that is committed after a later one was read.
async fn late_row_is_found(window: Duration) -> bool {
    let table = Table::new();
    let user = User::new(&table.supabase);
    let insert =
        |id: &str| format!("insert into {} (id, user_id) values ('{id}', '{}')", table.name, user.id);
    let late = Transaction::begin(&table.supabase, &insert("late"));
    table.sql(&insert("early"));
    let device = table.device_of(table.remote_within(&user, window)).await;
    let (changes, end) = device.pull_from(None, 10).await;
    assert_eq!(changes.len(), 1, "the other is not committed: {changes:?}");
    late.commit();
    let (changes, _) = device.pull_from(Some(end), 10).await;
    changes.iter().any(|(id, _)| id == "late")
}

#[tokio::test]
async fn a_row_that_is_committed_late_is_found_within_the_window() {
    assert!(late_row_is_found(Duration::from_secs(30)).await);
}

/// The bound.
#[tokio::test]
async fn a_row_that_is_committed_later_than_that_is_missed_until_it_is_written_again() {
    assert!(!late_row_is_found(Duration::ZERO).await);
}

#[tokio::test]
async fn what_is_listed_again_stops_coming_when_the_window_has_passed() {
    let table = Table::new();
    let user = User::new(&table.supabase);
    table.sql(&format!("insert into TABLE (id, user_id) values ('r', '{}')", user.id));
    let device = table.device_of(table.remote_within(&user, Duration::from_secs(2))).await;
    let (mut changes, mut end) = device.pull_from(None, 10).await;
    assert_eq!(changes.len(), 1);
    (changes, end) = device.pull_from(Some(end), 10).await;
    assert_eq!(changes.len(), 1, "it comes again");
    let page = device.remote.pull(device.page(Some(end.clone()), 10)).await.unwrap();
    assert!(page.changes.iter().all(|change| change.again), "and says so: {page:?}");
    eventually(async || {
        let (changes, next) = device.pull_from(Some(end.clone()), 10).await;
        end = next;
        changes.is_empty().then_some(())
    })
    .await;
}
