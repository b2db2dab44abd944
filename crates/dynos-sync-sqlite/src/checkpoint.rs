//! Checkpoints: moving the log into the file, on a connection and a thread of their own.
//!
//! SQLite's own way is that the commit that finds the log long moves it, and waits for the disk meanwhile. Readers and one who writes
//! may go on while somebody else does it.

use rusqlite::Connection;

use crate::{
    error::{Result, of_theirs},
    replica::Synchronous,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
        mpsc::{Receiver, Sender},
    },
};

/// So many more pages in the log call for a checkpoint. SQLite's default.
const DUE: i32 = 1000;

/// A log of so many pages is moved before anything else is written: with somebody writing all the time it would never begin again
/// at the front, and grow.
const OVERDUE: i32 = 8 * DUE;

/// The connection that checkpoints, and whether it has to.
#[derive(Clone, Debug)]
pub(crate) struct Checkpointer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Mutex<Connection>,
    /// Whether each commit waits for the disk.
    synchronous: Synchronous,
    /// How many pages the log has.
    length: AtomicI32,
    overdue: AtomicBool,
}

impl Checkpointer {
    pub(crate) fn new(db: Connection, synchronous: Synchronous) -> Result<Self> {
        db.pragma_update(None, "wal_autocheckpoint", 0).map_err(of_theirs)?;
        let (length, overdue) = (AtomicI32::new(0), AtomicBool::new(false));
        Ok(Self(Arc::new(Shared { db: Mutex::new(db), synchronous, length, overdue })))
    }

    /// Watches the log that a connection writes. Takes the place of its own checkpoints.
    pub(crate) fn watch(&self, db: &mut Connection, due: Sender<()>) -> Result<()> {
        let this = self.clone();
        let (mut soon, mut now) = (DUE, OVERDUE);
        let watch = move |_: &mut _, pages: i32| {
            this.0.length.store(pages, Ordering::Release);
            if pages < soon - DUE {
                // It has begun again at the front.
                (soon, now) = (DUE, OVERDUE);
            }
            if pages >= now {
                now = pages + DUE;
                this.0.overdue.store(true, Ordering::Release);
            } else if pages >= soon {
                soon = pages + DUE;
                // With the thread gone, the database is being closed: that moves the log.
                let _ = due.send(());
            }
            Ok(())
        };
        db.wal_hook(Some(watch)).map_err(of_theirs)
    }

    /// Checkpoints whenever that is due, until nobody watches any more.
    ///
    /// What is written meanwhile stays in the log, which can begin again at the front only when all of it is moved, and otherwise grows. Where
    /// commits wait for the disk that costs more than to move the little that is left before the next write: to make a file longer durably takes
    /// twice as long as to write over it.
    pub(crate) fn run(&self, due: &Receiver<()>) {
        while due.recv().is_ok() {
            let moved = self.checkpoint();
            if self.0.synchronous == Synchronous::Full && moved < self.0.length.load(Ordering::Acquire) {
                self.0.overdue.store(true, Ordering::Release);
            }
        }
    }

    /// Whether the log is to be moved before anything else is written.
    pub(crate) fn is_overdue(&self) -> bool {
        self.0.overdue.load(Ordering::Acquire)
    }

    /// Moves what is overdue.
    pub(crate) fn catch_up(&self) {
        if self.0.overdue.swap(false, Ordering::AcqRel) {
            self.checkpoint();
        }
    }

    /// Runs something that no checkpoint may come in between of.
    pub(crate) fn held<T>(&self, work: impl FnOnce() -> T) -> T {
        let _db = self.0.db.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// Moves what it can. Answers how many of the log's pages have been.
    fn checkpoint(&self) -> i32 {
        let db = self.0.db.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2));
        // Somebody else's, or a reader's, being in the way is no failure: the next one moves it.
        moved.unwrap_or_else(|error| {
            tracing::warn!(%error, "a checkpoint failed; the next one will try again");
            0
        })
    }
}
