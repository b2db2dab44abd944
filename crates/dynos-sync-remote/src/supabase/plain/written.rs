//! What this remote wrote itself.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dynos_sync_core::{RecordId, ReplicaId, TableName};

use super::time::Micros;

type Key = (ReplicaId, TableName, RecordId);

/// When the server took the last writes of each replica, so that no own write stands in the way of the next. Bounded:
/// what is forgotten costs a pull.
#[derive(Debug, Default)]
pub(super) struct Written {
    generations: Mutex<Generations>,
}

/// The older one is forgotten when the newer one is full.
#[derive(Debug, Default)]
struct Generations {
    newer: HashMap<Key, Micros>,
    older: HashMap<Key, Micros>,
}

impl Written {
    /// The most writes of a generation.
    const MOST: usize = 10_000;

    pub(super) fn note(&self, replica: ReplicaId, table: &TableName, id: &RecordId, at: Micros) {
        let mut generations = self.generations();
        if generations.newer.len() >= Self::MOST {
            generations.older = mem::take(&mut generations.newer);
        }
        generations.newer.insert((replica, table.clone(), id.clone()), at);
    }

    pub(super) fn last(&self, replica: ReplicaId, table: &TableName, id: &RecordId) -> Option<Micros> {
        let generations = self.generations();
        let key = (replica, table.clone(), id.clone());
        generations.newer.get(&key).or_else(|| generations.older.get(&key)).copied()
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_writes_are_known_and_memory_is_bounded() {
        let (written, replica) = (Written::default(), ReplicaId::from_random([1; 16]));
        let table: TableName = "t".parse().unwrap();
        let id = |n: usize| n.to_string().parse::<RecordId>().unwrap();
        for n in 0..3 * Written::MOST {
            written.note(replica, &table, &id(n), n as Micros);
        }
        for n in 2 * Written::MOST..3 * Written::MOST {
            assert_eq!(written.last(replica, &table, &id(n)), Some(n as Micros));
        }
        assert_eq!(written.last(replica, &table, &id(0)), None);
        assert_eq!(written.last(ReplicaId::from_random([2; 16]), &table, &id(3 * Written::MOST - 1)), None);
        let generations = written.generations();
        assert!(generations.newer.len() + generations.older.len() <= 2 * Written::MOST);
    }
}
