//! Moving the log into the file.
//!
//! SQLite's own way is that the commit that finds the log long moves it, and whoever asked for that commit waits meanwhile. Here it is done
//! after the answers were given, while nobody waits for the next.

use std::sync::{
    Arc,
    atomic::{AtomicI32, Ordering},
};

use rusqlite::Connection;

/// So many more pages call for a checkpoint. SQLite's default.
const DUE: i32 = 1000;

/// So many call for one though somebody waits: else the log of a busy server would only grow.
const OVERDUE: i32 = 8 * DUE;

/// How long a connection's log is.
#[derive(Debug)]
pub(super) struct Log {
    pages: Arc<AtomicI32>,
    /// How long it was at the last checkpoint. One that a reader was in the way of has moved only a part.
    moved: i32,
}

impl Log {
    /// The log of a connection, which makes no checkpoints of its own any more.
    pub(super) fn of(conn: &mut Connection) -> rusqlite::Result<Self> {
        let pages = Arc::new(AtomicI32::new(0));
        let length = Arc::clone(&pages);
        conn.wal_hook(Some(move |_: &mut _, pages| {
            length.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self { pages, moved: 0 })
    }

    /// Moves it into the file where it is time for that.
    pub(super) fn tidy(&mut self, conn: &Connection, somebody_waits: bool) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.moved {
            // It has begun again at the front.
            self.moved = 0;
        }
        if pages - self.moved < if somebody_waits { OVERDUE } else { DUE } {
            return;
        }
        self.moved = pages;
        if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::warn!(%error, "a checkpoint failed; the next one will try again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_moved_once_nobody_waits_and_a_very_long_one_in_any_case() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.db");
        let mut conn = Connection::open(&path).unwrap();
        let mode = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(mode, "wal");
        conn.execute_batch("CREATE TABLE t (x)").unwrap();
        let mut log = Log::of(&mut conn).unwrap();
        let in_file = || path.metadata().unwrap().len() / 4096;
        let fill = |conn: &Connection, pages: i32| {
            conn.execute("INSERT INTO t VALUES (zeroblob(?1))", [pages * 4092]).unwrap();
        };

        fill(&conn, DUE);
        log.tidy(&conn, true);
        assert!(in_file() < 10, "somebody waits: {} pages", in_file());
        log.tidy(&conn, false);
        assert!(in_file() >= DUE as u64);

        // The next commit begins again at the front.
        fill(&conn, DUE / 2);
        let before = in_file();
        log.tidy(&conn, false);
        assert_eq!(in_file(), before, "it is short");
        fill(&conn, OVERDUE);
        log.tidy(&conn, true);
        assert!(in_file() > OVERDUE as u64);
    }
}
