//! [`MemoryReplica`]: a device's database in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    clock::Millis,
    cursor::Cursor,
    doctor::Account,
    entry::{Edit, Entry},
    error::Limits,
    ids::{Counter, Generation, RecordId, RecordKey, ReplicaId, TableName},
    plan::write::guard,
    record::Fields,
    replica::{
        Batch, DeadLetter, Due, DueLimits, Existing, Expected, Journaled, Logout, Op, Outcome, Phase,
        Receipt, Replica, ReplicaError, Resolved, Revert, Seen, State, TableOptions, TableState,
    },
    schema::Schema,
    table::TableSpec,
};

/// A device's database in memory. Its tables are document tables.
///
/// ```
/// use dynos_sync_core::memory::MemoryReplica;
/// let replica = MemoryReplica::new([7; 16]);
/// ```
#[derive(Debug)]
pub struct MemoryReplica(Mutex<Store>);

impl MemoryReplica {
    /// An empty database. Its identity is made from `seed`: 16 random bytes, different for every replica.
    pub fn new(seed: [u8; 16]) -> Self {
        Self(Mutex::new(Store::new(seed)))
    }

    /// A database of its own with the same content, identity included: another future of one device.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Mutex::new(self.lock().clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Store>, ReplicaError> {
        let store = self.lock();
        if store.closed { Err(ReplicaError::Closed) } else { Ok(store) }
    }
}

/// What a database holds, and what each step does to it. Shared with [`SplitReplica`](crate::split::SplitReplica).
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) seed: [u8; 16],
    pub(crate) renamed: u64,
    pub(crate) generation: Generation,
    pub(crate) server: Option<String>,
    pub(crate) clock: Millis,
    pub(crate) last_counter: Counter,
    pub(crate) last_sent: Counter,
    pub(crate) schema: u32,
    pub(crate) tables: Vec<TableState>,
    pub(crate) rows: BTreeMap<RecordKey, Fields>,
    pub(crate) queue: BTreeMap<RecordKey, Pending>,
    /// The records with pending entries, by their oldest entry.
    pub(crate) order: BTreeMap<Counter, RecordKey>,
    pub(crate) dead: BTreeMap<i64, DeadLetter>,
    pub(crate) journal: BTreeMap<i64, Resolved>,
    pub(crate) seen: BTreeSet<RecordKey>,
    /// Rows that the server was never offered.
    pub(crate) local: BTreeSet<RecordKey>,
    /// Tables that were synced in this session and are no longer.
    pub(crate) former: BTreeSet<TableName>,
    pub(crate) last_id: i64,
    /// The transaction that is being written.
    pub(crate) transaction: Option<Counter>,
    pub(crate) closed: bool,
}

/// A record's pending entries, never empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    pub(crate) base: Option<Fields>,
    pub(crate) entries: Vec<Entry>,
    /// Those that were sent under an earlier version of the schema, as they were sent.
    pub(crate) sent_as: BTreeMap<Counter, Edit>,
}

impl Pending {
    /// A sent entry as the server may know it.
    fn as_sent(&self, entry: &Entry) -> Entry {
        let edit = self.sent_as.get(&entry.counter).unwrap_or(&entry.edit);
        Entry { edit: edit.clone(), ..entry.clone() }
    }

    fn adopt(&mut self, schema: &Schema, found: u32, table: &TableName) {
        let Self { base, entries, sent_as } = self;
        if let Some(base) = base {
            schema.upgrade(found, table, base);
        }
        sent_as.retain(|counter, _| entries.iter().any(|entry| entry.counter == *counter));
        for entry in entries {
            if entry.sent.is_some() {
                sent_as.entry(entry.counter).or_insert_with(|| entry.edit.clone());
            }
            schema.upgrade_edit(found, table, &mut entry.edit);
        }
    }
}

impl Store {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        Self {
            seed,
            renamed: 0,
            generation: 0,
            server: None,
            clock: 0,
            last_counter: 0,
            last_sent: 0,
            schema: 0,
            tables: Vec::new(),
            rows: BTreeMap::new(),
            queue: BTreeMap::new(),
            order: BTreeMap::new(),
            dead: BTreeMap::new(),
            journal: BTreeMap::new(),
            seen: BTreeSet::new(),
            local: BTreeSet::new(),
            former: BTreeSet::new(),
            last_id: 0,
            transaction: None,
            closed: false,
        }
    }

    fn identity(&self) -> ReplicaId {
        let mut bytes = self.seed;
        for (byte, mix) in
            bytes.iter_mut().zip(self.renamed.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
        {
            *byte ^= mix;
        }
        ReplicaId::from_random(bytes)
    }

    fn pending(&self) -> u64 {
        self.queue.values().map(|pending| pending.entries.len() as u64).sum()
    }

    fn holds(&self, expected: &Expected) -> bool {
        let newest = |key| self.queue.get(key).and_then(|p| p.entries.last()).map(|entry| entry.counter);
        let cursor_holds =
            |(name, cursor): &(TableName, _)| self.table(name).is_some_and(|table| table.cursor == *cursor);
        expected.generation.is_none_or(|generation| generation == self.generation)
            && expected.newest.iter().all(|(key, counter)| newest(key) == *counter)
            && expected.cursor.as_ref().is_none_or(cursor_holds)
    }

    pub(crate) fn table(&self, name: &TableName) -> Option<&TableState> {
        self.tables.iter().find(|table| table.spec.name == *name)
    }

    fn table_mut(&mut self, name: &TableName) -> Option<&mut TableState> {
        self.tables.iter_mut().find(|table| table.spec.name == *name)
    }

    pub(crate) fn require(&self, key: &RecordKey) -> Result<(), ReplicaError> {
        match self.table(&key.table) {
            Some(_) => Ok(()),
            None => Err(ReplicaError::UnknownTable(key.table.clone())),
        }
    }

    fn commit(&mut self, batch: Batch) -> Result<Outcome, ReplicaError> {
        if !self.holds(&batch.expected) {
            return Ok(Outcome::Stale);
        }
        self.transaction = batch.transaction.then_some(self.last_counter + 1);
        let outcome = self.apply_all(batch.ops);
        self.transaction = None;
        outcome
    }

    fn apply_all(&mut self, ops: Vec<Op>) -> Result<Outcome, ReplicaError> {
        let mut receipt = Receipt::default();
        for op in ops {
            if !self.apply(op, &mut receipt)? {
                return Ok(Outcome::Stale);
            }
        }
        Ok(Outcome::Committed(receipt))
    }

    /// Answers false where the step no longer fits what is there.
    fn apply(&mut self, op: Op, receipt: &mut Receipt) -> Result<bool, ReplicaError> {
        match op {
            Op::Write { key, edit, at } => {
                let written = self.write(key, edit, at)?;
                receipt.written.push(written);
            }
            Op::Enqueue { key, edit, at } => {
                self.require(&key)?;
                let base = self.rows.get(&key).cloned();
                self.guard(&key, base.as_ref())?;
                let at = self.stamp(at);
                receipt.written.push(Some(self.append(key, edit, at, base)));
            }
            Op::Offer { key, base, edit, at } => {
                self.put_in_place(key, edit, at, base);
            }
            Op::Store { key, record } => {
                self.local.remove(&key);
                self.put(key, record);
            }
            Op::Fill { key, base, row } => self.fill(&key, base, row),
            Op::Freeze(entry) => return Ok(self.freeze(entry)),
            Op::Thaw { key, counter } => {
                if let Some(entry) = self.entry_mut(&key, counter) {
                    entry.sent = None;
                }
            }
            Op::Settle { key, counter, record } => self.settle(&key, counter, record),
            Op::Resolve { conflict, edit } => {
                let key = conflict.key.clone();
                self.put(key.clone(), conflict.outcome.clone());
                match edit {
                    Some(edit) => self.put_in_place(key, edit, conflict.at, conflict.theirs.clone()),
                    None => drop(self.unqueue(&key)),
                }
                let id = self.next_id();
                self.journal.insert(id, *conflict);
            }
            Op::Postpone { key, counter, retry_at } => self.postpone(&key, counter, retry_at),
            Op::Bury { key, counter, code, message, at, revert } => {
                if let Some(pending) = self.queue.get(&key)
                    && pending.entries.iter().any(|entry| entry.counter == counter)
                {
                    receipt.buried.push(self.bury(key, code, message, at, revert));
                }
            }
            Op::SetAside { key, counter, fields, message, at } => {
                if self.entry_mut(&key, counter).is_some() {
                    receipt.buried.extend(self.set_aside(key, &fields, message, at));
                }
            }
            Op::Revive { letter, at } => {
                let letters = self.take_letters(letter);
                if letters.iter().any(|letter| letter.transaction.is_some()) {
                    self.transaction = Some(self.last_counter + 1);
                }
                for letter in letters {
                    let key = letter.key.clone();
                    let edits = letter.into_edits(self.rows.get(&key));
                    edits.into_iter().for_each(|edit| self.revive(&key, edit, at));
                }
                self.transaction = None;
            }
            Op::Discard { letter } => drop(self.take_letters(letter)),
            Op::Forget { conflict } => {
                self.journal.remove(&conflict);
            }
            Op::Prune { before } => {
                self.journal.retain(|_, resolved| resolved.decided_at >= before);
            }
            Op::Observe { at } => self.clock = self.clock.max(at),
            Op::Bind { server } => self.server = Some(server),
            Op::Rename => self.rename(),
            cursor_op => self.move_cursor(cursor_op),
        }
        Ok(true)
    }

    fn write(&mut self, key: RecordKey, edit: Edit, at: Millis) -> Result<Option<Counter>, ReplicaError> {
        self.require(&key)?;
        let before = self.rows.get(&key).cloned();
        self.guard(&key, before.as_ref())?;
        match edit {
            Edit::Patch(_) if before.is_none() => return Err(ReplicaError::NotFound(key)),
            Edit::Delete if before.is_none() => return Ok(None),
            _ => {}
        }
        let at = self.stamp(at);
        let after = edit.apply(before.clone());
        self.put(key.clone(), after.clone());
        let edit = match (edit, after) {
            // The server was never offered the row: there is nothing yet that a patch could apply to.
            (Edit::Patch(_) | Edit::Upsert(_), Some(row))
                if self.local.contains(&key) && !self.queue.contains_key(&key) =>
            {
                Edit::Replace(row)
            }
            (edit, _) => edit,
        };
        Ok(Some(self.append(key, edit, at, before)))
    }

    fn guard(&self, key: &RecordKey, row: Option<&Fields>) -> Result<(), ReplicaError> {
        match (self.table(&key.table), row) {
            (Some(table), Some(row)) => guard(&table.policy, key, row),
            _ => Ok(()),
        }
    }

    /// A dead letter's edit, made again: a patch whose record has gone meanwhile creates it.
    fn revive(&mut self, key: &RecordKey, edit: Edit, at: Millis) {
        let before = self.rows.get(key).cloned();
        let edit = match edit {
            Edit::Patch(fields) if before.is_none() => Edit::Upsert(fields),
            edit => edit,
        };
        let at = self.stamp(at);
        self.put(key.clone(), edit.apply(before.clone()));
        self.append(key.clone(), edit, at, before);
    }

    /// The time of a new edit: never at or below the newest that was seen.
    fn stamp(&self, at: Millis) -> Millis {
        at.max(self.clock.saturating_add(1)).min(Limits::LATEST)
    }

    fn put(&mut self, key: RecordKey, record: Option<Fields>) {
        match record {
            Some(record) => self.rows.insert(key, record),
            None => self.rows.remove(&key),
        };
    }

    fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    fn append(&mut self, key: RecordKey, edit: Edit, at: Millis, base: Option<Fields>) -> Counter {
        self.last_counter += 1;
        self.clock = self.clock.max(at);
        let counter = self.last_counter;
        let transaction = self.transaction;
        let entry = Entry {
            counter,
            key: key.clone(),
            edit,
            at,
            sent: None,
            attempts: 0,
            retry_at: None,
            transaction,
        };
        let pending = self.queue.entry(key.clone()).or_insert_with(|| {
            self.order.insert(counter, key);
            Pending { base, entries: Vec::new(), sent_as: BTreeMap::new() }
        });
        pending.entries.push(entry);
        counter
    }

    fn entry_mut(&mut self, key: &RecordKey, counter: Counter) -> Option<&mut Entry> {
        self.queue.get_mut(key)?.entries.iter_mut().find(|entry| entry.counter == counter)
    }

    /// Changes a record's entries and keeps the order up to date.
    fn edit_entries(&mut self, key: &RecordKey, change: impl FnOnce(&mut Pending)) {
        let Some(pending) = self.queue.get_mut(key) else { return };
        let oldest = pending.entries[0].counter;
        change(pending);
        self.order.remove(&oldest);
        match pending.entries.first() {
            Some(entry) => {
                self.order.insert(entry.counter, key.clone());
            }
            None => {
                self.queue.remove(key);
            }
        }
    }

    fn unqueue(&mut self, key: &RecordKey) -> Vec<Entry> {
        let mut gone = Vec::new();
        self.edit_entries(key, |pending| gone = std::mem::take(&mut pending.entries));
        gone
    }

    fn freeze(&mut self, entry: Entry) -> bool {
        let unsent = |e: &Entry| e.counter == entry.counter && e.sent.is_none();
        if !self.queue.get(&entry.key).is_some_and(|pending| pending.entries.iter().any(unsent)) {
            return false;
        }
        self.last_sent = self.last_sent.max(entry.counter);
        self.edit_entries(&entry.key.clone(), |pending| {
            pending.sent_as.remove(&entry.counter);
            pending.entries.retain(|e| e.sent.is_some() || e.counter > entry.counter);
            let place = pending.entries.partition_point(|e| e.sent.is_some());
            pending.entries.insert(place, entry);
        });
        true
    }

    fn settle(&mut self, key: &RecordKey, counter: Counter, record: Option<Fields>) {
        let Some(entry) = self.entry_mut(key, counter).map(|entry| entry.clone()) else { return };
        self.edit_entries(key, |pending| {
            pending.entries.retain(|e| e.counter != counter);
            let after = record.clone().or_else(|| entry.edit.apply(pending.base.take()));
            pending.base = after;
        });
        if !self.queue.contains_key(key) && record.is_some() {
            self.put(key.clone(), record);
        }
        // The server has it, whatever the pages that were read before say.
        self.local.remove(key);
        self.note_seen(&key.table, [key.id.clone()]);
    }

    fn fill(&mut self, key: &RecordKey, base: Fields, row: Fields) {
        if let Some(record) = self.queue.get_mut(key).and_then(|pending| pending.base.as_mut()) {
            record.extend(base);
        }
        if let Some(record) = self.rows.get_mut(key) {
            record.extend(row);
        }
    }

    fn postpone(&mut self, key: &RecordKey, counter: Counter, retry_at: Millis) {
        let Some(attempts) = self.entry_mut(key, counter).map(|entry| entry.attempts + 1) else { return };
        let mut next = self.last_counter;
        self.edit_entries(key, |pending| {
            for entry in &mut pending.entries {
                next += 1;
                (entry.counter, entry.sent, entry.retry_at) = (next, None, Some(retry_at));
            }
            pending.entries[0].attempts = attempts;
        });
        self.last_counter = next;
    }

    fn bury(&mut self, key: RecordKey, code: String, message: String, at: Millis, revert: Revert) -> i64 {
        let mut base = self.queue.get(&key).and_then(|pending| pending.base.clone());
        let mut entries = Vec::new();
        self.edit_entries(&key, |pending| {
            entries.extend(pending.entries.drain(..Entry::given_up(&pending.entries)));
        });
        let transaction = entries.first().and_then(|entry| entry.transaction);
        let keep = revert == Revert::Keep;
        match revert {
            // That the server has no such record says nothing of one that it was never offered before.
            Revert::To(record) if record.is_some() || !self.local.contains(&key) => base = record,
            _ => {}
        }
        let is_lost = base.is_none() && !keep;
        let row = match self.queue.get_mut(&key) {
            None => base,
            Some(rest) => {
                rest.base.clone_from(&base);
                Entry::make_again(&mut rest.entries, base)
            }
        };
        if !keep {
            self.put(key.clone(), row);
        } else if !self.queue.contains_key(&key) {
            self.local.insert(key.clone());
        }
        let id = self.next_id();
        let mut edits: Vec<_> = entries.into_iter().map(|entry| (entry.edit, entry.at)).collect();
        if is_lost {
            let of_record = |letter: &DeadLetter| letter.key == key && letter.is_set_aside();
            let aside = self.dead.extract_if(.., |_, letter| of_record(letter));
            DeadLetter::take_in(aside.map(|(_, letter)| letter).collect(), &mut edits);
        }
        self.dead.insert(id, DeadLetter { id, key, edits, code, message, at, transaction });
        id
    }

    fn set_aside(
        &mut self,
        key: RecordKey,
        fields: &BTreeSet<String>,
        message: String,
        at: Millis,
    ) -> Option<i64> {
        let base = self.queue.get(&key).and_then(|pending| pending.base.clone());
        let entries = self.unqueue(&key);
        let transaction = entries.first().and_then(|entry| entry.transaction);
        let (rest, edits) = Entry::set_aside(entries, fields);
        for entry in rest {
            self.transaction = entry.transaction;
            self.append(key.clone(), entry.edit, entry.at, base.clone());
        }
        self.transaction = None;
        (!edits.is_empty()).then(|| {
            let (id, code) = (self.next_id(), DeadLetter::SET_ASIDE.to_owned());
            self.dead.insert(id, DeadLetter { id, key, edits, code, message, at, transaction });
            id
        })
    }

    /// Takes out a letter, and those of its transaction with it.
    fn take_letters(&mut self, letter: i64) -> Vec<DeadLetter> {
        self.siblings(letter).iter().filter_map(|id| self.dead.remove(id)).collect()
    }

    /// A letter, and those of its transaction.
    pub(crate) fn siblings(&self, letter: i64) -> Vec<i64> {
        let Some(letter) = self.dead.get(&letter) else { return Vec::new() };
        let is_one = |other: &DeadLetter| {
            other.id == letter.id || (other.transaction.is_some() && other.transaction == letter.transaction)
        };
        self.dead.values().filter(|other| is_one(other)).map(|other| other.id).collect()
    }

    /// Has one new edit take the place of all that is pending of a record.
    fn put_in_place(&mut self, key: RecordKey, edit: Edit, at: Millis, base: Option<Fields>) {
        let gone = self.unqueue(&key);
        self.transaction = self.joined(&gone);
        self.append(key, edit, at, base);
        self.transaction = None;
    }

    /// The transaction of what takes the place of some entries of a record: all of theirs become one. It comes instead of the last of
    /// them, so those in between become a part of it too, or each could wait for the other.
    fn joined(&mut self, gone: &[Entry]) -> Option<Counter> {
        let theirs: BTreeSet<Counter> = gone.iter().filter_map(|entry| entry.transaction).collect();
        let (first, last) = (*theirs.first()?, *theirs.last()?);
        if first == last {
            return Some(last);
        }
        let entries = || self.queue.values().flat_map(|pending| &pending.entries);
        let sent: BTreeSet<Counter> =
            entries().filter(|entry| entry.sent.is_some()).filter_map(|entry| entry.transaction).collect();
        let is_part = |transaction: Counter| {
            theirs.contains(&transaction)
                || (first < transaction && transaction < last && !sent.contains(&transaction))
        };
        for pending in self.queue.values_mut() {
            let is_one = |entry: &Entry| entry.transaction.is_some_and(is_part);
            let Some(begin) = pending.entries.iter().position(is_one) else { continue };
            let end = pending.entries.iter().rposition(is_one).unwrap_or(begin);
            for entry in &mut pending.entries[begin..=end] {
                (entry.transaction, entry.sent) = (Some(last), None);
            }
        }
        Some(last)
    }

    fn rename(&mut self) {
        self.renamed += 1;
        self.last_sent = 0;
        for entry in self.queue.values_mut().flat_map(|pending| &mut pending.entries) {
            entry.sent = None;
        }
    }

    fn move_cursor(&mut self, op: Op) {
        match op {
            Op::Advance { table, cursor, seen } => {
                let Some(state) = self.table_mut(&table) else { return };
                state.cursor = Some(cursor);
                self.note_seen(&table, seen);
            }
            Op::Skip { table, from, to } => {
                let Some(state) = self.table_mut(&table) else { return };
                if state.phase == Phase::Following && state.cursor.as_ref() == Some(&from) {
                    (state.cursor, state.ahead) = (Some(to), None);
                } else if state.cursor.as_ref() != Some(&to) {
                    state.ahead = Some(to);
                }
            }
            Op::Restart { table, phase, ahead } => self.restart(&table, phase, ahead),
            Op::Complete { table, at, passed } => self.complete(&table, at, passed.as_ref()),
            Op::Declared { table } => self.set_declared(&table, true),
            Op::Undeclared { table } => self.set_declared(&table, false),
            _ => {}
        }
    }

    fn set_declared(&mut self, table: &TableName, declared: bool) {
        if let Some(state) = self.table_mut(table) {
            state.declared = declared;
        }
    }

    /// Remembers that the server has these records, until the end of a resync or restore.
    fn note_seen(&mut self, table: &TableName, ids: impl IntoIterator<Item = RecordId>) {
        if self.table(table).is_some_and(|state| matches!(state.phase, Phase::Resync | Phase::Restore { .. }))
        {
            self.seen.extend(ids.into_iter().map(|id| RecordKey { table: table.clone(), id }));
        }
    }

    fn restart(&mut self, table: &TableName, phase: Phase, ahead: Option<Cursor>) {
        let Some(state) = self.table_mut(table) else { return };
        (state.cursor, state.ahead, state.phase) = (None, ahead, phase);
        // A restored server may lack the declaration too.
        state.declared &= !matches!(phase, Phase::Restore { .. });
        self.seen.retain(|key| key.table != *table);
        let mut next = self.last_counter;
        let is_sent = |key: &&RecordKey| self.queue.get(*key).is_some_and(|p| p.entries[0].sent.is_some());
        let sent: Vec<RecordKey> =
            self.order.values().filter(|key| key.table == *table).filter(is_sent).cloned().collect();
        for key in sent {
            self.edit_entries(&key, |pending| {
                for entry in &mut pending.entries {
                    next += 1;
                    (entry.counter, entry.sent) = (next, None);
                }
            });
        }
        self.last_counter = next;
    }

    fn complete(&mut self, table: &TableName, at: Millis, passed: Option<&Cursor>) {
        let Some(state) = self.table_mut(table) else { return };
        let phase = std::mem::replace(&mut state.phase, Phase::Following);
        state.synced_at = Some(at);
        if state.ahead == state.cursor || state.ahead.as_ref() == passed {
            state.ahead = None;
        }
        let unseen: Vec<RecordKey> = self
            .rows
            .keys()
            .filter(|key| key.table == *table && !self.seen.contains(*key) && !self.local.contains(*key))
            .cloned()
            .collect();
        match phase {
            Phase::First | Phase::Following => {}
            Phase::Resync | Phase::Restore { .. } => {
                for key in unseen {
                    if phase == Phase::Resync && !self.queue.contains_key(&key) {
                        self.rows.remove(&key);
                    } else {
                        self.offer_whole(key);
                    }
                }
                // What was deleted here the server does not have either.
                let is_unseen = |key: &RecordKey| key.table == *table && !self.seen.contains(key);
                let gone =
                    self.queue.iter_mut().filter(|(key, _)| is_unseen(key) && !self.rows.contains_key(*key));
                gone.for_each(|(_, pending)| pending.base = None);
            }
        }
        self.seen.retain(|key| key.table != *table);
    }

    /// What is pending may be a patch, and the server has no record that it could apply to.
    fn offer_whole(&mut self, key: RecordKey) {
        let row = self.rows.get(&key).cloned().unwrap_or_default();
        let pending = self.queue.get(&key).map_or(&[][..], |pending| &pending.entries);
        let at = pending.iter().map(|entry| entry.at).fold(1, Millis::max);
        self.put_in_place(key, Edit::Replace(row), at, None);
    }

    pub(crate) fn due(&self, limits: &DueLimits) -> Due {
        let sent = self.heads().filter(|head| head.sent.is_some()).count();
        let mut due = Due::default();
        if limits.under_way == 0 && sent > 0 {
            self.take_due(&mut due, limits, true);
        } else if sent <= limits.under_way {
            self.take_due(&mut due, limits, false);
        }
        due.next_retry = self.heads().filter_map(|head| limits.retry_of(head)).min();
        due
    }

    /// The records' oldest entries.
    fn heads(&self) -> impl Iterator<Item = &Entry> {
        self.order.values().filter_map(|key| self.queue.get(key)?.entries.first())
    }

    fn take_due(&self, due: &mut Due, limits: &DueLimits, sent: bool) {
        let (mut bytes, mut taken) = (0, BTreeSet::new());
        for head in self.heads().filter(|head| head.sent.is_some() == sent) {
            let groups = match head.transaction {
                None if limits.retry_of(head).is_some() => continue,
                None => vec![self.first_group(&head.key)],
                Some(transaction) if !taken.insert(transaction) => continue,
                Some(transaction) => self.members(transaction, limits, sent),
            };
            let size: usize = groups.iter().flatten().map(|entry| size(&entry.edit)).sum();
            let is_full = due.groups.len() + groups.len() > limits.records || bytes + size > limits.bytes;
            if is_full && !due.groups.is_empty() {
                break;
            }
            bytes += size;
            due.groups.extend(groups);
        }
    }

    fn first_group(&self, key: &RecordKey) -> Vec<Entry> {
        let Some(pending) = self.queue.get(key) else { return Vec::new() };
        match pending.entries.first() {
            Some(sent) if sent.sent.is_some() => vec![pending.as_sent(sent)],
            _ => pending.entries[..Entry::first_group(&pending.entries)].to_vec(),
        }
    }

    /// The groups of a transaction; none while one of its records waits. Where some of it was sent, that is asked about in any case.
    fn members(&self, transaction: Counter, limits: &DueLimits, sent: bool) -> Vec<Vec<Entry>> {
        let is_member = |entry: &Entry| entry.transaction == Some(transaction);
        let records: Vec<&RecordKey> =
            self.queue.iter().filter(|(_, p)| p.entries.iter().any(is_member)).map(|(key, _)| key).collect();
        let mut groups: Vec<Vec<Entry>> = records.into_iter().map(|key| self.first_group(key)).collect();
        groups.sort_by_key(|group| group[0].counter);
        let is_ready = |group: &Vec<Entry>| is_member(&group[0]) && limits.retry_of(&group[0]).is_none();
        let is_sent = |group: &Vec<Entry>| group[0].sent.is_some() && is_member(&group[0]);
        let all_ready = groups.iter().all(is_ready);
        match sent {
            true if all_ready => groups,
            true => groups.into_iter().filter(is_sent).collect(),
            false if all_ready && !groups.iter().any(is_sent) => groups,
            false => Vec::new(),
        }
    }
}

fn size(edit: &Edit) -> usize {
    edit.fields().and_then(|fields| crate::record::measure(fields).ok()).unwrap_or(0)
}

impl Store {
    pub(crate) fn state(&self) -> State {
        State {
            replica: self.identity(),
            generation: self.generation,
            server: self.server.clone(),
            clock: self.clock,
            last_counter: self.last_counter,
            last_sent: self.last_sent,
            schema: self.schema,
            tables: self.tables.clone(),
            pending: self.pending(),
            dead_letters: self.dead.len() as u64,
            conflicts: self.journal.len() as u64,
            quarantined: 0,
        }
    }

    pub(crate) fn records(&self, table: &TableName, ids: &[RecordId], rows: bool) -> Vec<Seen> {
        let look = |id: &RecordId| {
            let key = RecordKey { table: table.clone(), id: id.clone() };
            let pending = self.queue.get(&key);
            (rows || pending.is_some()).then(|| Seen {
                id: id.clone(),
                row: self.rows.get(&key).cloned(),
                base: pending.and_then(|pending| pending.base.clone()),
                entries: pending.map(|pending| pending.entries.clone()).unwrap_or_default(),
            })
        };
        ids.iter().filter_map(look).collect()
    }

    pub(crate) fn unsettled(&self, table: &TableName, limit: usize) -> Vec<Entry> {
        let entries =
            self.order.values().filter_map(|key| self.queue.get(key)).flat_map(|pending| &pending.entries);
        let sent = entries.filter(|entry| entry.key.table == *table && entry.sent.is_some());
        sent.take(limit).cloned().collect()
    }

    /// As [`commit`](Self::commit), but where it fails or is stale nothing is left behind.
    pub(crate) fn try_commit(&mut self, batch: Batch) -> Result<Outcome, ReplicaError> {
        // A batch of one step leaves nothing behind when it fails; a longer one is tried on a copy.
        if batch.ops.len() == 1 {
            return self.commit(batch);
        }
        let mut trial = self.clone();
        let outcome = trial.commit(batch)?;
        if matches!(outcome, Outcome::Committed(_)) {
            *self = trial;
        }
        Ok(outcome)
    }

    pub(crate) fn adopt(&mut self, schema: &Schema) -> Result<bool, ReplicaError> {
        let found = self.schema;
        if !schema.is_ahead_of(found)? {
            return Ok(false);
        }
        self.queue.iter_mut().for_each(|(key, pending)| pending.adopt(schema, found, &key.table));
        self.dead.values_mut().for_each(|letter| schema.upgrade_letter(found, letter));
        self.journal.values_mut().for_each(|resolved| schema.upgrade_resolved(found, resolved));
        self.schema = schema.number();
        Ok(true)
    }

    pub(crate) fn add_table(&mut self, options: TableOptions) -> bool {
        if let Some(table) = self.table_mut(&options.name) {
            let changed = table.policy != options.policy;
            table.policy = options.policy;
            return changed;
        }
        self.former.remove(&options.name);
        let keys: Vec<RecordKey> =
            self.rows.keys().filter(|key| key.table == options.name).cloned().collect();
        self.tables.push(TableState {
            spec: TableSpec::document(options.name),
            policy: options.policy,
            cursor: None,
            phase: Phase::First,
            declared: false,
            synced_at: None,
            ahead: None,
            gained: BTreeSet::new(),
        });
        if options.existing == Existing::Ignore {
            self.local.extend(keys);
            return true;
        }
        for key in keys {
            let row = self.rows.get(&key).cloned().unwrap_or_default();
            // Whole: a server that has more of the document than this device is to have no more.
            self.append(key, Edit::Replace(row), 0, None);
        }
        true
    }

    pub(crate) fn remove_table(&mut self, table: &TableName) -> bool {
        let before = self.tables.len();
        self.tables.retain(|state| state.spec.name != *table);
        let keys: Vec<RecordKey> = self.queue.keys().filter(|key| key.table == *table).cloned().collect();
        for key in keys {
            self.unqueue(&key);
        }
        self.dead.retain(|_, letter| letter.key.table != *table);
        self.journal.retain(|_, resolved| resolved.key.table != *table);
        self.seen.retain(|key| key.table != *table);
        let removed = self.tables.len() < before;
        if removed {
            self.former.insert(table.clone());
        }
        removed
    }

    pub(crate) fn logout(&mut self, discard: bool) -> Logout {
        let changes = self.pending() + self.dead.len() as u64;
        if changes > 0 && !discard {
            return Logout::Unsynced { changes };
        }
        let mut fresh = Self::new(self.seed);
        fresh.rows = std::mem::take(&mut self.rows);
        fresh.rows.retain(|key, _| self.table(&key.table).is_none() && !self.former.contains(&key.table));
        fresh.renamed = self.renamed + 1;
        fresh.generation = self.generation + 1;
        fresh.schema = self.schema;
        fresh.tables.clone_from(&self.tables);
        for table in &mut fresh.tables {
            (table.cursor, table.ahead, table.phase) = (None, None, Phase::First);
            (table.synced_at, table.declared) = (None, false);
            table.policy.user = None;
        }
        *self = fresh;
        Logout::Done { discarded: changes }
    }

    pub(crate) fn entries(&self, after: Counter, limit: usize) -> Vec<Entry> {
        let mut entries: Vec<&Entry> = self.queue.values().flat_map(|pending| &pending.entries).collect();
        entries.sort_by_key(|entry| entry.counter);
        entries.into_iter().filter(|entry| entry.counter > after).take(limit).cloned().collect()
    }

    pub(crate) fn dead_letters(&self, after: i64, limit: usize) -> Vec<DeadLetter> {
        let letters = self.dead.range(after.saturating_add(1)..);
        letters.take(limit).map(|(_, letter)| letter.clone()).collect()
    }

    pub(crate) fn conflicts(&self, before: i64, limit: usize) -> Vec<Journaled> {
        let journaled =
            |(id, resolved): (&i64, &Resolved)| Journaled { id: *id, resolved: Some(resolved.clone()) };
        self.journal.range(..before).rev().take(limit).map(journaled).collect()
    }

    pub(crate) fn account(&self, key: &RecordKey) -> Result<Account, ReplicaError> {
        self.require(key)?;
        let mut account = Account::empty(key.clone());
        account.row = self.rows.get(key).cloned();
        if let Some(pending) = self.queue.get(key) {
            (account.base, account.entries) = (pending.base.clone(), pending.entries.clone());
        }
        account.letters = self.dead.values().filter(|letter| letter.key == *key).cloned().collect();
        let its = self.journal.iter().rev().filter(|(_, resolved)| resolved.key == *key);
        account.conflicts =
            its.map(|(id, resolved)| Journaled { id: *id, resolved: Some(resolved.clone()) }).collect();
        account.never_offered = self.local.contains(key);
        Ok(account)
    }
}

#[async_trait]
impl Replica for MemoryReplica {
    async fn state(&self) -> Result<State, ReplicaError> {
        Ok(self.open()?.state())
    }

    async fn get(&self, key: &RecordKey) -> Result<Option<Fields>, ReplicaError> {
        let store = self.open()?;
        store.require(key)?;
        Ok(store.rows.get(key).cloned())
    }

    async fn records(
        &self,
        table: &TableName,
        ids: &[RecordId],
        rows: bool,
    ) -> Result<Vec<Seen>, ReplicaError> {
        Ok(self.open()?.records(table, ids, rows))
    }

    async fn due(&self, limits: &DueLimits) -> Result<Due, ReplicaError> {
        Ok(self.open()?.due(limits))
    }

    async fn unsettled(&self, table: &TableName, limit: usize) -> Result<Vec<Entry>, ReplicaError> {
        Ok(self.open()?.unsettled(table, limit))
    }

    async fn commit(&self, batch: Batch) -> Result<Outcome, ReplicaError> {
        self.open()?.try_commit(batch)
    }

    async fn adopt(&self, schema: &Schema) -> Result<bool, ReplicaError> {
        self.open()?.adopt(schema)
    }

    async fn add_table(&self, options: TableOptions) -> Result<bool, ReplicaError> {
        Ok(self.open()?.add_table(options))
    }

    async fn remove_table(&self, table: &TableName) -> Result<bool, ReplicaError> {
        Ok(self.open()?.remove_table(table))
    }

    async fn logout(&self, discard: bool) -> Result<Logout, ReplicaError> {
        Ok(self.open()?.logout(discard))
    }

    async fn queue(&self, after: Counter, limit: usize) -> Result<Vec<Entry>, ReplicaError> {
        Ok(self.open()?.entries(after, limit))
    }

    async fn dead_letters(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, ReplicaError> {
        Ok(self.open()?.dead_letters(after, limit))
    }

    async fn conflicts(&self, before: i64, limit: usize) -> Result<Vec<Journaled>, ReplicaError> {
        Ok(self.open()?.conflicts(before, limit))
    }

    async fn account(&self, key: &RecordKey) -> Result<Account, ReplicaError> {
        self.open()?.account(key)
    }

    async fn close(&self) {
        self.lock().closed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::Store;

    #[test]
    fn a_new_name_is_another_one_whatever_the_first_was_made_from() {
        for seed in [[0; 16], [7; 16], [255; 16]] {
            let mut store = Store::new(seed);
            let before = store.identity();
            store.renamed += 1;
            assert_ne!(store.identity(), before);
        }
    }
}
