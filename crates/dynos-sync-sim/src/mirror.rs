//! What the server must have, kept by the rules of the protocol beside the server, and the rules that every commit has to
//! keep: compare and set, one effect, order, nothing invented.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dynos_sync_core::{
    Counter, Cursor, Fields, Operation, RecordKey, ReplicaId, Seq,
    wire::{PushEntry, PushResult},
};

use crate::history::{History, OpId, written};

/// A user's device under one of its identities.
pub type Writer = (String, ReplicaId);

/// Whose records: a user's, or everybody's.
pub type ScopeName = String;

/// One change that the server has acknowledged.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Where.
    pub scope: ScopeName,
    /// Its number there.
    pub seq: Seq,
    /// Who made it.
    pub writer: Writer,
    /// Which device.
    pub device: usize,
    /// The entry's number.
    pub counter: Counter,
    /// The record.
    pub key: RecordKey,
    /// On top of which change of the record it was made.
    pub base: Seq,
    /// The record afterwards.
    pub after: Option<Fields>,
    /// How often the server had been put back by then.
    restores: u64,
}

/// A record as the server must have it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The number of its last change.
    pub seq: Seq,
    /// Who made that.
    pub writer: Writer,
    /// What it holds; `None` for a tombstone.
    pub record: Option<Fields>,
    /// Whether the tombstone is gone: then the next edit makes a new record.
    pub purged: bool,
}

/// The server's data, as it must be.
#[derive(Debug, Default)]
pub struct Mirror {
    /// Every commit there ever was.
    log: Vec<Commit>,
    /// Those of them that the server still has.
    alive: Vec<usize>,
    kept: BTreeMap<(ScopeName, RecordKey), Kept>,
    effects: BTreeSet<(Writer, Counter)>,
    /// The newest operation of a device that reached a field of a record through that device, under one identity.
    newest: BTreeMap<(Writer, RecordKey, String), OpId>,
    /// Operations that the server had, and lost.
    lost: BTreeSet<OpId>,
    /// Operations that have taken effect once. Their values may come back, with a conflict's outcome for instance.
    known: BTreeSet<OpId>,
    /// Records whose older operations may come again: somebody has taken up a dead letter, or undone a conflict.
    pub revived: BTreeSet<(usize, RecordKey)>,
    /// Cursors that the server has told, and when: counted in restores. One text may be a place in several scopes.
    told: HashMap<(ScopeName, Cursor), u64>,
    restores: u64,
}

/// Which commits a copy of the server has.
#[derive(Clone, Debug)]
pub struct Lineage(Vec<usize>);

impl Mirror {
    /// Whether an operation has ever taken effect.
    pub fn is_known(&self, op: OpId) -> bool {
        self.known.contains(&op)
    }

    /// Takes note of what the server says it has done.
    pub fn committed(
        &mut self,
        history: &History,
        scope: &str,
        writer: &Writer,
        device: usize,
        entry: &PushEntry,
        result: &PushResult,
    ) {
        let PushResult::Applied { seq, .. } = result else { return };
        let writer = writer.clone();
        let key = RecordKey { table: entry.table.clone(), id: entry.id.clone() };
        let place = (scope.to_owned(), key.clone());
        let before = self.kept.get(&place);
        if let Some(before) = before
            && before.writer != writer
            && !before.purged
            && entry.base.as_ref().map_or(0, seq_of) < before.seq
        {
            let found = format!(
                "{key}: change {seq} of device {device} was made on {:?}, but the record had changed at {}",
                entry.base, before.seq
            );
            history.violation("compare and set", found);
        }
        if !self.effects.insert((writer.clone(), entry.counter)) {
            history.violation("one effect", format!("{key}: entry {} of device {device}", entry.counter));
        }
        let newest_seq = self.scope_seq(scope);
        if *seq <= newest_seq {
            history.violation("commit order", format!("{key}: {seq} after {newest_seq}"));
        }
        let record = before.and_then(|before| before.record.clone());
        if entry.op == Operation::Patch && record.is_none() {
            history.violation("no invention", format!("{key}: a patch of nothing was applied"));
        }
        self.check_fields(history, device, &writer, &key, entry);
        let after = without_nulls(entry.edit().apply(record.clone()));
        history.replaced(&key, record.as_ref(), after.as_ref());
        self.kept
            .insert(place, Kept { seq: *seq, writer: writer.clone(), record: after.clone(), purged: false });
        self.alive.push(self.log.len());
        let (scope, seq, counter) = (scope.to_owned(), *seq, entry.counter);
        let base = entry.base.as_ref().map_or(0, seq_of);
        let restores = self.restores;
        self.log.push(Commit { scope, seq, writer, device, counter, key, base, after, restores });
    }

    fn check_fields(
        &mut self,
        history: &History,
        device: usize,
        writer: &Writer,
        key: &RecordKey,
        entry: &PushEntry,
    ) {
        for (field, value) in entry.data.iter().flatten() {
            let Some(op) = written(value) else { continue };
            let known = history.lock().ops.get(op as usize).map(|op| (op.device, op.key.clone()));
            let Some((author, record)) = known else {
                history.violation("no invention", format!("{key}: nobody wrote {value}"));
                continue;
            };
            if record != *key {
                history.violation("no invention", format!("{key}: holds {value}, which was for {record}"));
            }
            let first = !self.known.contains(&op);
            if author != device || !first || self.revived.contains(&(device, key.clone())) {
                continue;
            }
            let newest = self.newest.entry((writer.clone(), key.clone(), field.clone())).or_insert(op);
            let in_order = {
                let ops = &history.lock().ops;
                op == *newest || ops[op as usize].may_follow(&ops[*newest as usize])
            };
            if !in_order {
                let found = format!("{key}.{field}: o{op} of device {device} took effect after o{newest}");
                history.violation("order", found);
            }
            *newest = op.max(*newest);
        }
        self.known.extend(entry.data.iter().flat_map(Fields::values).filter_map(written));
    }

    /// The server has forgotten tombstones: these are the records that it still has.
    pub fn purge(&mut self, left: &BTreeSet<(ScopeName, RecordKey)>) {
        for (place, kept) in &mut self.kept {
            kept.purged |= kept.record.is_none() && !left.contains(place);
        }
    }

    /// The newest number of a scope.
    pub fn scope_seq(&self, scope: &str) -> Seq {
        let commits = self.alive.iter().rev().map(|place| &self.log[*place]);
        commits.filter(|commit| commit.scope == scope).map(|commit| commit.seq).next().unwrap_or(0)
    }

    /// The records of a scope.
    pub fn records<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = (&'a RecordKey, &'a Kept)> {
        self.kept.iter().filter(move |((name, _), _)| name == scope).map(|((_, key), kept)| (key, kept))
    }

    /// A record.
    pub fn record(&self, scope: &str, key: &RecordKey) -> Option<&Kept> {
        self.kept.get(&(scope.to_owned(), key.clone()))
    }

    /// The scopes there are.
    pub fn scopes(&self) -> BTreeSet<ScopeName> {
        self.kept.keys().map(|(scope, _)| scope.clone()).collect()
    }

    /// Every operation that the server ever had.
    pub fn ever_had(&self) -> BTreeSet<OpId> {
        let values = self.log.iter().filter_map(|commit| commit.after.as_ref()).flat_map(Fields::values);
        values.filter_map(written).collect()
    }

    /// What a copy made now would have.
    pub fn lineage(&self) -> Lineage {
        Lineage(self.alive.clone())
    }

    /// Whether a copy holds nothing but what the server has now, too.
    pub fn is_of_this_history(&self, lineage: &Lineage) -> bool {
        self.alive.starts_with(&lineage.0)
    }

    /// The server was put back to a copy.
    pub fn restore(&mut self, lineage: &Lineage) {
        self.rebuild(lineage.0.clone());
    }

    /// The server has lost its last commits: these are the numbers that its scopes have reached now. Answers how many.
    pub fn lose(&mut self, seqs: &BTreeMap<ScopeName, Seq>) -> usize {
        let left = |place: &usize| {
            let commit = &self.log[*place];
            commit.seq <= seqs.get(&commit.scope).copied().unwrap_or(0)
        };
        let left: Vec<usize> = self.alive.iter().copied().filter(|place| left(place)).collect();
        let lost = self.alive.len() - left.len();
        if lost > 0 {
            self.rebuild(left);
        }
        lost
    }

    /// Whether somebody's version of a record was made on top of what a device wrote there: then there is nothing to decide between
    /// the two.
    pub fn was_made_on(
        &self,
        scope: &str,
        key: &RecordKey,
        (base, theirs): (Option<&Fields>, &Fields),
        device: usize,
        mine: OpId,
    ) -> bool {
        let (base, theirs) = (without_nulls(base.cloned()), without_nulls(Some(theirs.clone())));
        let holds = |commit: &Commit| {
            commit.after.iter().flat_map(Fields::values).filter_map(written).any(|op| op == mine)
        };
        let of_record = |commit: &&Commit| commit.scope == scope && commit.key == *key;
        let commits = || self.alive.iter().map(|place| &self.log[*place]).filter(of_record);
        let Some(own) = commits().find(|commit| commit.device == device && holds(commit)) else {
            return false;
        };
        // What a server lost is offered again, by anybody, and may have been met before.
        let mut before = self.log.iter().filter(of_record).take_while(|commit| !std::ptr::eq(*commit, own));
        if own.restores != self.restores || before.any(|commit| commit.after == theirs) {
            return false;
        }
        // The device saw what took the place of its own, and came back to it.
        if commits().any(|commit| commit.seq > own.seq && commit.after == base) {
            return false;
        }
        // The record that the device knew is gone since: its name is somebody else's now, or its fields are offered again by
        // whoever brings it back.
        if commits().any(|commit| commit.seq > own.seq && commit.after.is_none()) {
            return false;
        }
        let on_top = |commit: &Commit| commit.device != device && commit.base >= own.seq;
        commits().any(|commit| on_top(commit) && commit.after == theirs)
    }

    /// Whether the server had an operation once, and lost it.
    pub fn has_lost(&self, op: OpId) -> bool {
        self.lost.contains(&op)
    }

    fn rebuild(&mut self, alive: Vec<usize>) {
        let left: BTreeSet<usize> = alive.iter().copied().collect();
        let gone = self.alive.iter().filter(|place| !left.contains(place)).map(|place| &self.log[*place]);
        self.lost
            .extend(gone.flat_map(|commit| commit.after.iter().flat_map(Fields::values)).filter_map(written));
        self.restores += 1;
        self.kept.clear();
        self.effects.clear();
        self.newest.clear();
        for place in &alive {
            let commit = self.log[*place].clone();
            self.effects.insert((commit.writer.clone(), commit.counter));
            let kept = Kept { seq: commit.seq, writer: commit.writer, record: commit.after, purged: false };
            self.kept.insert((commit.scope, commit.key), kept);
        }
        self.alive = alive;
    }

    /// The server tells a cursor.
    pub fn tell(&mut self, scope: &str, cursor: &Cursor) {
        self.told.insert((scope.to_owned(), cursor.clone()), self.restores);
    }

    /// The place of a cursor that the server has told since it was last restored.
    pub fn place_of(&self, scope: &str, cursor: &Cursor) -> Option<Seq> {
        (self.told.get(&(scope.to_owned(), cursor.clone())) == Some(&self.restores)).then(|| seq_of(cursor))
    }
}

/// The place that a cursor names.
pub fn seq_of(cursor: &Cursor) -> Seq {
    cursor.as_str().split('.').nth(1).and_then(|seq| seq.parse().ok()).unwrap_or(0)
}

/// A record without the fields that are null: in a table with columns, whoever makes it may not know all of these, and the server says null.
pub fn without_nulls(record: Option<Fields>) -> Option<Fields> {
    record.map(|record| record.into_iter().filter(|(_, value)| !value.is_null()).collect())
}
