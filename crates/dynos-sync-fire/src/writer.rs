//! The programs that write: plain SQL on connections of their own, while everything around them dies.
//!
//! Values name who wrote them, and the number of the edit.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::RwLock;

use crate::journal::{Journal, Last};

/// Records that one device alone writes, a device; and records that all write.
const OWN: usize = 150;
const CONTENDED: usize = 12;

/// The application's tables, and what notices a record of one writer that goes back: `seen` holds twice the number of its last edit, and one
/// more after a deletion.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE own  (id TEXT PRIMARY KEY, writer INTEGER, n INTEGER, a TEXT, b TEXT);
    CREATE TABLE hot  (id TEXT PRIMARY KEY, writer INTEGER, n INTEGER, a TEXT, b TEXT);
    CREATE TABLE gone (id TEXT PRIMARY KEY, writer INTEGER, n INTEGER, a TEXT, b TEXT);
    CREATE TABLE seen (id TEXT PRIMARY KEY, n INTEGER);
    CREATE TABLE backwards (id TEXT, n INTEGER, was INTEGER);
    CREATE TRIGGER own_made AFTER INSERT ON own BEGIN
        INSERT INTO backwards SELECT id, 2 * NEW.n, n FROM seen WHERE id = NEW.id AND n > 2 * NEW.n;
        INSERT INTO seen VALUES (NEW.id, 2 * NEW.n) ON CONFLICT (id) DO UPDATE SET n = excluded.n;
    END;
    CREATE TRIGGER own_changed AFTER UPDATE ON own BEGIN
        INSERT INTO backwards SELECT id, 2 * NEW.n, n FROM seen WHERE id = NEW.id AND n > 2 * NEW.n;
        UPDATE seen SET n = 2 * NEW.n WHERE id = NEW.id;
    END;
    CREATE TRIGGER own_deleted AFTER DELETE ON own BEGIN
        UPDATE seen SET n = 2 * OLD.n + 1 WHERE id = OLD.id;
    END;";

/// The tables that are synced.
pub(crate) const TABLES: [&str; 3] = ["own", "hot", "gone"];

/// A connection as programs have it. What it commits survives the death of any process.
pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(Duration::from_secs(20))?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(db)
}

/// A thread that writes until this is dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    journal: Mutex<Journal>,
    failed: Mutex<Option<String>>,
}

impl Writer {
    /// Starts it. It writes while nobody holds the gate alone.
    pub(crate) fn start(
        path: &Path,
        device: usize,
        seed: u64,
        gate: Arc<RwLock<()>>,
    ) -> rusqlite::Result<Self> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            journal: Mutex::default(),
            failed: Mutex::default(),
        });
        let (db, writing) = (open(path)?, shared.clone());
        let thread = thread::spawn(move || {
            let mut pen = Pen { db, device, dice: fastrand::Rng::with_seed(seed) };
            while !writing.stop.load(Ordering::Acquire) {
                let passed = gate.blocking_read();
                let journal = lock(&writing.journal).clone();
                match pen.write(journal) {
                    Ok(journal) => *lock(&writing.journal) = journal,
                    Err(error) => {
                        *lock(&writing.failed) =
                            Some(format!("a program's write to device {device} failed: {error}"));
                        return;
                    }
                }
                drop(passed);
                thread::sleep(Duration::from_millis(pen.dice.u64(1..30)));
            }
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What it has committed; complete while the gate is held.
    pub(crate) fn journal(&self) -> Journal {
        lock(&self.shared.journal).clone()
    }

    pub(crate) fn failed(&self) -> Option<String> {
        lock(&self.shared.failed).clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It ends after its transaction; a panic has been printed already.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Pen {
    db: Connection,
    device: usize,
    dice: fastrand::Rng,
}

impl Pen {
    /// One transaction of a few edits. Answers the journal as it is once they are committed.
    fn write(&mut self, mut journal: Journal) -> rusqlite::Result<Journal> {
        let (device, dice) = (self.device, &mut self.dice);
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for _ in 0..dice.usize(1..5) {
            journal.n += 1;
            match dice.u8(..10) {
                0..7 => own(&transaction, device, dice, &mut journal)?,
                7 | 8 => hot(&transaction, device, dice, &mut journal)?,
                _ => gone(&transaction, device, dice, &mut journal)?,
            }
        }
        transaction.commit()?;
        let ended = SystemTime::now();
        for last in journal.hot.values_mut().chain(journal.gone.values_mut()) {
            // The time of an edit is the time of its statement, which was before this.
            if last.ended == SystemTime::UNIX_EPOCH {
                last.ended = ended;
            }
        }
        journal.transactions += 1;
        Ok(journal)
    }
}

/// An edit of a record that is this device's alone: of one field, of both, or its end.
fn own(
    db: &Transaction<'_>,
    device: usize,
    dice: &mut fastrand::Rng,
    journal: &mut Journal,
) -> rusqlite::Result<()> {
    let (n, id) = (journal.n, format!("{device}-{}", dice.usize(..OWN)));
    let (a, b) = (format!("{device}#{n}"), padded(device, n, dice));
    let Some(row) = journal.own.get_mut(&id) else {
        db.execute("INSERT INTO own VALUES (?1, ?2, ?3, ?4, ?5)", params![id, device as i64, n, a, b])?;
        journal.own.insert(id, (n, a, b));
        return Ok(());
    };
    row.0 = n;
    match dice.u8(..10) {
        0..5 => {
            db.execute("UPDATE own SET n = ?2, a = ?3 WHERE id = ?1", params![id, n, a])?;
            row.1 = a;
        }
        5 | 6 => {
            db.execute("UPDATE own SET n = ?2, b = ?3 WHERE id = ?1", params![id, n, b])?;
            row.2 = b;
        }
        7 => {
            db.execute("UPDATE own SET n = ?2, a = ?3, b = ?4 WHERE id = ?1", params![id, n, a, b])?;
            (row.1, row.2) = (a, b);
        }
        _ => {
            db.execute("DELETE FROM own WHERE id = ?1", [&id])?;
            journal.own.remove(&id);
        }
    }
    Ok(())
}

/// Sets a record that others set too.
fn hot(
    db: &Transaction<'_>,
    device: usize,
    dice: &mut fastrand::Rng,
    journal: &mut Journal,
) -> rusqlite::Result<()> {
    let id = format!("hot-{}", dice.usize(..CONTENDED));
    let began = SystemTime::now();
    set(db, "hot", &id, device, journal.n, dice)?;
    journal.hot.insert(id, Last { n: Some(journal.n), began, ended: SystemTime::UNIX_EPOCH });
    Ok(())
}

/// Sets or deletes a record that others set and delete too.
fn gone(
    db: &Transaction<'_>,
    device: usize,
    dice: &mut fastrand::Rng,
    journal: &mut Journal,
) -> rusqlite::Result<()> {
    let id = format!("gone-{}", dice.usize(..CONTENDED));
    let began = SystemTime::now();
    let kept = dice.u8(..3) > 0;
    if kept {
        set(db, "gone", &id, device, journal.n, dice)?;
    } else if db.execute("DELETE FROM gone WHERE id = ?1", [&id])? == 0 {
        return Ok(());
    }
    journal.gone.insert(id, Last { n: kept.then_some(journal.n), began, ended: SystemTime::UNIX_EPOCH });
    Ok(())
}

fn set(
    db: &Transaction<'_>,
    table: &str,
    id: &str,
    device: usize,
    n: i64,
    dice: &mut fastrand::Rng,
) -> rusqlite::Result<()> {
    let statement = format!(
        "INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (id) DO UPDATE SET writer = excluded.writer, n = excluded.n, a = excluded.a, b = excluded.b"
    );
    db.execute(&statement, params![id, device as i64, n, format!("{device}#{n}"), padded(device, n, dice)])?;
    Ok(())
}

/// Sometimes long: such bodies are compressed, and come in several pieces.
fn padded(device: usize, n: i64, dice: &mut fastrand::Rng) -> String {
    let length = if dice.u8(..8) == 0 { dice.usize(..8000) } else { dice.usize(..40) };
    let padding: String = std::iter::repeat_with(|| dice.alphanumeric()).take(length).collect();
    format!("{device}#{n} {padding}")
}
