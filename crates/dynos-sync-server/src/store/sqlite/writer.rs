//! The one connection that writes, on a thread of its own. Requests that wait at the same time are committed together, each in a savepoint
//! of its own, so that they share one sync of the disk and nothing else.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::log::Log;
use crate::store::StoreError;

/// The most requests that share a commit.
const GROUP: usize = 64;

/// The most requests that wait for the writer.
const WAITING: usize = 1024;

/// A way to the connection. A thread ends when the last one is dropped.
#[derive(Debug)]
pub(super) enum Writer {
    /// The connection is on a thread of its own.
    Thread(mpsc::Sender<Box<dyn Job>>),
    /// Whoever calls does the work.
    Caller(Mutex<Connection>),
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(mut conn: Connection) -> Result<(Self, thread::JoinHandle<()>), StoreError> {
        let (jobs, waiting) = mpsc::channel(WAITING);
        let log = Log::of(&mut conn)?;
        let thread =
            thread::Builder::new().name("dynos-writer".to_owned()).spawn(|| serve(conn, log, waiting));
        Ok((Self::Thread(jobs), thread.map_err(|_| StoreError::Unavailable)?))
    }

    /// Does `work` in a transaction, and `then` once that is committed, even if nobody waits for it any more.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let task = Box::new(Task { work: Some(work), done: Err(StoreError::Unavailable), then, reply });
        match self {
            Self::Thread(jobs) => jobs.send(task).await.map_err(|_| StoreError::Unavailable)?,
            Self::Caller(conn) => {
                do_all(&mut conn.lock().unwrap_or_else(PoisonError::into_inner), vec![task]);
            }
        }
        answer.await.map_err(|_| StoreError::Unavailable)?
    }
}

pub(super) trait Job: Send {
    /// Does the work. Answers whether it is to stay.
    fn run(&mut self, conn: &Connection) -> bool;

    /// Answers, once it is known whether the group was committed.
    fn finish(self: Box<Self>, committed: bool);
}

struct Task<T, W, N> {
    work: Option<W>,
    done: Result<T, StoreError>,
    then: N,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, W, N> Job for Task<T, W, N>
where
    T: Send,
    W: FnOnce(&Connection) -> Result<T, StoreError> + Send,
    N: FnOnce(&T) + Send,
{
    fn run(&mut self, conn: &Connection) -> bool {
        if let Some(work) = self.work.take() {
            self.done = work(conn);
        }
        self.done.is_ok()
    }

    fn finish(self: Box<Self>, committed: bool) {
        let done = match (self.done, committed) {
            (Ok(_), false) => Err(StoreError::Unavailable),
            (done, _) => done,
        };
        if let Ok(value) = &done {
            (self.then)(value);
        }
        // Whoever asked may have gone; what was committed stays so, and a repeat finds it.
        let _ = self.reply.send(done);
    }
}

fn serve(mut conn: Connection, mut log: Log, mut waiting: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = waiting.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = waiting.try_recv()
        {
            group.push(next);
        }
        do_all(&mut conn, group);
        log.tidy(&conn, !waiting.is_empty());
    }
    // The readers are gone by now or hold no transaction: the log is folded into the file, which is then whole.
    if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::warn!(%error, "the last checkpoint failed");
    }
}

/// Does what waits, in one commit, and answers.
fn do_all(conn: &mut Connection, mut group: Vec<Box<dyn Job>>) {
    let committed = commit(conn, &mut group);
    if let Err(error) = &committed {
        tracing::error!(%error, "a commit failed");
    }
    group.into_iter().for_each(|job| job.finish(committed.is_ok()));
}

fn commit(conn: &mut Connection, group: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
    let mut tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match group {
        [alone] => {
            // Without a savepoint: SQLite would keep the old content of pages for it, and walk that list at the end of every statement.
            if !alone.run(&tx) {
                return tx.finish();
            }
            goes_on(&tx)?;
        }
        group => group.iter_mut().try_for_each(|job| run_within(&mut tx, job.as_mut()))?,
    }
    tx.commit()
}

/// Runs one of several. An error means that none of them can go on.
fn run_within(tx: &mut Transaction<'_>, job: &mut dyn Job) -> rusqlite::Result<()> {
    let savepoint = tx.savepoint()?;
    let ended = if job.run(&savepoint) { savepoint.commit() } else { savepoint.finish() };
    ended?;
    goes_on(tx)
}

/// A full disk and the like make SQLite give up the whole transaction: what would follow would be committed statement by statement.
fn goes_on(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    if tx.is_autocommit() { Err(rusqlite::Error::InvalidQuery) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(conn: &Connection) -> Result<i64, StoreError> {
        Ok(conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)
    }

    #[tokio::test]
    async fn those_who_share_a_commit_share_no_failure() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t (x)").unwrap();
        let (writer, thread) = Writer::start(conn).unwrap();
        let (blocked, go) = std::sync::mpsc::channel::<()>();
        let insert = |conn: &Connection, fails: bool| {
            conn.execute("INSERT INTO t VALUES (1)", [])?;
            if fails { Err(StoreError::Forked(1)) } else { Ok(()) }
        };
        // The first one holds the thread up until the others wait, so that they form one group.
        let first = writer.call(move |_| Ok(go.recv().is_ok()), |_| ());
        let others = async {
            let all = [false, true, false].map(|fails| writer.call(move |conn| insert(conn, fails), |()| ()));
            let release = async { blocked.send(()).unwrap() };
            tokio::join!(futures_util::future::join_all(all), release).0
        };
        let (_, others) = tokio::join!(first, others);
        assert!(matches!(others[..], [Ok(()), Err(StoreError::Forked(1)), Ok(())]));
        assert_eq!(writer.call(count, |_| ()).await.unwrap(), 2);
        drop(writer);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn what_fails_alone_leaves_nothing_behind() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t (x)").unwrap();
        let (writer, thread) = Writer::start(conn).unwrap();
        let failing = writer.call(
            |conn| {
                conn.execute("INSERT INTO t VALUES (1)", [])?;
                Err::<(), _>(StoreError::Forked(1))
            },
            |()| panic!("nothing was done"),
        );
        assert!(matches!(failing.await, Err(StoreError::Forked(1))));
        assert_eq!(writer.call(count, |_| ()).await.unwrap(), 0);
        drop(writer);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_group_that_cannot_be_committed_is_acknowledged_to_nobody() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE t (x)").unwrap();
        let (writer, thread) = Writer::start(conn).unwrap();
        let broken = writer.call(
            |conn| {
                conn.execute("INSERT INTO t VALUES (1)", [])?;
                // What SQLite does by itself where the disk is full.
                conn.execute_batch("ROLLBACK")?;
                Ok(())
            },
            |()| panic!("nothing was committed"),
        );
        assert!(matches!(broken.await, Err(StoreError::Unavailable)));
        assert_eq!(writer.call(count, |_| ()).await.unwrap(), 0);
        drop(writer);
        thread.join().unwrap();
    }
}
