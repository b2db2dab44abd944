//! What a driver remembers of the database: the session that it is in, and the synced tables.
//!
//! No lock is held while the database is read. Whoever reads it may be a future that nobody polls any more, or not before something else
//! is done: what waited for that future's lock would wait for ever. Readings are numbered instead, in the order in which they began, and an
//! earlier one never takes the place of a later one: it may have missed a change that the later one has seen.

use std::{
    collections::BTreeMap,
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use dynos_sync_core::{
    Generation, TableName,
    replica::{State, TableState},
};

/// The time from one logout to the next, and what was read in it.
#[derive(Debug, Default)]
pub(crate) struct Session {
    readings: AtomicU64,
    known: RwLock<Known>,
    /// How many logouts are under way.
    leaving: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    /// The session, by its number in the database.
    generation: Generation,
    /// The reading that found it.
    begun: Reading,
    /// Whether another process was seen to have ended it.
    is_over: bool,
    tables: BTreeMap<TableName, TableState>,
    /// The reading that found the tables.
    read: Reading,
    /// What was read last of a session that is yet to be begun here: it may know of a change that the reading that begins it has missed.
    next: Option<(Generation, Reading, BTreeMap<TableName, TableState>)>,
}

/// A reading of the database, by the order in which they began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reading(u64);

/// What a reading turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Of this session.
    Current,
    /// Of the session before: a logout came in between.
    Late,
    /// Of a session that this engine has not begun.
    Ended,
}

/// A logout under way.
pub(crate) struct Leaving<'a>(&'a AtomicUsize);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Session {
    /// A reading begins now.
    pub(crate) fn read(&self) -> Reading {
        Reading(self.readings.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Goes on with the session that was read.
    pub(crate) fn begin(&self, reading: Reading, state: &State) {
        let mut known = self.known_mut();
        let later = known
            .next
            .take()
            .filter(|(generation, read, _)| *generation == state.generation && *read > reading);
        let (read, tables) =
            later.map_or_else(|| (reading, tables(state)), |(_, read, tables)| (read, tables));
        *known =
            Known { generation: state.generation, begun: reading, is_over: false, tables, read, next: None };
    }

    /// Remembers what was read, where it is of this session.
    pub(crate) fn remember(&self, reading: Reading, state: &State) -> Read {
        let mut known = self.known_mut();
        if state.generation == known.generation {
            if reading > known.read {
                (known.tables, known.read) = (tables(state), reading);
            }
            return Read::Current;
        }
        if reading < known.begun {
            return Read::Late;
        }
        if known.next.as_ref().is_none_or(|(_, read, _)| reading > *read) {
            known.next = Some((state.generation, reading, tables(state)));
        }
        // While this engine logs out, it is not another process that does.
        known.is_over |= !self.is_being_left();
        Read::Ended
    }

    pub(crate) fn table(&self, name: &TableName) -> Option<TableState> {
        self.known().tables.get(name).cloned()
    }

    pub(crate) fn generation(&self) -> Generation {
        self.known().generation
    }

    /// Whether another process was seen to have ended it.
    pub(crate) fn is_over(&self) -> bool {
        self.known().is_over
    }

    /// Whether somebody is logging out.
    pub(crate) fn is_being_left(&self) -> bool {
        self.leaving.load(Ordering::Acquire) > 0
    }

    /// Somebody is logging out, until the answer is dropped.
    pub(crate) fn leave(&self) -> Leaving<'_> {
        self.leaving.fetch_add(1, Ordering::AcqRel);
        Leaving(&self.leaving)
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tables(state: &State) -> BTreeMap<TableName, TableState> {
    state.tables.iter().map(|table| (table.spec.name.clone(), table.clone())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]

    use dynos_sync_core::{Replica, TableSpec, memory::MemoryReplica, replica::TableOptions};
    use futures_executor::block_on;

    use super::*;

    #[test]
    fn what_was_read_earlier_never_takes_the_place_of_what_was_read_later() {
        let (replica, session) = (MemoryReplica::new([1; 16]), Session::default());
        let tasks: TableName = "tasks".parse().unwrap();
        let before = block_on(replica.state()).unwrap();
        session.begin(session.read(), &before);

        let (early, late) = (session.read(), session.read());
        block_on(replica.add_table(TableOptions::new(tasks.clone()))).unwrap();
        assert_eq!(session.remember(late, &block_on(replica.state()).unwrap()), Read::Current);
        assert_eq!(session.remember(early, &before), Read::Current);
        assert_eq!(session.table(&tasks).unwrap().spec, TableSpec::document(tasks));
    }

    #[test]
    fn only_what_somebody_else_does_ends_a_session() {
        let (replica, session) = (MemoryReplica::new([1; 16]), Session::default());
        let state = || block_on(replica.state()).unwrap();
        let before = state();
        session.begin(session.read(), &before);

        let early = session.read();
        let leaving = session.leave();
        block_on(replica.logout(true)).unwrap();
        assert_eq!(session.remember(session.read(), &state()), Read::Ended);
        assert!(!session.is_over(), "it is this engine that logs out");
        let (begins, begun) = (session.read(), state());
        let tasks: TableName = "tasks".parse().unwrap();
        block_on(replica.add_table(TableOptions::new(tasks.clone()))).unwrap();
        assert_eq!(session.remember(session.read(), &state()), Read::Ended);
        session.begin(begins, &begun);
        assert!(session.table(&tasks).is_some(), "it was added before the session began here");
        drop(leaving);
        assert_eq!(session.remember(early, &before), Read::Late);
        assert!(!session.is_over());

        block_on(replica.logout(true)).unwrap();
        assert_eq!(session.remember(session.read(), &state()), Read::Ended);
        assert!(session.is_over());
    }
}
