//! Checkpoints: moving the log into the file, on a connection and a thread of their own.
//!
//! SQLite's own way is that the commit that finds the log long moves it, and waits for the disk meanwhile. Readers and one who writes
//! may go on while somebody else does it.

use rusqlite::Connection;

use crate::{
    error::{Result, of_theirs},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
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
    overdue: AtomicBool,
}

impl Checkpointer {
    pub(crate) fn new(db: Connection) -> Result<Self> {
        db.pragma_update(None, "wal_autocheckpoint", 0).map_err(of_theirs)?;
        Ok(Self(Arc::new(Shared { db: Mutex::new(db), overdue: AtomicBool::new(false) })))
    }

    /// Watches the log that a connection writes. Takes the place of its own checkpoints.
    pub(crate) fn watch(&self, db: &mut Connection, due: Sender<()>) -> Result<()> {
        let this = self.clone();
        let (mut soon, mut now) = (DUE, OVERDUE);
        let watch = move |_: &mut _, pages: i32| {
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
    pub(crate) fn run(&self, due: &Receiver<()>) {
        while due.recv().is_ok() {
            self.checkpoint();
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

    fn checkpoint(&self) {
        let db = self.0.db.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else's, or a reader's, being in the way is no failure: the next one moves it.
        if let Err(error) = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::warn!(%error, "a checkpoint failed; the next one will try again");
        }
    }
}
