//! [`MemoryServer`]: a backend in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    clock::Millis,
    cursor::Cursor,
    entry::Edit,
    error::Limits,
    ids::{Counter, RecordId, ReplicaId, Seq, TableName},
    plan::admit::{Admission, LastChange, admit, none_of},
    record::{Change, Fields},
    remote::{Remote, RemoteError},
    table::TableSpec,
    wire::{
        Current, Expired, HeadMove, Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushEntry,
        PushRequest, PushResult, RejectCode,
    },
};

/// A backend in memory: the whole protocol, for any number of users. Clones share their data.
///
/// ```
/// use dynos_sync_core::memory::MemoryServer;
/// let server = MemoryServer::new();
/// let remote = server.remote("ada"); // an `impl Remote` for one user
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryServer(Arc<Mutex<Data>>);

#[derive(Clone, Debug)]
struct Data {
    id: u64,
    users: BTreeMap<String, Scope>,
    /// Never restored, so that a new life is never taken for an old one.
    life: u64,
}

impl Default for Data {
    fn default() -> Self {
        Self { id: 1, users: BTreeMap::new(), life: 1 }
    }
}

#[derive(Clone, Debug, Default)]
struct Scope {
    head: Seq,
    /// Where each incarnation began, in order: those in which something was committed.
    epochs: Vec<(u64, Seq)>,
    specs: BTreeMap<TableName, TableSpec>,
    tables: BTreeMap<TableName, BTreeMap<RecordId, Stored>>,
    purged: BTreeMap<TableName, Seq>,
    outcomes: BTreeMap<(ReplicaId, Counter), (PushEntry, PushResult)>,
}

#[derive(Clone, Debug)]
struct Stored {
    last: LastChange,
    at: Millis,
    record: Option<Fields>,
}

impl MemoryServer {
    /// An empty server.
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection to it, for one user.
    pub fn remote(&self, user: &str) -> MemoryRemote {
        MemoryRemote { server: self.clone(), user: user.to_owned() }
    }

    /// A copy of everything, to [`restore`](Self::restore) later.
    #[must_use]
    pub fn backup(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// Puts an older copy in place and starts a new life on it.
    pub fn restore(&self, backup: &Self) {
        let old = backup.lock().clone();
        let mut data = self.lock();
        *data = Data { life: data.life + 1, ..old };
    }

    /// Purges all tombstones.
    pub fn purge(&self) {
        for scope in self.lock().users.values_mut() {
            for (table, records) in &mut scope.tables {
                let newest = records.values().filter(|s| s.record.is_none()).map(|s| s.last.seq).max();
                records.retain(|_, stored| stored.record.is_some());
                if let Some(newest) = newest {
                    scope.purged.insert(table.clone(), newest);
                }
            }
        }
    }

    /// Breaks a promise: outcomes are no longer remembered. To show what the promise is good for.
    #[cfg(feature = "testing")]
    pub fn forget_outcomes(&self) {
        for scope in self.lock().users.values_mut() {
            scope.outcomes.clear();
        }
    }

    /// Breaks a promise: a stale counter is no longer known by the record's last change.
    #[cfg(feature = "testing")]
    pub fn forget_counters(&self) {
        let mut data = self.lock();
        let tables = data.users.values_mut().flat_map(|scope| scope.tables.values_mut());
        for stored in tables.flat_map(BTreeMap::values_mut) {
            stored.last.counter = 0;
        }
    }

    /// A user's records in a table.
    pub fn records(&self, user: &str, table: &TableName) -> BTreeMap<RecordId, Fields> {
        let data = self.lock();
        let stored = data.users.get(user).and_then(|scope| scope.tables.get(table));
        let live = stored
            .into_iter()
            .flatten()
            .filter_map(|(id, stored)| Some((id.clone(), stored.record.clone()?)));
        live.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Data> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Data {
    fn scope(&mut self, user: &str) -> &mut Scope {
        self.users.entry(user.to_owned()).or_default()
    }
}

impl Scope {
    fn cursor(&self, seq: Seq) -> Cursor {
        Cursor::new(format!("{}.{seq}", self.life_of(seq)))
    }

    /// A cursor in the midst of a walk. It carries the purge that a walk from the beginning knows of: tombstones that
    /// were gone when it began are no loss to it. And it carries the end of the history that the page was read from, in
    /// the end's incarnation: what lies before the cursor and was changed again before that end has been passed over.
    fn cursor_within(&self, seq: Seq, known: Seq, end: Seq) -> Cursor {
        let known = if seq < known { known } else { 0 };
        Cursor::new(format!("{}.{seq}.{known}.{end}", self.life_of(end)))
    }

    fn life_of(&self, seq: Seq) -> u64 {
        self.epochs.iter().rev().find(|(_, start)| *start < seq).map_or(0, |(life, _)| *life)
    }

    fn newest_purged(&self, table: &TableName) -> Seq {
        self.purged.get(table).copied().unwrap_or(0)
    }

    fn table_end(&self, table: &TableName) -> Seq {
        let records = self.tables.get(table).into_iter().flat_map(BTreeMap::values);
        let newest = records.map(|stored| stored.last.seq).max().unwrap_or(0);
        newest.max(self.newest_purged(table))
    }

    fn table_head(&self, table: &TableName) -> Cursor {
        self.cursor(self.table_end(table))
    }

    /// The seq of a cursor, if this history goes through it.
    fn locate(&self, table: &TableName, cursor: Option<&Cursor>) -> Result<Seq, RemoteError> {
        let Some(cursor) = cursor else { return Ok(0) };
        let Place { life, seq, known, end } = parse(cursor)?;
        // Every history goes through the beginning, but not past tombstones that are gone.
        let newest = self.newest_purged(table);
        let purged = seq < newest && known < newest;
        let unless_purged = if purged { Err(RemoteError::CursorExpired(Expired::Purged)) } else { Ok(seq) };
        if end == 0 {
            return unless_purged;
        }
        let rolled_back = |common| Err(RemoteError::CursorExpired(Expired::RolledBack { common, own: None }));
        let Some(place) = self.epochs.iter().position(|(known, _)| *known == life) else {
            return rolled_back(self.end_before(life));
        };
        let life_ends = self.epochs.get(place + 1).map_or(self.head, |(_, start)| *start);
        if end > life_ends {
            return rolled_back(life_ends);
        }
        unless_purged
    }

    /// How much is in common with a history whose incarnation has no commit here: all that there was before the next
    /// one began. Incarnations are numbered in the order in which they began.
    fn end_before(&self, life: u64) -> Seq {
        self.epochs.iter().find(|(known, _)| *known > life).map_or(self.head, |(_, start)| *start)
    }

    /// The tables of whose history the caller has seen more than there is.
    fn lost(&self, seen: &BTreeMap<TableName, Cursor>) -> Result<BTreeSet<TableName>, RemoteError> {
        let mut lost = BTreeSet::new();
        for (table, cursor) in seen {
            match self.locate(table, Some(cursor)) {
                Err(RemoteError::CursorExpired(Expired::RolledBack { .. })) => {
                    lost.insert(table.clone());
                }
                Ok(_) | Err(RemoteError::CursorExpired(Expired::Purged)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// A transaction, or one entry.
    fn push_together(
        &mut self,
        life: u64,
        replica: ReplicaId,
        unit: &[PushEntry],
        lost: &BTreeSet<TableName>,
    ) -> Result<Vec<PushResult>, RemoteError> {
        let before = (unit.len() > 1).then(|| self.clone());
        let mut push = |entry| self.push(life, replica, entry, lost);
        let results = unit.iter().map(&mut push).collect::<Result<Vec<_>, _>>()?;
        let Some(before) = before.filter(|_| !results.iter().all(PushResult::is_done)) else {
            return Ok(results);
        };
        *self = before;
        let outcome = |entry: &PushEntry| (replica, entry.counter);
        let remembered: Vec<bool> =
            unit.iter().map(|entry| self.outcomes.contains_key(&outcome(entry))).collect();
        let mut results = none_of(results, &remembered);
        for (entry, result) in unit.iter().zip(&mut results) {
            if let PushResult::Rejected { current, .. } = result {
                let stored = self.tables.get(&entry.table).and_then(|records| records.get(&entry.id));
                *current = Some(Current { record: stored.and_then(|stored| stored.record.clone()) });
                self.outcomes.entry(outcome(entry)).or_insert_with(|| (entry.clone(), result.clone()));
            }
        }
        Ok(results)
    }

    fn push(
        &mut self,
        life: u64,
        replica: ReplicaId,
        entry: &PushEntry,
        lost: &BTreeSet<TableName>,
    ) -> Result<PushResult, RemoteError> {
        if let Some((earlier, outcome)) = self.outcomes.get(&(replica, entry.counter)) {
            let same = |e: &PushEntry| (e.table.clone(), e.id.clone(), e.op, e.at, e.data.clone());
            return match outcome {
                _ if same(earlier) != same(entry) => Err(RemoteError::ReplicaForked),
                PushResult::Applied { seq, record } => {
                    Ok(PushResult::Duplicate { seq: *seq, record: record.clone() })
                }
                outcome => Ok(outcome.clone()),
            };
        }
        if lost.contains(&entry.table) {
            return Ok(PushResult::Conflict { seq: self.head });
        }
        let result = match self.locate(&entry.table, entry.base.as_ref()) {
            Ok(base) => self.decide(life, replica, entry, base),
            Err(RemoteError::CursorExpired(_)) => PushResult::Conflict { seq: self.head },
            Err(error) => return Err(error),
        };
        if !matches!(result, PushResult::Conflict { .. }) {
            self.outcomes.insert((replica, entry.counter), (entry.clone(), result.clone()));
        }
        Ok(result)
    }

    fn decide(&mut self, life: u64, replica: ReplicaId, entry: &PushEntry, base: Seq) -> PushResult {
        let stored = self.tables.get(&entry.table).and_then(|records| records.get(&entry.id));
        let current = stored.and_then(|stored| stored.record.clone());
        match admit(stored.map(|stored| stored.last), replica, entry.counter, base) {
            Admission::Duplicate { seq } => return PushResult::Duplicate { seq, record: None },
            Admission::Conflict { seq } => return PushResult::Conflict { seq },
            Admission::Apply => {}
        }
        let refusal = self.refusal(entry, current.as_ref());
        if let Some((code, message)) = refusal {
            return PushResult::rejected(code, message).showing(Current { record: current });
        }
        if self.epochs.last().is_none_or(|(known, _)| *known != life) {
            self.epochs.push((life, self.head));
        }
        self.head += 1;
        let last = LastChange { seq: self.head, writer: replica, counter: entry.counter };
        let record = match self.specs.get(&entry.table) {
            Some(spec) => spec.apply(&entry.edit(), current),
            None => entry.edit().apply(current),
        };
        let records = self.tables.entry(entry.table.clone()).or_default();
        records.insert(entry.id.clone(), Stored { last, at: entry.at, record });
        PushResult::Applied { seq: self.head, record: None }
    }

    fn refusal(&self, entry: &PushEntry, current: Option<&Fields>) -> Option<(RejectCode, &'static str)> {
        let Some(spec) = self.specs.get(&entry.table) else {
            return Some((RejectCode::UnknownTable, "the table was not declared"));
        };
        if !(0..=Limits::LATEST).contains(&entry.at) {
            return Some((RejectCode::Invalid, "the edit's time is out of range"));
        }
        let edit = entry.edit();
        match (&edit, edit.fields()) {
            (Edit::Patch(_), _) if current.is_none() => {
                Some((RejectCode::NotFound, "the record does not exist"))
            }
            (_, Some(fields)) if spec.check(fields).is_err() => {
                Some((RejectCode::UnknownColumn, "the table has no such column"))
            }
            _ => None,
        }
    }

    /// After which seq a page starts.
    fn start(&self, request: &PullRequest) -> Result<Seq, RemoteError> {
        let after = self.locate(&request.table, request.cursor.as_ref());
        if let Err(RemoteError::CursorExpired(Expired::RolledBack { .. })) = after {
            return after;
        }
        match self.locate(&request.table, request.seen.as_ref()) {
            Err(RemoteError::CursorExpired(Expired::RolledBack { common: own, .. })) => {
                let cursor = request.cursor.as_ref().map(parse).transpose()?;
                let common = cursor.map_or(0, |place| place.seq).min(own);
                let own = (own > common).then_some(own);
                Err(RemoteError::CursorExpired(Expired::RolledBack { common, own }))
            }
            Ok(_) | Err(RemoteError::CursorExpired(Expired::Purged)) => after,
            Err(error) => Err(error),
        }
    }

    fn pull(&self, request: &PullRequest) -> Result<Page, RemoteError> {
        let after = self.start(request)?;
        let known = match &request.cursor {
            None => self.newest_purged(&request.table),
            Some(cursor) => parse(cursor)?.known,
        };
        let records = self.tables.get(&request.table).into_iter().flatten();
        let mut changes: Vec<Change> = records
            .filter(|(_, stored)| stored.last.seq > after)
            .filter(|(_, stored)| request.all || stored.last.writer != request.replica)
            .map(|(id, stored)| Change {
                id: id.clone(),
                seq: stored.last.seq,
                at: stored.at,
                own: stored.last.writer == request.replica,
                again: false,
                record: stored.record.clone(),
            })
            .collect();
        changes.sort_by_key(|change| change.seq);
        let limit = request.limit.max(1);
        let has_more = changes.len() > limit;
        let total = (has_more && request.cursor.is_none()).then_some(changes.len() as u64);
        changes.truncate(limit);
        let next = match changes.last() {
            Some(last) if has_more => self.cursor_within(last.seq, known, self.table_end(&request.table)),
            _ => self.table_head(&request.table),
        };
        let end = changes.last().filter(|_| has_more).map_or(Seq::MAX, |last| last.seq);
        let applied = |counter: &Counter| match self.outcomes.get(&(request.replica, *counter)) {
            Some((_, PushResult::Applied { seq, .. } | PushResult::Duplicate { seq, .. })) => *seq <= end,
            _ => false,
        };
        let settled = request.unsettled.iter().copied().filter(applied).collect();
        Ok(Page { changes, settled, next, has_more, total })
    }
}

/// What a cursor says.
struct Place {
    /// The incarnation of its end.
    life: u64,
    seq: Seq,
    /// The purge that it knows of.
    known: Seq,
    /// How far the history went that it was made from.
    end: Seq,
}

fn parse(cursor: &Cursor) -> Result<Place, RemoteError> {
    let parts: Option<Vec<u64>> = cursor.as_str().split('.').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some(&[life, seq]) => Ok(Place { life, seq, known: 0, end: seq }),
        Some(&[life, seq, known, end]) => Ok(Place { life, seq, known, end }),
        _ => Err(invalid("not a cursor".to_owned())),
    }
}

fn invalid(message: String) -> RemoteError {
    RemoteError::Refused { code: "invalid".into(), message }
}

/// A user's connection to a [`MemoryServer`].
#[derive(Clone, Debug)]
pub struct MemoryRemote {
    server: MemoryServer,
    user: String,
}

#[async_trait]
impl Remote for MemoryRemote {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        let mut data = self.server.lock();
        let scope = data.scope(&self.user);
        for spec in tables {
            let refused = |error: crate::Invalid| RemoteError::Refused {
                code: "invalid".into(),
                message: error.to_string(),
            };
            let joined = match scope.specs.get(&spec.name) {
                Some(known) => known.joined(spec).map_err(refused)?,
                None => spec.clone(),
            };
            scope.specs.insert(spec.name.clone(), joined);
        }
        Ok(())
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        Ok(self.server.lock().scope(&self.user).specs.values().cloned().collect())
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        let mut data = self.server.lock();
        let server = format!("memory-{}", data.id);
        let scope = data.scope(&self.user);
        let counters = scope.outcomes.keys().filter(|(replica, _)| *replica == request.replica);
        let last_counter = counters.map(|(_, counter)| *counter).max().unwrap_or(0);
        let heads =
            request.tables.into_iter().map(|table| (table.clone(), scope.table_head(&table))).collect();
        Ok(Heads { server, last_counter, heads })
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        let mut data = self.server.lock();
        let life = data.life;
        let scope = data.scope(&self.user);
        let mut trial = scope.clone();
        let tables: BTreeSet<TableName> = request.entries.iter().map(|entry| entry.table.clone()).collect();
        let lost = trial.lost(&request.seen)?;
        let mut results = Vec::with_capacity(request.entries.len());
        for unit in request.units().map_err(invalid)? {
            results.extend(trial.push_together(life, request.replica, unit, &lost)?);
        }
        let moved =
            |table: &TableName| HeadMove { before: scope.table_head(table), after: trial.table_head(table) };
        let known = tables.iter().filter(|table| !lost.contains(*table));
        let heads = known.map(|table| (table.clone(), moved(table))).collect();
        *scope = trial;
        Ok(PushAnswer { results, heads })
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        let mut data = self.server.lock();
        data.scope(&self.user).pull(&request)
    }
}
