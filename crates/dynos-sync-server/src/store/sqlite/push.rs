//! Deciding about entries, and committing them.

use std::collections::{BTreeMap, BTreeSet};

use dynos_sync_core::{
    Counter, Cursor, Edit, Fields, Limits, Millis, Operation, ReplicaId, Seq, TableName, measure,
    plan::admit::{Admission, admit, none_of},
    sabotage::{Mutant, is_on},
    wire::{Current, HeadMove, PushAnswer, PushEntry, PushRequest, PushResult, RejectCode},
};
use rusqlite::Connection;

use super::{
    Rules,
    catalog::{self, ScopeId, Table, WriterId},
    history::{self, Standing},
    outcome::{self, Outcome},
    pull,
    record::{self, Stored},
};
use crate::store::{
    Caller, Moved, StoreError,
    digest::{Digest, digest},
};

/// How often a push may write the largest record, in all. Small patches of large records are cheap to send and
/// dear to store; a batch that goes beyond is refused whole, and comes again in halves.
const WORK_FACTOR: usize = 64;

/// Decides about all entries of a request, in one transaction.
pub(super) fn push(
    conn: &Connection,
    rules: &Rules,
    incarnation: i64,
    caller: &Caller,
    request: &PushRequest,
) -> Result<(PushAnswer, Vec<Moved>), StoreError> {
    if request.entries.len() > rules.push_entries {
        let (sent, limit) = (request.entries.len(), rules.push_entries);
        return Err(StoreError::TooLarge(format!("{sent} entries, the limit is {limit}")));
    }
    let mut push = Push::begin(conn, rules, incarnation, caller, request.replica)?;
    push.lost = pull::lost(conn, rules, caller, &request.seen)?;
    let mut results = Vec::with_capacity(request.entries.len());
    for unit in request.units().map_err(StoreError::Invalid)? {
        match unit {
            [entry] => results.push(push.entry(entry)?),
            transaction => results.extend(push.transaction(transaction)?),
        }
    }
    let (heads, moved) = push.end(caller)?;
    Ok((PushAnswer { results, heads }, moved))
}

/// A refusal, on its way to becoming a result.
type Refusal = (RejectCode, String);

struct Push<'a> {
    conn: &'a Connection,
    rules: &'a Rules,
    caller: &'a Caller,
    incarnation: i64,
    replica: ReplicaId,
    writer: WriterId,
    newest: Counter,
    now: Millis,
    tables: BTreeMap<TableName, Option<Touched>>,
    seqs: BTreeMap<ScopeId, Seq>,
    /// Tables of whose history the caller has seen more than there is: the pull that follows a conflict says so.
    lost: BTreeSet<TableName>,
    written: usize,
    shown: usize,
}

/// A table that entries of this push are about.
#[derive(Clone)]
struct Touched {
    table: Table,
    before: Seq,
    /// What the latest base was worth: entries that were made after one pull have the same.
    judged: Option<(Cursor, Standing)>,
    /// Whether the scope's history is known to go on under this incarnation.
    noted: bool,
}

impl Touched {
    fn judge(&mut self, conn: &Connection, base: &Cursor) -> Result<&Standing, StoreError> {
        let known = self.judged.take().filter(|(cursor, _)| cursor == base);
        let judged = match known {
            Some(judged) => judged,
            None => (base.clone(), history::judge(conn, &self.table, base)?),
        };
        Ok(&self.judged.insert(judged).1)
    }
}

impl<'a> Push<'a> {
    fn begin(
        conn: &'a Connection,
        rules: &'a Rules,
        incarnation: i64,
        caller: &'a Caller,
        replica: ReplicaId,
    ) -> Result<Self, StoreError> {
        let (writer, newest) = catalog::make_writer(conn, &rules.user(caller), replica)?;
        let (now, tables, seqs) = (rules.now.millis(), BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            conn,
            rules,
            caller,
            incarnation,
            replica,
            writer,
            newest,
            now,
            tables,
            seqs,
            lost: BTreeSet::new(),
            written: 0,
            shown: 0,
        })
    }

    /// Entries that take effect together or not at all.
    fn transaction(&mut self, entries: &[PushEntry]) -> Result<Vec<PushResult>, StoreError> {
        let before = (self.tables.clone(), self.seqs.clone(), self.newest);
        self.conn.execute_batch("SAVEPOINT unit")?;
        let results = entries.iter().map(|entry| self.entry(entry)).collect::<Result<Vec<_>, _>>()?;
        if results.iter().all(PushResult::is_done) || is_on(Mutant::TransactionHalfApplied) {
            self.conn.execute_batch("RELEASE unit")?;
            return Ok(results);
        }
        self.conn.execute_batch("ROLLBACK TO unit; RELEASE unit")?;
        (self.tables, self.seqs, self.newest) = before;
        let mut remembered = Vec::with_capacity(entries.len());
        for entry in entries {
            remembered.push(self.answered(entry, &digest(entry))?.is_some());
        }
        let results = none_of(results, &remembered).into_iter().zip(remembered).zip(entries);
        results.map(|((result, remembered), entry)| self.of_none(entry, result, remembered)).collect()
    }

    /// An entry of a transaction that did not take effect.
    fn of_none(
        &mut self,
        entry: &PushEntry,
        result: PushResult,
        remembered: bool,
    ) -> Result<PushResult, StoreError> {
        self.touch(&entry.table)?;
        if remembered {
            return Ok(result);
        }
        self.remember(entry, &digest(entry), &result)?;
        match result {
            PushResult::Rejected { code: code @ RejectCode::Transaction, message, .. } => {
                self.refused(entry, (code, message))
            }
            result => Ok(result),
        }
    }

    /// What became of an entry before. Outcomes are kept under numbers that are no higher than the newest.
    fn answered(&self, entry: &PushEntry, digest: &Digest) -> Result<Option<Outcome>, StoreError> {
        match entry.counter <= self.newest {
            true => outcome::find(self.conn, self.writer, entry.counter, digest),
            false => Ok(None),
        }
    }

    fn entry(&mut self, entry: &PushEntry) -> Result<PushResult, StoreError> {
        if entry.counter == 0 || i64::try_from(entry.counter).is_err() {
            // Not remembered: no entry can ever be applied under such a number.
            let refusal = (RejectCode::Invalid, "the counter is out of range".to_owned());
            return self.refused(entry, refusal);
        }
        // Also where only a repeat names it: the answer says where every table of the request stands.
        self.touch(&entry.table)?;
        let digest = digest(entry);
        if let Some(outcome) = self.answered(entry, &digest)? {
            return self.repeat(entry, outcome);
        }
        if self.lost.contains(&entry.table) {
            return Ok(PushResult::Conflict { seq: 0 });
        }
        let result = self.decide(entry)?;
        self.remember(entry, &digest, &result)?;
        Ok(result)
    }

    fn remember(
        &mut self,
        entry: &PushEntry,
        digest: &Digest,
        result: &PushResult,
    ) -> Result<(), StoreError> {
        let is_numbered = entry.counter > 0 && i64::try_from(entry.counter).is_ok();
        if !is_numbered || is_on(Mutant::OutcomesForgotten) {
            return Ok(());
        }
        let outcome = match result {
            PushResult::Applied { seq, .. } | PushResult::Duplicate { seq, .. } => {
                Outcome::Applied { seq: *seq }
            }
            PushResult::Rejected { code, message, .. } => {
                Outcome::Rejected { code: *code, message: message.clone() }
            }
            PushResult::Conflict { .. } => return Ok(()),
        };
        outcome::keep(self.conn, self.writer, entry.counter, digest, &outcome, self.now)?;
        self.newest = self.newest.max(entry.counter);
        Ok(())
    }

    fn repeat(&mut self, entry: &PushEntry, outcome: Outcome) -> Result<PushResult, StoreError> {
        match outcome {
            Outcome::Applied { seq } => Ok(PushResult::Duplicate { seq, record: None }),
            Outcome::Rejected { code, message } => self.refused(entry, (code, message)),
        }
    }

    /// Decides about an entry that was not answered before, and does what it says.
    fn decide(&mut self, entry: &PushEntry) -> Result<PushResult, StoreError> {
        let edit = match check(entry) {
            Ok(edit) => edit,
            Err(refusal) => return self.refused(entry, refusal),
        };
        let conn = self.conn;
        let Some(touched) = self.touch(&entry.table)? else {
            let refusal = (RejectCode::UnknownTable, format!("table {} was not declared", entry.table));
            return self.refused(entry, refusal);
        };
        if let Some(Err(invalid)) = edit.fields().map(|fields| touched.table.spec.check(fields)) {
            return self.refused(entry, (RejectCode::UnknownColumn, invalid.to_string()));
        }
        let table = touched.table.id;
        let base = match &entry.base {
            None => Some(0),
            Some(cursor) => match touched.judge(conn, cursor)? {
                Standing::Valid(position) => Some(position.seq),
                Standing::Expired(_) => None,
                Standing::Malformed => {
                    let refusal = (RejectCode::Invalid, "the base is not a cursor of this server".to_owned());
                    return self.refused(entry, refusal);
                }
            },
        };
        let stored = record::find(conn, table, &entry.id)?;
        let last = stored.as_ref().map(|stored| stored.last(self.writer, self.replica));
        match (admit(last, self.replica, entry.counter, base.unwrap_or(0)), base) {
            (Admission::Duplicate { seq }, _) => Ok(PushResult::Duplicate { seq, record: None }),
            (Admission::Conflict { seq }, _) => Ok(PushResult::Conflict { seq }),
            // What its author saw is not this server's history: the pull that follows says so.
            (Admission::Apply, None) => Ok(PushResult::Conflict { seq: last.map_or(0, |last| last.seq) }),
            (Admission::Apply, Some(_)) => self.apply(entry, &edit, stored),
        }
    }

    fn apply(
        &mut self,
        entry: &PushEntry,
        edit: &Edit,
        stored: Option<Stored>,
    ) -> Result<PushResult, StoreError> {
        let before = stored.map(|stored| stored.fields()).transpose()?.flatten();
        if before.is_none() && matches!(edit, Edit::Patch(_)) {
            let refusal = (RejectCode::NotFound, "there is no such record to patch".to_owned());
            return self.refused(entry, refusal);
        }
        let after = match self.tables.get(&entry.table) {
            Some(Some(touched)) => touched.table.spec.apply(edit, before),
            _ => edit.apply(before),
        };
        let bytes = match after.as_ref().map(measure).transpose() {
            Ok(bytes) => bytes.unwrap_or(0),
            Err(invalid) => return self.refused(entry, (RejectCode::Invalid, invalid.to_string())),
        };
        if bytes > self.rules.record_bytes {
            let message = format!("the record has {bytes} bytes, the limit is {}", self.rules.record_bytes);
            return self.refused(entry, (RejectCode::TooLarge, message));
        }
        self.written += bytes;
        if self.written > self.rules.record_bytes.saturating_mul(WORK_FACTOR) {
            return Err(StoreError::TooLarge("the entries touch more data than one push may".to_owned()));
        }
        let seq = self.store(entry, after)?;
        Ok(PushResult::Applied { seq, record: None })
    }

    fn store(&mut self, entry: &PushEntry, after: Option<Fields>) -> Result<Seq, StoreError> {
        let missing =
            || StoreError::Corrupt("BUG: an entry was applied to a table that was not looked up".to_owned());
        let Touched { table, noted, .. } =
            self.tables.get_mut(&entry.table).and_then(Option::as_mut).ok_or_else(missing)?;
        let seq = self.seqs.get_mut(&table.scope).ok_or_else(missing)?;
        if !std::mem::replace(noted, true) {
            history::note(self.conn, self.incarnation, table.scope, *seq)?;
        }
        *seq += 1;
        table.head = *seq;
        let (seq, table) = (*seq, table.id);
        record::write(self.conn, table, entry, seq, self.writer, self.now, after)?;
        Ok(seq)
    }

    /// The table that an entry is about, if it was declared.
    fn touch(&mut self, name: &TableName) -> Result<Option<&mut Touched>, StoreError> {
        if !self.tables.contains_key(name) {
            let scope = self.rules.scope(self.caller, name);
            let table = catalog::table(self.conn, &scope, name)?;
            if let Some(table) = &table
                && !self.seqs.contains_key(&table.scope)
            {
                self.seqs.insert(table.scope, catalog::make_scope(self.conn, &scope)?.1);
            }
            let new = |table: Table| Touched { before: table.head, table, judged: None, noted: false };
            let touched = table.map(new);
            self.tables.insert(name.clone(), touched);
        }
        Ok(self.tables.get_mut(name).and_then(Option::as_mut))
    }

    /// A refusal, with the record as it is. What a whole answer shows of records is bounded.
    fn refused(&mut self, entry: &PushEntry, (code, message): Refusal) -> Result<PushResult, StoreError> {
        let (conn, refusal) = (self.conn, PushResult::rejected(code, outcome::shorten(message)));
        if let Some(touched) = self.touch(&entry.table)? {
            let stored = record::find(conn, touched.table.id, &entry.id)?;
            let size = stored.as_ref().map_or(0, Stored::size);
            if self.shown + size <= self.rules.page_bytes.max(self.rules.record_bytes) {
                self.shown += size;
                let record = stored.map(|stored| stored.fields()).transpose()?.flatten();
                return Ok(refusal.showing(Current { record }));
            }
        }
        Ok(refusal)
    }

    /// Writes down how far scopes, tables and the writer have come.
    fn end(self, caller: &Caller) -> Result<(BTreeMap<TableName, HeadMove>, Vec<Moved>), StoreError> {
        let (conn, mut heads, mut moved) = (self.conn, BTreeMap::new(), Vec::new());
        conn.execute("UPDATE writers SET counter = ?2 WHERE writer = ?1", (self.writer, self.newest))?;
        for (scope, seq) in &self.seqs {
            conn.execute("UPDATE scopes SET seq = ?2 WHERE scope = ?1", (scope, seq))?;
        }
        for (name, touched) in self.tables {
            // The caller has yet to learn where the history of such a table ends now.
            if self.lost.contains(&name) {
                continue;
            }
            let Some(Touched { table, before, .. }) = touched else {
                let zero = history::zero(conn)?;
                heads.insert(name, HeadMove { before: zero.clone(), after: zero });
                continue;
            };
            if before < table.head {
                conn.execute("UPDATE tables SET head = ?2 WHERE tbl = ?1", (table.id, table.head))?;
                moved.push(Moved::Table { scope: self.rules.scope(caller, &name), table: name.clone() });
            }
            let cursor = |seq| history::cursor(conn, table.scope, seq);
            heads.insert(name, HeadMove { before: cursor(before)?, after: cursor(table.head)? });
        }
        Ok((heads, moved))
    }
}

/// What can be said about an entry without looking anything up.
fn check(entry: &PushEntry) -> Result<Edit, Refusal> {
    let invalid = |problem: String| (RejectCode::Invalid, problem);
    if !(0..=Limits::LATEST).contains(&entry.at) {
        return Err(invalid("the edit's time is out of range".to_owned()));
    }
    match &entry.data {
        None if entry.op != Operation::Delete => Err(invalid("the entry has no data".to_owned())),
        Some(data) => {
            measure(data).map_err(|deep| invalid(deep.to_string()))?;
            Ok(entry.edit())
        }
        None => Ok(entry.edit()),
    }
}
