//! Which part of a replica's state a step can touch, so that its cost is the step's and not the queue's.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ids::{RecordKey, TableName},
    memory::replica::{Pending, Store},
    replica::{Batch, DeadLetter, Op, Phase},
};

/// A part of a [`Store`].
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// These records.
    pub(super) records: BTreeSet<RecordKey>,
    /// These tables whole.
    pub(super) tables: BTreeSet<TableName>,
    /// Those of the records whose rows matter.
    pub(super) rows: BTreeSet<RecordKey>,
    /// Those of the tables all of whose rows matter.
    pub(super) rows_of: BTreeSet<TableName>,
    letters: BTreeSet<i64>,
    conflicts: BTreeSet<i64>,
}

impl Scope {
    /// What a batch reads or changes.
    pub(super) fn of(store: &Store, batch: &Batch) -> Self {
        let mut scope = Self::default();
        scope.records.extend(batch.expected.newest.iter().map(|(key, _)| key.clone()));
        batch.ops.iter().for_each(|op| scope.add(store, op));
        scope.records.extend(scope.rows.iter().cloned());
        scope
    }

    /// What adding a table reads or changes: the rows that it has, where it is new.
    pub(super) fn to_add(store: &Store, table: &TableName) -> Self {
        let new = store.table(table).is_none().then(|| table.clone());
        Self { rows_of: new.into_iter().collect(), ..Self::default() }
    }

    /// What removing a table changes: all that is kept of it but the rows.
    pub(super) fn to_remove(store: &Store, table: &TableName) -> Self {
        let letters = store.dead.values().filter(|letter| letter.key.table == *table);
        let conflicts = store.journal.iter().filter(|(_, resolved)| resolved.key.table == *table);
        Self {
            tables: [table.clone()].into(),
            letters: letters.map(|letter| letter.id).collect(),
            conflicts: conflicts.map(|(id, _)| *id).collect(),
            ..Self::default()
        }
    }

    /// All that is kept of the application's.
    pub(super) fn all(store: &Store) -> Self {
        Self {
            records: store.queue.keys().cloned().collect(),
            letters: store.dead.keys().copied().collect(),
            conflicts: store.journal.keys().copied().collect(),
            ..Self::default()
        }
    }

    fn add(&mut self, store: &Store, op: &Op) {
        match op {
            Op::Write { key, .. }
            | Op::Enqueue { key, .. }
            | Op::Store { key, .. }
            | Op::Settle { key, record: Some(_), .. }
            | Op::Fill { key, .. } => drop(self.rows.insert(key.clone())),
            Op::Bury { key, .. } => {
                self.rows.insert(key.clone());
                let is_its = |letter: &&DeadLetter| letter.key == *key && letter.is_set_aside();
                self.letters.extend(store.dead.values().filter(is_its).map(|letter| letter.id));
            }
            Op::Resolve { conflict, .. } => {
                self.rows.insert(conflict.key.clone());
                self.add_transactions(store, |key| *key == conflict.key);
            }
            Op::Offer { key, .. } => {
                self.records.insert(key.clone());
                self.add_transactions(store, |its| its == key);
            }
            Op::Thaw { key, .. }
            | Op::Settle { key, record: None, .. }
            | Op::Postpone { key, .. }
            | Op::SetAside { key, .. } => {
                self.records.insert(key.clone());
            }
            Op::Freeze(entry) => drop(self.records.insert(entry.key.clone())),
            Op::Revive { letter, .. } => {
                let letters = store.siblings(*letter);
                self.rows.extend(letters.iter().filter_map(|id| Some(store.dead.get(id)?.key.clone())));
                self.letters.extend(letters);
            }
            Op::Discard { letter } => self.letters.extend(store.siblings(*letter)),
            Op::Forget { conflict } => drop(self.conflicts.insert(*conflict)),
            Op::Prune { before } => {
                let old = store.journal.iter().filter(|(_, resolved)| resolved.decided_at < *before);
                self.conflicts.extend(old.map(|(id, _)| *id));
            }
            Op::Advance { table, seen, .. } => {
                let key = |id: &_| RecordKey { table: table.clone(), id: Clone::clone(id) };
                self.records.extend(seen.iter().map(key));
            }
            Op::Restart { table, .. } => drop(self.tables.insert(table.clone())),
            Op::Complete { table, .. } if walks(store, table) || self.tables.contains(table) => {
                self.tables.insert(table.clone());
                self.rows_of.insert(table.clone());
                self.add_transactions(store, |key| key.table == *table);
            }
            Op::Rename => self.records.extend(store.queue.keys().cloned()),
            Op::Complete { .. }
            | Op::Skip { .. }
            | Op::LeaveOut { .. }
            | Op::Declared { .. }
            | Op::Undeclared { .. }
            | Op::Bind { .. }
            | Op::Observe { .. } => {}
        }
    }

    /// Where edits of such records are parts of transactions, these may become one, with whatever lies between them.
    fn add_transactions(&mut self, store: &Store, of: impl Fn(&RecordKey) -> bool) {
        let has_one = |pending: &Pending| pending.entries.iter().any(|entry| entry.transaction.is_some());
        if store.queue.iter().any(|(key, pending)| of(key) && has_one(pending)) {
            let all = store.queue.iter().filter(|(_, pending)| has_one(pending));
            self.records.extend(all.map(|(key, _)| key.clone()));
        }
    }
}

/// Whether the end of a pull looks at the rows that it did not see.
fn walks(store: &Store, table: &TableName) -> bool {
    store.table(table).is_some_and(|state| matches!(state.phase, Phase::Resync | Phase::Restore { .. }))
}

/// Moves a part out of a store. It has all of the store's numbers and tables, and no rows yet.
pub(super) fn take(store: &mut Store, scope: &Scope) -> Store {
    let mut part = Store::new(store.seed);
    (part.renamed, part.generation, part.server) = (store.renamed, store.generation, store.server.clone());
    (part.clock, part.last_id, part.schema) = (store.clock, store.last_id, store.schema);
    (part.last_counter, part.last_sent) = (store.last_counter, store.last_sent);
    part.tables.clone_from(&store.tables);
    part.former.clone_from(&store.former);
    part.queue = take_entries(&mut store.queue, scope);
    for pending in part.queue.values() {
        let oldest = pending.entries[0].counter;
        part.order.extend(store.order.remove_entry(&oldest));
    }
    part.seen = take_keys(&mut store.seen, scope);
    part.local = take_keys(&mut store.local, scope);
    part.dead.extend(scope.letters.iter().filter_map(|id| store.dead.remove_entry(id)));
    part.journal.extend(scope.conflicts.iter().filter_map(|id| store.journal.remove_entry(id)));
    part
}

/// Puts a part back, changed or not.
pub(super) fn give(store: &mut Store, part: Store) {
    (store.renamed, store.generation, store.server) = (part.renamed, part.generation, part.server);
    (store.clock, store.last_id, store.schema) = (part.clock, part.last_id, part.schema);
    (store.last_counter, store.last_sent) = (part.last_counter, part.last_sent);
    store.tables = part.tables;
    store.former = part.former;
    store.queue.extend(part.queue);
    store.order.extend(part.order);
    store.seen.extend(part.seen);
    store.local.extend(part.local);
    store.dead.extend(part.dead);
    store.journal.extend(part.journal);
}

fn take_entries<V>(map: &mut BTreeMap<RecordKey, V>, scope: &Scope) -> BTreeMap<RecordKey, V> {
    let mut taken: BTreeMap<_, _> = scope.records.iter().filter_map(|key| map.remove_entry(key)).collect();
    if !scope.tables.is_empty() {
        taken.extend(map.extract_if(.., |key, _| scope.tables.contains(&key.table)));
    }
    taken
}

fn take_keys(set: &mut BTreeSet<RecordKey>, scope: &Scope) -> BTreeSet<RecordKey> {
    let mut taken: BTreeSet<_> = scope.records.iter().filter_map(|key| set.take(key)).collect();
    if !scope.tables.is_empty() {
        taken.extend(set.extract_if(.., |key| scope.tables.contains(&key.table)));
    }
    taken
}
