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
    record::{Change, Fields, alike_fields, measure},
    redact::Redactor,
    replica::{Batch, Expected, Op, Phase, Resolved, Seen, State, TableState},
    sabotage::{Mutant, is_on},
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
    passed: Option<Cursor>,
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
        passed: request.seen.clone(),
        conflicts: Vec::new(),
        foreign: Vec::new(),
        unknown_columns: BTreeSet::new(),
        stored: 0,
    };
    if let Some(at) = page.changes.iter().map(|change| change.at).max() {
        reading.ops.push(Op::Observe { at });
    }
    // Most settled entries concern records that the page does not list: nobody else changed them.
    let settled: BTreeSet<Counter> =
        page.settled.iter().copied().filter(|_| !is_on(Mutant::SettledIgnored)).collect();
    let done = unsettled.iter().filter(|entry| settled.contains(&entry.counter));
    reading.ops.extend(done.map(|e| Op::Settle { key: e.key.clone(), counter: e.counter, record: None }));
    let mut reader =
        Reader { table, redactor: Redactor::new(&table.policy.sensitive_fields), settled, reading };
    let full = page.has_more && page.changes.len() > 1 && is_on(Mutant::PageTruncated);
    let kept = page.changes.len() - usize::from(full);
    for change in page.changes.into_iter().take(kept) {
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
        let (mut base, pending) = self.unsettled(seen);
        let mut row = seen.and_then(|seen| seen.row.clone());
        if let (Some(seen), Some(remote)) = (seen, &remote) {
            let gained = self.gained(seen, remote);
            if !gained.is_empty() && !is_on(Mutant::GainedUnfilled) {
                base.iter_mut().for_each(|record| record.extend(gained.clone()));
                let in_row = left_of(&gained, base.as_ref(), &seen.entries);
                row.iter_mut().for_each(|record| record.extend(in_row.clone()));
                if pending.is_some() {
                    self.reading.ops.push(Op::Fill { key: key.clone(), base: gained, row: in_row });
                }
            }
        }
        let lost_here =
            self.table.phase.may_have_lost(change.seq, change.own) && !is_on(Mutant::NothingOffered);
        if lost_here && (row != remote || pending.is_some()) {
            // The server lost what this device knows, and what is pending here was made on top of that. Where all the same it has what the
            // row is, the pending edits are to be made on top of what it has now.
            let edit = row.map_or(Edit::Delete, Edit::Replace);
            let at = change.at.saturating_add(1).max(pending.unwrap_or(0));
            self.reading.ops.push(Op::Offer { key, base: remote, edit, at });
        } else if let Some(local_at) = pending.filter(|_| !is_on(Mutant::PendingOverwritten)) {
            if !change.own && !lost_here {
                // What a server does not name that has lost something is not as it was before: it may have lost that.
                let is_restored = matches!(self.table.phase, Phase::Restore { .. });
                let before = base.as_ref().filter(|_| !is_restored);
                let remote = remote.map(|remote| complete(&self.table.spec.shape, before, remote));
                // Nobody changed what the local edits started from. A walk from the beginning lists that too.
                let listed_again = change.again || self.table.phase == Phase::Resync;
                let known = listed_again && same(base.as_ref(), remote.as_ref());
                if !known {
                    let conflict = Conflict { key, base, local: row, remote, local_at, remote_at: change.at };
                    self.reading.conflicts.push(conflict);
                }
            }
        } else {
            self.reading.stored += 1;
            self.reading.ops.push(Op::Store { key, record: remote });
        }
    }

    /// What the server has in columns that the table has only now, where no pending edit says anything of them: nobody has changed those.
    fn gained(&self, seen: &Seen, remote: &Fields) -> Fields {
        let says =
            |entry: &Entry, name: &str| entry.edit.fields().is_some_and(|fields| fields.contains_key(name));
        let is_theirs = |name: &String| !seen.entries.iter().any(|entry| says(entry, name));
        let gained = self.table.gained.iter().filter(|name| is_theirs(name));
        gained.filter_map(|name| Some((name.clone(), remote.get(name)?.clone()))).collect()
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

/// What edits leave of some columns of the base: nothing where one of them deletes the record on the way, or replaces it.
fn left_of(columns: &Fields, base: Option<&Fields>, entries: &[Entry]) -> Fields {
    if entries.is_empty() {
        return columns.clone();
    }
    let after =
        entries.iter().fold(base.cloned(), |record, entry| entry.edit.apply(record)).unwrap_or_default();
    after.into_iter().filter(|(name, _)| columns.contains_key(name)).collect()
}

/// Puts a page and its decided conflicts together: one batch, rows and cursor.
pub fn finish(
    table: &TableState,
    reading: Reading,
    resolved: Vec<Op>,
    next: Cursor,
    has_more: bool,
    now: Millis,
) -> Batch {
    let Reading { expected, mut ops, seen, passed, unknown_columns, .. } = reading;
    let name = &table.spec.name;
    ops.extend(resolved);
    if !unknown_columns.is_empty() {
        ops.push(Op::LeaveOut { table: name.clone(), fields: unknown_columns });
    }
    ops.push(Op::Advance { table: name.clone(), cursor: next, seen });
    if !has_more {
        ops.push(Op::Complete { table: name.clone(), at: now, passed });
    }
    Batch { expected, ops, ..Batch::default() }
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
    let outcome = outcome.map(|outcome| complete(&table.spec.shape, conflict.remote.as_ref(), outcome));
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
    let edit = edit.filter(|_| !is_on(Mutant::OutcomeNotSent));
    let Conflict { key, base, local: mine, remote: theirs, .. } = conflict;
    let resolved = Resolved { key, base, mine, theirs, outcome, strategy, at, decided_at: now };
    Op::Resolve { conflict: Box::new(resolved), edit }
}

/// A version of a record with the columns that it does not name, which are as they were. A document has no others than
/// it names.
pub fn complete(shape: &Shape, before: Option<&Fields>, version: Fields) -> Fields {
    match (shape, before) {
        (Shape::Columns { .. }, Some(before)) => before.clone().into_iter().chain(version).collect(),
        _ => version,
    }
}

fn same(one: Option<&Fields>, other: Option<&Fields>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => alike_fields(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        entry::Sent,
        ids::{ReplicaId, TableName},
        replica::TablePolicy,
        table::{Column, TableSpec},
    };

    const RESTORE: Phase = Phase::Restore { common: 10, own: None };

    fn some(value: &Value) -> Option<Fields> {
        Some(value.as_object().unwrap().clone())
    }

    fn key(id: &str) -> RecordKey {
        RecordKey::new("t", id).unwrap()
    }

    fn table(phase: Phase) -> TableState {
        TableState {
            spec: TableSpec::document("t".parse().unwrap()),
            policy: TablePolicy::default(),
            cursor: Some(Cursor::new("c")),
            phase,
            declared: true,
            synced_at: None,
            ahead: None,
            gained: BTreeSet::new(),
        }
    }

    fn with_columns(names: &[&str]) -> TableState {
        let column = |name: &&str| Column {
            name: (*name).to_owned(),
            declared: String::new(),
            not_null: false,
            default: None,
            collation: None,
        };
        let shape = Shape::Columns {
            columns: names.iter().map(column).collect(),
            key: vec!["id".into()],
            indexes: vec![],
            foreign_keys: vec![],
            without_rowid: false,
            strict: false,
            autoincrement: false,
        };
        let table = table(Phase::Following);
        TableState { spec: TableSpec { shape, ..table.spec }, ..table }
    }

    fn change(id: &str, seq: Seq, record: Option<Fields>) -> Change {
        Change { id: id.parse().unwrap(), seq, at: 50, own: false, again: false, record }
    }

    fn page(changes: Vec<Change>) -> Page {
        Page { changes, settled: vec![], next: Cursor::new("next"), has_more: false, total: None }
    }

    fn request() -> PullRequest {
        PullRequest {
            replica: ReplicaId::from_random([1; 16]),
            table: "t".parse().unwrap(),
            cursor: Some(Cursor::new("c")),
            seen: None,
            limit: 2,
            unsettled: vec![1, 2],
            all: false,
        }
    }

    fn deep(levels: usize) -> Option<Fields> {
        some(&json!({"a": (1..levels).fold(json!(1), |inner, _| json!([inner]))}))
    }

    #[test]
    fn a_page_that_breaks_the_protocol_is_refused() {
        let empty = some(&json!({}));
        let two = |a: &str, b: &str, seqs: [Seq; 2]| {
            page(vec![change(a, seqs[0], empty.clone()), change(b, seqs[1], None)])
        };
        let timed = |at| page(vec![Change { at, ..change("a", 5, None) }]);
        let next = |length: usize| Page { next: Cursor::new("x".repeat(length)), ..page(vec![]) };
        let more = |changes, next: &str| Page { has_more: true, next: Cursor::new(next), ..page(changes) };
        let settled = |settled: &[Counter]| Page { settled: settled.to_vec(), ..page(vec![]) };
        for (what, page, fits) in [
            ("an empty page", page(vec![]), true),
            ("rising seqs", two("a", "b", [5, 9]), true),
            ("equal seqs", two("a", "b", [5, 5]), false),
            ("falling seqs", two("a", "b", [6, 5]), false),
            ("a seq of the page before", page(vec![change("a", 4, None)]), false),
            ("a seq from before the page before", page(vec![change("a", 3, None)]), false),
            ("a record twice", two("a", "a", [5, 6]), false),
            (
                "more than was asked for",
                page((5..8).map(|n| change(&n.to_string(), n, None)).collect()),
                false,
            ),
            ("the earliest time", timed(0), true),
            ("the latest time", timed(Limits::LATEST), true),
            ("a time before all times", timed(-1), false),
            ("a time after all times", timed(Limits::LATEST + 1), false),
            ("deep nesting", page(vec![change("a", 5, deep(Limits::DEPTH))]), true),
            ("too deep nesting", page(vec![change("a", 5, deep(Limits::DEPTH + 1))]), false),
            ("a long cursor", next(Cursor::MAX_BYTES), true),
            ("too long a cursor", next(Cursor::MAX_BYTES + 1), false),
            ("more to come", more(vec![change("a", 5, None)], "next"), true),
            ("more to come, but nothing now", more(vec![], "next"), false),
            ("more to come, but the same cursor", more(vec![change("a", 5, None)], "c"), false),
            ("the end, and the same cursor", Page { next: Cursor::new("c"), ..page(vec![]) }, true),
            ("settled", settled(&[2, 1]), true),
            ("settled, but not asked about", settled(&[1, 3]), false),
        ] {
            let checked = check(&request(), &page, 4);
            assert_eq!(checked.is_ok(), fits, "{what}: {checked:?}");
        }
    }

    fn entry(counter: Counter, edit: Edit) -> Entry {
        let sent = (counter == 1).then_some(Sent { base: None });
        Entry {
            counter,
            key: key("x"),
            edit,
            at: 10 * counter as Millis,
            sent,
            attempts: 0,
            retry_at: None,
            transaction: None,
        }
    }

    /// What is known of a record before its change is read.
    #[derive(Clone, Copy, Debug)]
    enum Local {
        Clean,
        Pending,
        /// One entry, of which the page says that it was applied.
        Settled,
        /// The same, and a newer one.
        SettledAndPending,
    }

    const LOCAL: [Local; 4] = [Local::Clean, Local::Pending, Local::Settled, Local::SettledAndPending];

    impl Local {
        fn seen(self) -> Option<Seen> {
            let first = entry(1, Edit::Patch(some(&json!({"a": 1})).unwrap()));
            let second = entry(2, Edit::Patch(some(&json!({"b": 2})).unwrap()));
            let (entries, row) = match self {
                Self::Clean => return None,
                Self::Settled => (vec![first], json!({"a": 1})),
                Self::Pending | Self::SettledAndPending => (vec![first, second], json!({"a": 1, "b": 2})),
            };
            Some(Seen { id: "x".parse().unwrap(), row: some(&row), base: some(&json!({"a": 0})), entries })
        }

        fn is_settled(self) -> bool {
            matches!(self, Self::Settled | Self::SettledAndPending)
        }

        fn is_pending(self) -> bool {
            matches!(self, Self::Pending | Self::SettledAndPending)
        }
    }

    fn read_one(phase: Phase, local: Local, change: Change) -> Reading {
        let settled = if local.is_settled() { vec![1] } else { vec![] };
        let unsettled: Vec<Entry> = local.seen().into_iter().flat_map(|seen| seen.entries).take(1).collect();
        let page = Page { settled, ..page(vec![change]) };
        read(&state(), &table(phase), &request(), &unsettled, page, local.seen().into_iter().collect())
    }

    fn state() -> State {
        State {
            replica: ReplicaId::from_random([1; 16]),
            generation: 3,
            server: None,
            clock: 0,
            last_counter: 2,
            last_sent: 2,
            schema: 0,
            tables: vec![],
            pending: 0,
            dead_letters: 0,
            conflicts: 0,
            quarantined: 0,
        }
    }

    /// Whatever is read begins by observing the time and settling what the server has applied.
    fn steps_after_settling(reading: &Reading, local: Local) -> &[Op] {
        assert_eq!(reading.ops[0], Op::Observe { at: 50 });
        let settle = Op::Settle { key: key("x"), counter: 1, record: None };
        let settled = usize::from(local.is_settled());
        assert_eq!(reading.ops[1..=settled], [settle][..settled]);
        &reading.ops[1 + settled..]
    }

    #[test]
    fn a_change_is_stored_decided_or_passed_over() {
        for phase in [Phase::First, Phase::Following, Phase::Resync, RESTORE] {
            for local in LOCAL {
                for record in [some(&json!({"a": 7})), None] {
                    for own in [false, true] {
                        let seen = Change { own, ..change("x", 20, record.clone()) };
                        let reading = read_one(phase, local, seen);
                        let case = format!("{phase:?} {local:?} {record:?} own {own}");
                        let steps = steps_after_settling(&reading, local);
                        let stores = if local.is_pending() {
                            vec![]
                        } else {
                            vec![Op::Store { key: key("x"), record: record.clone() }]
                        };
                        assert_eq!(steps, stores, "{case}");
                        assert_eq!(reading.stored, stores.len(), "{case}");
                        assert_eq!(
                            reading.conflicts.len(),
                            usize::from(local.is_pending() && !own),
                            "{case}"
                        );
                    }
                }
            }
        }
    }

    /// The device has pushed further than it has pulled: of its own changes it knows more than of others'.
    #[test]
    fn after_a_restore_only_what_was_seen_is_offered_again() {
        let phase = Phase::Restore { common: 10, own: Some(20) };
        let row = some(&json!({"a": 9}));
        for (seq, own, offered) in
            [(10, false, true), (11, false, false), (11, true, true), (20, true, true), (21, true, false)]
        {
            let seen = Seen { id: "x".parse().unwrap(), row: row.clone(), base: None, entries: vec![] };
            let page = page(vec![Change { own, ..change("x", seq, some(&json!({"a": 7}))) }]);
            let reading = read(&state(), &table(phase), &request(), &[], page, vec![seen]);
            let offers = reading.ops.iter().any(|op| matches!(op, Op::Offer { .. }));
            assert_eq!((offers, reading.stored == 0), (offered, offered), "{seq} own {own}");
        }
    }

    #[test]
    fn a_conflict_holds_what_each_side_has() {
        for (local, base) in [
            (Local::Pending, json!({"a": 0})),
            // What the server has applied is no part of the conflict any more.
            (Local::SettledAndPending, json!({"a": 1})),
        ] {
            for record in [some(&json!({"a": 7})), None] {
                let reading = read_one(Phase::Following, local, change("x", 20, record.clone()));
                let expected = Conflict {
                    key: key("x"),
                    base: some(&base),
                    local: some(&json!({"a": 1, "b": 2})),
                    remote: record,
                    local_at: 20,
                    remote_at: 50,
                };
                assert_eq!(reading.conflicts, [expected]);
            }
        }
    }

    #[test]
    fn what_comes_again_is_no_conflict_with_edits_made_on_top_of_it() {
        let seen = |base: Option<Fields>| Seen { base, ..Local::Pending.seen().unwrap() };
        let whole = some(&json!({"a": 0, "real": 3.0, "done": 1}));
        for (what, table, base, record, conflicts) in [
            ("the same", table(Phase::Following), whole.clone(), whole.clone(), 0),
            (
                "the same in the server's notation",
                table(Phase::Following),
                whole.clone(),
                some(&json!({"a": 0, "real": 3, "done": true})),
                0,
            ),
            ("both deleted", table(Phase::Following), None, None, 0),
            ("changed there", table(Phase::Following), whole.clone(), some(&json!({"a": 7})), 1),
            ("deleted there", table(Phase::Following), whole.clone(), None, 1),
            ("made there too", table(Phase::Following), None, some(&json!({"a": 0})), 1),
            (
                "the same, without a column that the server lacks",
                with_columns(&["id", "a", "mine"]),
                some(&json!({"a": 0, "mine": 1})),
                some(&json!({"a": 0})),
                0,
            ),
        ] {
            for again in [true, false] {
                let page = page(vec![Change { again, ..change("x", 20, record.clone()) }]);
                let reading = read(&state(), &table, &request(), &[], page, vec![seen(base.clone())]);
                assert_eq!(
                    reading.conflicts.len(),
                    if again { conflicts } else { 1 },
                    "{what}, again: {again}"
                );
                assert_eq!(reading.stored, 0, "{what}: the local edits stand");
            }
        }
    }

    #[test]
    fn what_a_resync_lists_once_more_is_no_conflict_with_edits_made_on_top_of_it() {
        let base = Local::Pending.seen().unwrap().base;
        for (record, conflicts) in [(base, 0), (some(&json!({"a": 7})), 1), (None, 1)] {
            let reading = read_one(Phase::Resync, Local::Pending, change("x", 20, record.clone()));
            assert_eq!((reading.conflicts.len(), reading.stored), (conflicts, 0), "{record:?}");
        }
    }

    #[test]
    fn a_restore_offers_what_the_server_lost() {
        let [mine, theirs] = [json!({"a": 1}), json!({"a": 0})].map(|value| some(&value));
        let offer = |base, edit| Op::Offer { key: key("x"), base, edit, at: 51 };
        let store = |record| Op::Store { key: key("x"), record };
        let whole = || Edit::Replace(mine.clone().unwrap());
        for (what, seq, row, remote, expected) in [
            ("the same", 10, mine.clone(), mine.clone(), store(mine.clone())),
            ("gone on both sides", 10, None, None, store(None)),
            ("differs, not changed since", 10, mine.clone(), theirs.clone(), offer(theirs.clone(), whole())),
            (
                "deleted here, not changed since",
                10,
                None,
                theirs.clone(),
                offer(theirs.clone(), Edit::Delete),
            ),
            ("made here, deleted there before", 10, mine.clone(), None, offer(None, whole())),
            ("changed there since", 11, mine.clone(), theirs.clone(), store(theirs.clone())),
            ("deleted there since", 11, mine.clone(), None, store(None)),
            ("deleted here, changed there since", 11, None, theirs.clone(), store(theirs.clone())),
        ] {
            let seen = Seen { id: "x".parse().unwrap(), row, base: None, entries: vec![] };
            let page = page(vec![change("x", seq, remote)]);
            let reading = read(&state(), &table(RESTORE), &request(), &[], page, vec![seen]);
            assert_eq!(reading.ops[1..], [expected], "{what}");
        }
    }

    #[test]
    fn in_a_restore_an_old_version_is_no_conflict() {
        for (seq, conflicts) in [(10, 0), (11, 1)] {
            let reading = read_one(RESTORE, Local::Pending, change("x", seq, some(&json!({"a": 7}))));
            assert_eq!((reading.conflicts.len(), reading.stored), (conflicts, 0), "seq {seq}");
            let offers = reading.ops.iter().filter(|op| matches!(op, Op::Offer { .. })).count();
            assert_eq!(offers, 1 - conflicts, "what is pending was made on top of what the server lost");
        }
        assert!(needs_rows(&table(RESTORE)));
        assert!(
            ![Phase::First, Phase::Following, Phase::Resync]
                .into_iter()
                .any(|phase| needs_rows(&table(phase)))
        );
    }

    #[test]
    fn what_was_read_is_expected_to_be_still_so() {
        let changes = vec![change("x", 20, None), change("clean", 21, None)];
        let seen = Local::Pending.seen().into_iter().collect();
        let reading = read(&state(), &table(Phase::Following), &request(), &[], page(changes), seen);
        let cursor = Some(("t".parse::<TableName>().unwrap(), Some(Cursor::new("c"))));
        let newest = vec![(key("x"), Some(2)), (key("clean"), None)];
        assert_eq!(reading.expected, Expected { generation: Some(3), newest, cursor });
    }

    #[test]
    fn settled_entries_of_records_that_the_page_does_not_list_are_settled_too() {
        let unsettled = [entry(1, Edit::Delete), entry(2, Edit::Delete)];
        let page = Page { settled: vec![2], ..page(vec![]) };
        let reading = read(&state(), &table(Phase::Following), &request(), &unsettled, page, vec![]);
        assert_eq!(reading.ops, [Op::Settle { key: key("x"), counter: 2, record: None }]);
    }

    #[test]
    fn a_row_of_somebody_else_is_left_out_but_was_seen() {
        let mut table = table(Phase::Resync);
        table.policy.user = Some("ada".into());
        let changes = vec![
            change("mine", 20, some(&json!({"owner_id": "ada"}))),
            change("foreign", 21, some(&json!({"owner_id": "bob"}))),
            change("deleted", 22, None),
        ];
        let reading = read(&state(), &table, &request(), &[], page(changes), vec![]);
        let violation = Violation { column: "owner_id".into(), row_owner: "bob".into() };
        assert_eq!(reading.foreign, [(key("foreign"), violation)]);
        assert_eq!(reading.stored, 2);
        assert_eq!(
            reading.seen.iter().map(RecordId::as_str).collect::<Vec<_>>(),
            ["mine", "foreign", "deleted"]
        );
    }

    #[test]
    fn unknown_columns_are_left_out_and_named() {
        let changes = vec![
            change("x", 20, some(&json!({"a": 1, "new": 1, "newer": 1, "id": 1}))),
            change("y", 21, some(&json!({"new": 2}))),
        ];
        let reading = read(&state(), &with_columns(&["id", "a"]), &request(), &[], page(changes), vec![]);
        let names: Vec<&str> = reading.unknown_columns.iter().map(String::as_str).collect();
        assert_eq!(names, ["id", "new", "newer"], "the key's columns are in the id");
        let stored = |id: &str, record| Op::Store { key: key(id), record: some(&record) };
        assert_eq!(reading.ops[1..], [stored("x", json!({"a": 1})), stored("y", json!({}))]);
    }

    #[test]
    fn what_was_left_out_before_fills_the_columns_that_no_pending_edit_sets() {
        let gains = |phase| TableState {
            phase,
            gained: ["b", "c"].map(str::to_owned).into(),
            ..with_columns(&["id", "a", "b", "c"])
        };
        let row = |a: i32| some(&json!({"a": a, "b": null, "c": null}));
        let remote = || some(&json!({"a": 0, "b": 7, "c": 8}));
        let seen = |edit: Edit| Seen {
            id: "x".parse().unwrap(),
            row: row(1),
            base: row(0),
            entries: vec![Entry { sent: None, ..entry(2, edit) }],
        };
        let patch = |fields: Value| Edit::Patch(some(&fields).unwrap());
        let fill = |[base, row]: [Value; 2]| {
            let [base, row] = [base, row].map(|fields| some(&fields).unwrap());
            Op::Fill { key: key("x"), base, row }
        };
        let (both, nothing) = (json!({"b": 7, "c": 8}), json!({}));
        for (edit, filled, conflicts) in [
            (patch(json!({"a": 1})), Some([both.clone(), both.clone()]), 0),
            (Edit::Delete, Some([both.clone(), nothing.clone()]), 0),
            (Edit::Replace(some(&json!({"a": 1})).unwrap()), Some([both, nothing]), 0),
            // Written without knowledge of what was there.
            (patch(json!({"b": 1})), Some([json!({"c": 8}), json!({"c": 8})]), 1),
            (patch(json!({"b": 1, "c": 1})), None, 1),
            (Edit::Replace(row(1).unwrap()), None, 1),
        ] {
            let page = page(vec![change("x", 20, remote())]);
            let reading =
                read(&state(), &gains(Phase::Resync), &request(), &[], page, vec![seen(edit.clone())]);
            assert_eq!(reading.ops[1..], filled.map(fill).into_iter().collect::<Vec<_>>(), "{edit:?}");
            assert_eq!(reading.conflicts.len(), conflicts, "{edit:?}");
        }
        // A restored server is not offered the want of it.
        let clean = Seen { entries: vec![], base: None, row: row(0), ..seen(Edit::Delete) };
        let reading = read(
            &state(),
            &gains(RESTORE),
            &request(),
            &[],
            page(vec![change("x", 5, remote())]),
            vec![clean],
        );
        assert_eq!(reading.ops[1..], [Op::Store { key: key("x"), record: remote() }]);
    }

    #[test]
    fn sensitive_fields_are_masked_before_they_are_stored() {
        let mut table = table(Phase::Following);
        table.policy.sensitive_fields = vec!["ssn".into()];
        let changes = vec![change("x", 20, some(&json!({"deep": {"SSN": 1}})))];
        let reading = read(&state(), &table, &request(), &[], page(changes), vec![]);
        let record = some(&json!({"deep": {"SSN": "[REDACTED]"}}));
        assert_eq!(reading.ops[1..], [Op::Store { key: key("x"), record }]);
    }

    #[test]
    fn a_finished_page_ends_with_its_cursor_and_the_last_one_completes() {
        let name: TableName = "t".parse().unwrap();
        for has_more in [true, false] {
            let reading = read_one(Phase::Following, Local::Clean, change("x", 20, None));
            let (expected, ids) = (reading.expected.clone(), reading.seen.clone());
            let resolved = vec![Op::Forget { conflict: 1 }];
            let batch =
                finish(&table(Phase::Following), reading, resolved, Cursor::new("next"), has_more, 99);
            let mut ops = vec![
                Op::Observe { at: 50 },
                Op::Store { key: key("x"), record: None },
                Op::Forget { conflict: 1 },
                Op::Advance { table: name.clone(), cursor: Cursor::new("next"), seen: ids },
            ];
            if !has_more {
                ops.push(Op::Complete { table: name.clone(), at: 99, passed: request().seen });
            }
            assert_eq!(batch, Batch { expected, ops, ..Batch::default() });
        }
    }

    #[test]
    fn a_decision_is_stored_journaled_and_sent_where_it_differs_from_the_servers() {
        let [base, mine, theirs, both] =
            [json!({"a": 0}), json!({"a": 1}), json!({"a": 0, "b": 2}), json!({"a": 1, "b": 2})]
                .map(|v| some(&v));
        let merged = both.clone().unwrap();
        for (resolution, outcome, at, edit) in [
            (Resolution::KeepRemote, theirs.clone(), 50, None),
            (Resolution::KeepLocal, mine.clone(), 20, Some(Edit::Replace(mine.clone().unwrap()))),
            (Resolution::Merged(merged), both, 50, Some(Edit::Patch(some(&json!({"a": 1})).unwrap()))),
            (Resolution::Merged(theirs.clone().unwrap()), theirs.clone(), 50, None),
            (Resolution::Delete, None, 50, Some(Edit::Delete)),
        ] {
            let conflict = Conflict {
                key: key("x"),
                base: base.clone(),
                local: mine.clone(),
                remote: theirs.clone(),
                local_at: 20,
                remote_at: 50,
            };
            let op = resolve(&table(Phase::Following), conflict, &resolution, StrategyName::Merge, 99);
            let resolved = Resolved {
                key: key("x"),
                base: base.clone(),
                mine: mine.clone(),
                theirs: theirs.clone(),
                outcome,
                strategy: StrategyName::Merge,
                at,
                decided_at: 99,
            };
            assert_eq!(op, Op::Resolve { conflict: Box::new(resolved), edit }, "{resolution:?}");
        }
    }

    #[test]
    fn a_sensitive_field_does_not_differ_for_being_masked() {
        let mut table = table(Phase::Following);
        table.policy.sensitive_fields = vec!["ssn".into()];
        let conflict = Conflict {
            key: key("x"),
            base: None,
            local: some(&json!({"ssn": "123", "a": 1})),
            remote: some(&json!({"ssn": "[REDACTED]", "a": 1})),
            local_at: 20,
            remote_at: 10,
        };
        let op = resolve(&table, conflict, &Resolution::KeepLocal, StrategyName::ClientWins, 99);
        assert!(matches!(op, Op::Resolve { edit: None, .. }), "{op:?}");
    }

    #[test]
    fn the_difference_leads_from_the_servers_version_to_the_outcome() {
        let document = Shape::Document;
        let columns = with_columns(&["id", "a", "b"]).spec.shape;
        let [ab, a2, a2b] =
            [json!({"a": 1, "b": 1}), json!({"a": 2}), json!({"a": 2, "b": 1})].map(|v| some(&v));
        let replace = |record: &Option<Fields>| record.clone().map(Edit::Replace);
        let patch = |value: Value| some(&value).map(Edit::Patch);
        for (shape, remote, outcome, expected) in [
            (&document, &None, &None, None),
            (&document, &ab, &ab, None),
            (&document, &ab, &None, Some(Edit::Delete)),
            (&document, &None, &ab, replace(&ab)),
            (&columns, &None, &ab, replace(&ab)),
            (&document, &ab, &a2b, patch(json!({"a": 2}))),
            (&document, &a2, &ab, patch(json!({"a": 1, "b": 1}))),
            (&document, &ab, &a2, replace(&a2)),
            (&columns, &ab, &a2, patch(json!({"a": 2}))),
            (&columns, &a2b, &a2, None),
            (&columns, &ab, &None, Some(Edit::Delete)),
        ] {
            let edit = difference(shape, remote.as_ref(), outcome.as_ref());
            assert_eq!(edit, expected, "from {remote:?} to {outcome:?}");
            if *shape == document
                && let Some(edit) = edit
            {
                assert_eq!(edit.apply(remote.clone()), *outcome);
            }
        }
    }
}
