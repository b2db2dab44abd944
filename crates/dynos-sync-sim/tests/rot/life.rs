//! What a device does with a damaged file, and what it must never do.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use dynos_sync::SyncError;
use dynos_sync_core::{
    Edit, RecordKey, RemoteError, Replica, ReplicaError, ReplicaId, Value,
    memory::MemoryServer,
    replica::{DeadLetter, Logout},
    wire::PushEntry,
};
use dynos_sync_sqlite::SqliteReplica;
use futures_executor::block_on;
use rusqlite::Connection;

use crate::{
    device::{DATABASE, Device, Moment, drive, key},
    server::{Tap, values},
};

/// What is expected of the file that is tried.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    /// Whether the application's own rows are as they were: nothing but the engine's tables is damaged.
    pub(crate) rows: bool,
    /// Whether every queued edit is there or is missed aloud.
    pub(crate) queue: bool,
}

/// One life: opened, used, logged out, used by somebody else.
pub(crate) struct Life<'a> {
    device: &'a Device,
    moment: &'a Moment,
    expected: Expected,
    what: String,
    server: MemoryServer,
    errors: Vec<String>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Nothing was noticed.
    Well,
    /// It was used, and something was said to be damaged.
    Told,
    /// It could not be opened.
    Refused,
}

impl<'a> Life<'a> {
    pub(crate) fn new(device: &'a Device, moment: &'a Moment, expected: Expected, what: String) -> Self {
        Self { device, moment, expected, what, server: device.server.backup(), errors: Vec::new() }
    }

    pub(crate) fn live(mut self, user: &str) -> End {
        let before = self.salvaged();
        let replica = match self.device.open() {
            Ok(replica) => replica,
            Err(error) => {
                self.is_typed("open", &error.into());
                let after = self.salvaged();
                assert_eq!(before, after, "{}", self.what);
                return End::Refused;
            }
        };
        let tap = Tap::new(&self.server, user);
        self.use_it(&replica, &tap, user);
        let letters = self.letters(&replica);
        self.check_news(&replica, user);
        let told = !self.errors.is_empty() || letters.iter().any(|letter| letter.code == "damaged");
        self.check_pushes(&tap.pushed(), user);
        self.check_queue(&replica, &tap.pushed(), &before, &letters);
        self.leave(&replica);
        if told { End::Told } else { End::Well }
    }

    /// Takes note of an error, which says what it is about.
    fn note<T>(&mut self, step: &str, result: Result<T, SyncError>) -> Option<T> {
        result
            .map_err(|error| {
                self.is_typed(step, &error);
                self.errors.push(format!("{step}: {error}"));
            })
            .ok()
    }

    fn is_typed(&self, step: &str, error: &SyncError) {
        let typed = match error {
            SyncError::Replica(ReplicaError::Corrupt(what) | ReplicaError::ReadOnly(what)) => {
                what.contains(DATABASE)
            }
            SyncError::Replica(
                ReplicaError::TooNew { .. }
                | ReplicaError::NotFound(_)
                | ReplicaError::UnknownTable(_)
                | ReplicaError::Constraint { .. },
            )
            | SyncError::Invalid(_) => true,
            // A table that looks otherwise now.
            SyncError::Remote(RemoteError::Refused { .. }) => !self.expected.rows,
            _ => false,
        };
        assert!(typed, "{}: {step}: {error:?}", self.what);
    }

    fn use_it(&mut self, replica: &SqliteReplica, tap: &Arc<Tap>, user: &str) {
        let Some(driver) = self.note("begin", drive(replica, tap)) else { return };
        self.look(replica);
        self.note("write", block_on(driver.write("tasks", "new", values("tasks", "new", &["a"], "new"))));
        let first = format!("{user}10");
        let patch = values("tasks", &first, &["a"], "new");
        self.note("patch", block_on(driver.patch("tasks", &first, patch)));
        for _ in 0..2 {
            self.note("drain", block_on(driver.drain()));
            self.note("pull", block_on(driver.pull_all()));
        }
        self.note("queue", block_on(replica.queue(0, 1000)).map_err(Into::into));
        for conflict in self
            .note("conflicts", block_on(replica.conflicts(i64::MAX, 1000)).map_err(Into::into))
            .unwrap_or_default()
        {
            match conflict.resolved {
                Some(_) => self.note("undo", block_on(driver.undo_conflict(conflict.id))),
                None => self.note("forget", block_on(driver.discard_conflict(conflict.id))),
            };
        }
        let letters = self.letters(replica);
        if let Some(letter) = letters.iter().find(|letter| letter.code != "damaged") {
            self.note("retry", block_on(driver.retry_dead_letter(letter.id)));
        }
        for letter in letters.iter().filter(|letter| letter.edits.is_empty()) {
            let retried = block_on(driver.retry_dead_letter(letter.id));
            assert!(retried.is_err(), "{}: there is nothing to retry in {letter:?}", self.what);
        }
        self.note("drain", block_on(driver.drain()));
        self.note("status", block_on(replica.state()).map_err(Into::into));
    }

    /// Each row is as it was, or is said to be damaged.
    fn look(&mut self, replica: &SqliteReplica) {
        for (key, row) in &self.moment.rows {
            let found = self.note("get", block_on(replica.get(key)).map_err(Into::into));
            if self.expected.rows {
                assert!(found.is_none_or(|found| found == *row), "{}: {key} was {row:?}", self.what);
            }
        }
    }

    fn letters(&mut self, replica: &SqliteReplica) -> Vec<DeadLetter> {
        self.note("letters", block_on(replica.dead_letters(0, 1000)).map_err(Into::into)).unwrap_or_default()
    }

    /// What others had changed is here, unless something was said to be wrong.
    fn check_news(&self, replica: &SqliteReplica, user: &str) {
        if !self.expected.rows || !self.errors.is_empty() {
            return;
        }
        for n in [30, 31, 32] {
            let key = key("tasks", &format!("{user}{n}"));
            let row = block_on(replica.get(&key)).unwrap().unwrap_or_default();
            let news = values("tasks", key.id.as_str(), &["b"], "theirs");
            assert_eq!(row.get("b"), news.get("b"), "{}: {key} is not up to date", self.what);
        }
    }

    /// Nothing is pushed that nobody wrote, and nothing under another's name.
    fn check_pushes(&self, pushed: &[(ReplicaId, PushEntry)], user: &str) {
        for (replica, entry) in pushed {
            assert!(self.device.may_be(*replica), "{}: pushed as {replica}", self.what);
            let (table, id) = (entry.table.as_str(), entry.id.as_str());
            assert!(
                id == "new" || id.starts_with(user) || id == "kept aside",
                "{}: {table}/{id} is nobody's",
                self.what
            );
            for (name, value) in entry.data.iter().flatten() {
                assert!(
                    is_theirs(table, id, name, value) || !self.expected.rows,
                    "{}: nobody wrote {value} to {name} of {table}/{id}",
                    self.what
                );
            }
        }
    }

    /// Each queued edit has arrived, is still queued, is a dead letter, or is missed aloud; and what could be read before can
    /// be read still.
    fn check_queue(
        &self,
        replica: &SqliteReplica,
        pushed: &[(ReplicaId, PushEntry)],
        before: &BTreeMap<i64, String>,
        letters: &[DeadLetter],
    ) {
        if !self.expected.queue {
            return;
        }
        let after = self.salvaged();
        let waits = block_on(replica.state()).is_ok_and(|state| state.pending > 0);
        let nameless = letters.iter().any(|letter| letter.key.id.as_str() == "?");
        let sent: BTreeSet<RecordKey> =
            pushed.iter().map(|(_, entry)| key(entry.table.as_str(), entry.id.as_str())).collect();
        for (key, counters) in &self.moment.queued {
            // What had arrived before is settled by a pull as well.
            let had_arrived = self.moment.sent.contains(key);
            let settled = had_arrived
                || sent.contains(key)
                || nameless
                || letters.iter().any(|letter| letter.key == *key);
            // Under the same numbers or, after a conflict, under another.
            let kept = after.values().any(|id| id == key.id.as_str());
            let is_there =
                |counter: &u64| before.get(&(*counter as i64)).is_some_and(|id| id == key.id.as_str());
            let readable = counters.iter().any(is_there);
            assert!(
                settled || kept && (waits || !self.errors.is_empty()) || !readable && !self.errors.is_empty(),
                "{}: {key} is lost (readable {readable}, kept {kept}, waits {waits}, {:?})",
                self.what,
                self.errors
            );
        }
    }

    /// What can be read of the queue's table, from either end: numbers, and of which records they are.
    fn salvaged(&self) -> BTreeMap<i64, String> {
        let Ok(db) = Connection::open(self.device.path()) else { return BTreeMap::new() };
        let mut found = BTreeMap::new();
        for order in ["ASC", "DESC"] {
            let sql = format!("SELECT counter, id FROM dynos_queue NOT INDEXED ORDER BY counter {order}");
            let Ok(mut statement) = db.prepare(&sql) else { continue };
            let Ok(mut rows) = statement.query([]) else { continue };
            while let Ok(Some(row)) = rows.next() {
                found.extend(row.get(0).ok().map(|counter| (counter, row.get(1).unwrap_or_default())));
            }
        }
        found
    }

    /// The user logs out, and the next one gets and sends nothing of theirs.
    fn leave(&mut self, replica: &SqliteReplica) {
        let left = self.note("logout", block_on(replica.logout(true)).map_err(Into::into));
        let Some(left) = left else { return };
        assert!(matches!(left, Logout::Done { .. }), "{}: {left:?}", self.what);
        let tap = Tap::new(&self.server, "next");
        let Some(driver) = self.note("begin again", drive(replica, &tap)) else { return };
        let edit = Edit::Upsert(values("tasks", "next", &["a"], "next")).into_fields();
        self.note("write again", block_on(driver.write("tasks", "next", edit)));
        self.note("sync again", block_on(driver.sync_all()));
        for (_, entry) in tap.pushed() {
            assert_eq!(entry.id.as_str(), "next", "{}: the next user sends what was another's", self.what);
        }
    }
}

/// Values say where they belong.
fn is_theirs(table: &str, id: &str, name: &str, value: &Value) -> bool {
    const WORDS: [&str; 15] = [
        "first",
        "sent",
        "after it was sent",
        "patched",
        "once",
        "twice",
        "anew",
        "made",
        "waiting",
        "refused",
        "mine",
        "theirs",
        "new",
        "next",
        "x",
    ];
    match value {
        Value::Null => true,
        Value::String(text) => match text.strip_prefix(&format!("{table}/{id}/{name}/")) {
            Some(word) => WORDS.contains(&word),
            None => false,
        },
        _ => false,
    }
}

/// How many lives ended how, and which of them should not have.
#[derive(Default)]
pub(crate) struct Tally {
    ends: BTreeMap<End, u32>,
    wrong: Vec<String>,
}

impl Tally {
    pub(crate) fn count(&mut self, life: impl FnOnce() -> End) {
        match catch_unwind(AssertUnwindSafe(life)) {
            Ok(end) => *self.ends.entry(end).or_default() += 1,
            Err(panic) => self.wrong.push(panic.downcast_ref::<String>().cloned().unwrap_or_default()),
        }
    }

    /// Nothing went wrong, and some of the damage was told of.
    pub(crate) fn assert(&self) {
        self.assert_nothing_wrong();
        assert!(self.ends.keys().any(|end| *end != End::Well), "{:?}", self.ends);
    }

    /// Nothing went wrong, and nothing of it can be noticed.
    pub(crate) fn assert_unnoticed(&self) {
        self.assert_nothing_wrong();
        assert_eq!(self.ends.keys().collect::<Vec<_>>(), [&End::Well], "{:?}", self.ends);
    }

    fn assert_nothing_wrong(&self) {
        let lives: u32 = self.ends.values().sum();
        println!("{lives} lives: {:?}", self.ends);
        let wrong = self.wrong.len();
        assert!(wrong == 0 && lives > 0, "{wrong} beside {lives}: {:#?}", &self.wrong[..wrong.min(20)]);
    }
}
