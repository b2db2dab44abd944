//! Pulling: what a page of changes means for this device.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    clock::Millis,
    conflict::{Conflict, Resolution, StrategyName, outcome},
    cursor::Cursor,
    entry::{Edit, Entry},
    error::Limits,
    ids::{Counter, RecordId, RecordKey, Seq, TableName},
    ownership::Violation,
    record::{Change, Fields, measure},
    redact::Redactor,
    replica::{Batch, Expected, Op, Phase, Resolved, Seen, State, TableState},
    table::Shape,
    wire::{Page, PullRequest},
};

/// Checks a page against what was asked for. `last` is the highest seq of the pages before it.
///
/// # Errors
/// A sentence, where the page does not follow the protocol. Nothing of it may be used then.
pub fn check(request: &PullRequest, page: &Page, last: Seq) -> Result<(), String> {
    let mut previous = last;
    let mut ids = BTreeSet::new();
    if page.changes.len() > request.limit {
        return Err(format!("{} changes, {} were asked for", page.changes.len(), request.limit));
    }
    for change in &page.changes {
        if change.seq <= previous {
            return Err(format!("seq {} follows {previous}", change.seq));
        }
        previous = change.seq;
        if !ids.insert(&change.id) {
            return Err("a record appears twice in one page".to_owned());
        }
        if !(0..=Limits::LATEST).contains(&change.at) {
            return Err(format!("an edit time of {} ms", change.at));
        }
        if change.record.as_ref().is_some_and(|record| measure(record).is_err()) {
            return Err(format!("a record is nested deeper than {} levels", Limits::DEPTH));
        }
    }
    if page.next.as_str().len() > Cursor::MAX_BYTES {
        return Err(format!("a cursor is longer than {} bytes", Cursor::MAX_BYTES));
    }
    if page.has_more && (page.changes.is_empty() || Some(&page.next) == request.cursor.as_ref()) {
        return Err("it claims more to come, but does not move on".to_owned());
    }
    if page.settled.iter().any(|counter| !request.unsettled.contains(counter)) {
        return Err("it settles an entry that was not asked about".to_owned());
    }
    Ok(())
}

/// A page, compared with what is pending here.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    table: TableName,
    expected: Expected,
    ops: Vec<Op>,
    seen: Vec<RecordId>,
    /// Changes of records with pending entries, to be decided.
    pub conflicts: Vec<Conflict>,
    /// Rows that name another owner, left out.
    pub foreign: Vec<(RecordKey, Violation)>,
    /// Columns that the server sends and the local table does not have, left out.
    pub unknown_columns: BTreeSet<String>,
    /// Rows to be stored.
    pub stored: usize,
}

impl Reading {
    /// The table.
    pub fn table(&self) -> &TableName {
        &self.table
    }
}

/// Whether the planner has to see the rows themselves, beside pending entries.
pub fn needs_rows(table: &TableState) -> bool {
    matches!(table.phase, Phase::Restore { .. })
}

/// Reads a page. `unsettled` are the entries that the request asked about, `seen` is what
/// [`records`](crate::Replica::records) answered for the page's ids.
pub fn read(
    state: &State,
    table: &TableState,
    request: &PullRequest,
    unsettled: &[Entry],
    page: Page,
    seen: Vec<Seen>,
) -> Reading {
    let local: BTreeMap<RecordId, Seen> = seen.into_iter().map(|seen| (seen.id.clone(), seen)).collect();
    let key = |id: &RecordId| RecordKey { table: table.spec.name.clone(), id: id.clone() };
    let newest = page.changes.iter().map(|change| {
        let entries = local.get(&change.id).map_or(&[][..], |seen| &seen.entries);
        (key(&change.id), entries.last().map(|entry| entry.counter))
    });
    let mut reading = Reading {
        table: table.spec.name.clone(),
        expected: Expected {
            generation: Some(state.generation),
            newest: newest.collect(),
            cursor: Some((table.spec.name.clone(), request.cursor.clone())),
        },
        ops: Vec::new(),
        seen: page.changes.iter().map(|change| change.id.clone()).collect(),
        conflicts: Vec::new(),
        foreign: Vec::new(),
        unknown_columns: BTreeSet::new(),
        stored: 0,
    };
    if let Some(at) = page.changes.iter().map(|change| change.at).max() {
        reading.ops.push(Op::Observe { at });
    }
    // Most settled entries concern records that the page does not list: nobody else changed them.
    let settled: BTreeSet<Counter> = page.settled.iter().copied().collect();
    let done = unsettled.iter().filter(|entry| settled.contains(&entry.counter));
    reading.ops.extend(done.map(|e| Op::Settle { key: e.key.clone(), counter: e.counter, record: None }));
    let mut reader = Reader { table, redactor: Redactor::new(&table.policy.sensitive_fields), settled, reading };
    for change in page.changes {
        let seen = local.get(&change.id);
        reader.read_change(key(&change.id), change, seen);
    }
    reader.reading
}

struct Reader<'a> {
    table: &'a TableState,
    redactor: Redactor,
    settled: BTreeSet<Counter>,
    reading: Reading,
}

impl Reader<'_> {
    fn read_change(&mut self, key: RecordKey, change: Change, seen: Option<&Seen>) {
        let remote = match change.record.map(|record| self.accept(record)).transpose() {
            Ok(remote) => remote,
            Err(violation) => return self.reading.foreign.push((key, violation)),
        };
        let (base, pending) = self.unsettled(seen);
        let row = seen.and_then(|seen| seen.row.clone());
        if let Some(local_at) = pending {
            let passed_over = change.own || matches!(self.table.phase, Phase::Restore { common } if change.seq <= common);
            if !passed_over {
                let conflict = Conflict { key, base, local: row, remote, local_at, remote_at: change.at };
                self.reading.conflicts.push(conflict);
            }
        } else if let (Phase::Restore { common }, true) = (self.table.phase, row != remote)
            && change.seq <= common
        {
            // The server lost what this device knows.
            let edit = row.map_or(Edit::Delete, Edit::Replace);
            self.reading.ops.push(Op::Offer { key, base: remote, edit, at: change.at.saturating_add(1) });
        } else {
            self.reading.stored += 1;
            self.reading.ops.push(Op::Store { key, record: remote });
        }
    }

    /// The row gate and the privacy gate, and the columns that exist here.
    fn accept(&mut self, mut record: Fields) -> Result<Fields, Violation> {
        super::write::ownership(&self.table.policy).check(&record)?;
        if let Some(known) = self.table.spec.field_names()
            && record.keys().any(|name| !known.contains(name.as_str()))
        {
            let unknown = record.keys().filter(|name| !known.contains(name.as_str())).cloned();
            self.reading.unknown_columns.extend(unknown);
            record.retain(|name, _| known.contains(name.as_str()));
        }
        self.redactor.mask(&mut record);
        Ok(record)
    }

    /// The base image and the newest pending edit's time once the settled entries are gone.
    fn unsettled(&self, seen: Option<&Seen>) -> (Option<Fields>, Option<Millis>) {
        let Some(seen) = seen else { return (None, None) };
        let mut base = seen.base.clone();
        let mut newest = None;
        for entry in &seen.entries {
            if self.settled.contains(&entry.counter) {
                base = entry.edit.apply(base);
            } else {
                newest = newest.max(Some(entry.at));
            }
        }
        (base, newest)
    }
}

/// Puts a page and its decided conflicts together: one batch, rows and cursor.
pub fn finish(table: &TableState, reading: Reading, resolved: Vec<Op>, next: Cursor, has_more: bool, now: Millis) -> Batch {
    let Reading { expected, mut ops, seen, .. } = reading;
    let name = &table.spec.name;
    ops.extend(resolved);
    ops.push(Op::Advance { table: name.clone(), cursor: next, seen });
    if !has_more {
        ops.push(Op::Complete { table: name.clone(), at: now });
    }
    Batch { expected, ops }
}

/// Turns a decision into what is to be done.
pub fn resolve(
    table: &TableState,
    conflict: Conflict,
    resolution: &Resolution,
    strategy: StrategyName,
    now: Millis,
) -> Op {
    let outcome = outcome(&conflict, resolution);
    let at = match resolution {
        Resolution::KeepRemote => conflict.remote_at,
        Resolution::KeepLocal => conflict.local_at,
        Resolution::Merged(_) | Resolution::Delete => conflict.local_at.max(conflict.remote_at),
    };
    // The remote version was masked when it was read. A sensitive field is not to count as changed by that.
    let mut masked = outcome.clone();
    if let Some(fields) = &mut masked {
        Redactor::new(&table.policy.sensitive_fields).mask(fields);
    }
    let edit = difference(&table.spec.shape, conflict.remote.as_ref(), masked.as_ref());
    let Conflict { key, base, local: mine, remote: theirs, .. } = conflict;
    let resolved = Resolved { key, base, mine, theirs, outcome, strategy, at, decided_at: now };
    Op::Resolve { conflict: Box::new(resolved), edit }
}

/// The edit that leads from the server's version to the outcome; none where they are the same.
///
/// Where both exist it is a patch of what differs, so that columns which only newer devices know are left alone.
/// Only a document can lose a field, and then it is sent whole.
fn difference(shape: &Shape, remote: Option<&Fields>, outcome: Option<&Fields>) -> Option<Edit> {
    match (remote, outcome) {
        (None, None) => None,
        (Some(_), None) => Some(Edit::Delete),
        (None, Some(outcome)) => Some(Edit::Replace(outcome.clone())),
        (Some(remote), Some(outcome)) if remote == outcome => None,
        (Some(remote), Some(outcome)) => {
            let loses_a_field = remote.keys().any(|name| !outcome.contains_key(name));
            if loses_a_field && *shape == Shape::Document {
                return Some(Edit::Replace(outcome.clone()));
            }
            let changed = outcome.iter().filter(|(name, value)| remote.get(*name) != Some(value));
            let changed: Fields = changed.map(|(name, value)| (name.clone(), value.clone())).collect();
            (!changed.is_empty()).then_some(Edit::Patch(changed))
        }
    }
}
