//! The server, which is the real one in memory, and a book beside it of what really happened.

use dynos_sync_core::Operation;
use dynos_sync_core::{
    Counter, Cursor, Entry, Fields, Remote, RemoteError, ReplicaId, Seq, TableSpec,
    memory::{MemoryRemote, MemoryServer},
    wire::{Expired, HeadsRequest, Page, PullRequest, PushAnswer, PushEntry, PushRequest, PushResult},
};
use futures_executor::block_on;

use crate::{
    edit,
    fault::Fault,
    intern::Id,
    rules::{Rule, Rules},
};

const USER: &str = "ada";

/// The server.
#[derive(Debug)]
pub struct Server {
    /// The real one.
    pub memory: MemoryServer,
    /// What really happened in its history.
    pub book: Book,
    /// Earlier states that it may be restored to.
    pub copies: Vec<Id>,
}

/// What really happened, whatever the server remembers.
#[derive(Clone, Debug, Default)]
pub struct Book {
    applied: Vec<Applied>,
    /// Each record's last change, and whether it was a deletion.
    last: [Option<(Applied, bool)>; 2],
}

/// An entry that took effect.
#[derive(Clone, Copy, Debug)]
struct Applied {
    writer: usize,
    record: usize,
    counter: Counter,
    seq: Seq,
    transaction: Option<Counter>,
}

/// What came of a push.
#[derive(Debug)]
pub struct Delivered {
    /// The server afterwards.
    pub server: Server,
    /// Its answer.
    pub answer: Option<PushAnswer>,
    /// Whether the same request will never have an effect again.
    pub spent: bool,
    /// What went wrong.
    pub fault: Option<Fault>,
}

impl Server {
    /// A server that knows the table, where `declared`, and then has the first record.
    pub fn new(declared: bool) -> Self {
        let server = Self { memory: MemoryServer::new(), book: Book::default(), copies: Vec::new() };
        if !declared {
            return server;
        }
        server.declare();
        let first = PushEntry {
            counter: 1,
            table: edit::table(),
            id: edit::id(0),
            op: Operation::Upsert,
            base: None,
            at: 1,
            data: Some(edit::record(0)),
            transaction: None,
        };
        let request = PushRequest::new(ReplicaId::from_random(edit::seed(2)), vec![first]);
        server.deliver(&request, Rules::default()).server
    }

    fn remote(&self) -> MemoryRemote {
        self.memory.remote(USER)
    }

    /// A copy, to go on from.
    pub fn fork(&self) -> Self {
        Self { memory: self.memory.backup(), book: self.book.clone(), copies: self.copies.clone() }
    }

    /// Learns of the table.
    pub fn declare(&self) {
        let declared = block_on(self.remote().declare(&[TableSpec::document(edit::table())]));
        declared.expect("a table can be declared");
    }

    /// A request arrives.
    pub fn deliver(&self, request: &PushRequest, rules: Rules) -> Delivered {
        let mut server = self.fork();
        let mut heard = request.clone();
        if !rules.has(Rule::CompareAndSet) {
            let head = server.head();
            heard.entries.iter_mut().for_each(|entry| entry.base = Some(head.clone()));
        }
        for entry in &mut heard.entries {
            entry.transaction.take_if(|_| !rules.has(Rule::Together));
            entry.base = entry.base.take().map(|base| knowing(base, rules));
        }
        let Ok(answer) = block_on(server.remote().push(&heard)) else {
            return Delivered { server, answer: None, spent: false, fault: Some(Fault::Protocol) };
        };
        let writer = edit::writer(request.replica);
        let entries = request.entries.iter().zip(&answer.results);
        let mut faults: Vec<Option<Fault>> =
            entries.map(|(entry, result)| server.book.enter(writer, entry, result)).collect();
        faults.push(torn(request, &answer));
        if !rules.has(Rule::RememberedOutcomes) {
            server.memory.forget_outcomes();
        }
        if !rules.has(Rule::StaleCounter) {
            server.memory.forget_counters();
        }
        if !rules.has(Rule::Tombstones) {
            server.memory.purge();
        }
        let undecided = |result: &PushResult| matches!(result, PushResult::Conflict { .. });
        let spent = rules.has(Rule::RememberedOutcomes) && !answer.results.iter().any(undecided);
        Delivered { server, answer: Some(answer), spent, fault: faults.into_iter().flatten().next() }
    }

    /// Answers a page, or why not; none is an error that should not be.
    pub fn pull(&self, request: &PullRequest, rules: Rules) -> Result<Page, Option<Expired>> {
        let mut request = request.clone();
        request.cursor = request.cursor.map(|cursor| knowing(cursor, rules));
        let page = block_on(self.remote().pull(request.clone()));
        let mut page = page.map_err(|error| match error {
            RemoteError::CursorExpired(expired) => Some(expired),
            _ => None,
        })?;
        if let ([life, seq, ..], true, false) =
            (&parts(&page.next)[..], page.has_more, rules.has(Rule::WalkEnd))
        {
            page.next = Cursor::new(format!("{life}.{seq}"));
        }
        if !rules.has(Rule::Settled) {
            page.settled.clear();
        }
        Ok(page)
    }

    /// Where the table ends.
    pub fn head(&self) -> Cursor {
        let request =
            HeadsRequest { replica: ReplicaId::from_random(edit::seed(2)), tables: vec![edit::table()] };
        let mut heads = block_on(self.remote().heads(request)).expect("it has heads");
        heads.heads.remove(&edit::table()).expect("it was asked for")
    }

    /// Whether its history goes through a cursor.
    pub fn knows(&self, replica: ReplicaId, cursor: &Cursor) -> bool {
        let request = PullRequest {
            replica,
            table: edit::table(),
            cursor: Some(cursor.clone()),
            seen: None,
            limit: 1,
            unsettled: vec![],
            all: false,
        };
        block_on(self.remote().pull(request)).is_ok()
    }

    /// The records.
    pub fn records(&self) -> [Option<Fields>; 2] {
        let mut records = self.memory.records(USER, &edit::table());
        [0, 1].map(|record| records.remove(&edit::id(record)))
    }

    /// Each record's last change, and who made it; 0 where there is none.
    pub fn newest(&self) -> [(Seq, usize); 2] {
        [0, 1].map(|record| self.book.last[record].map_or((0, 0), |(last, _)| (last.seq, last.writer)))
    }

    /// Whether a part of a transaction has taken effect.
    pub fn has_of(&self, writer: usize, transaction: Counter) -> bool {
        self.book.applied.iter().any(|a| a.writer == writer && a.transaction == Some(transaction))
    }

    /// Whether there is a deleted record.
    pub fn has_tombstone(&self) -> bool {
        self.book.last.iter().flatten().any(|(_, deleted)| *deleted)
    }

    /// Whether a page says only what is so, and all of it. `pending` are a record's entries on the device.
    pub fn judge_page(
        &self,
        replica: ReplicaId,
        page: &Page,
        pending: impl Fn(usize) -> Vec<Entry>,
    ) -> Option<Fault> {
        let writer = edit::writer(replica);
        if page.settled.iter().any(|counter| self.book.find(writer, *counter).is_none()) {
            return Some(Fault::Acknowledged);
        }
        let on_top = |entry: &Entry, seq| {
            let applied = self.book.find(writer, entry.counter);
            applied.is_some_and(|ours| ours < seq) && !page.settled.contains(&entry.counter)
        };
        let others = page.changes.iter().filter(|change| !change.own);
        let own = others
            .filter(|change| pending(edit::place(&change.id)).iter().any(|entry| on_top(entry, change.seq)))
            .count();
        (own > 0).then_some(Fault::OwnConflict)
    }
}

impl Book {
    fn find(&self, writer: usize, counter: Counter) -> Option<Seq> {
        let found = self.applied.iter().find(|a| a.writer == writer && a.counter == counter);
        found.map(|applied| applied.seq)
    }

    /// Enters what became of an entry, and judges it.
    fn enter(&mut self, writer: usize, entry: &PushEntry, result: &PushResult) -> Option<Fault> {
        let record = edit::place(&entry.id);
        let counter = entry.counter;
        let newest = |book: &Self| {
            let ours = book.applied.iter().filter(|a| a.writer == writer && a.record == record);
            ours.map(|applied| applied.counter).max()
        };
        match result {
            PushResult::Duplicate { .. } if newest(self) < Some(counter) => Some(Fault::Acknowledged),
            PushResult::Applied { seq, .. } => {
                let unseen = self.last[record].filter(|(last, _)| {
                    last.writer != writer && last.seq > entry.base.as_ref().map_or(0, seq_of)
                });
                let fault = if newest(self) >= Some(counter) {
                    Some(Fault::Order)
                } else if let Some((_, deleted)) = unseen {
                    let back = deleted && entry.op != Operation::Delete;
                    Some(if back { Fault::Resurrection } else { Fault::Unseen })
                } else {
                    None
                };
                let transaction = entry.transaction;
                let applied = Applied { writer, record, counter, seq: *seq, transaction };
                self.applied.push(applied);
                self.last[record] = Some((applied, entry.op == Operation::Delete));
                fault
            }
            _ => None,
        }
    }
}

/// Whether of a transaction something has taken effect now, and something has not.
fn torn(request: &PushRequest, answer: &PushAnswer) -> Option<Fault> {
    let results = |transaction| {
        let entries = request.entries.iter().zip(&answer.results);
        entries.filter(move |(entry, _)| entry.transaction == Some(transaction)).map(|(_, result)| result)
    };
    let is_torn = |transaction| {
        let is_applied = |result: &PushResult| matches!(result, PushResult::Applied { .. });
        results(transaction).any(is_applied) && !results(transaction).all(PushResult::is_done)
    };
    request.entries.iter().filter_map(|entry| entry.transaction).any(is_torn).then_some(Fault::Torn)
}

/// A cursor as if the walk had begun after every purge, where the server is not to refuse it for one.
fn knowing(cursor: Cursor, rules: Rules) -> Cursor {
    let refused = rules.has(Rule::PurgedCursors) && rules.has(Rule::Tombstones);
    match parts(&cursor)[..] {
        [life, seq] if !refused => Cursor::new(format!("{life}.{seq}.{}.{seq}", Seq::MAX)),
        [life, seq, _, end] if !refused => Cursor::new(format!("{life}.{seq}.{}.{end}", Seq::MAX)),
        _ => cursor,
    }
}

fn parts(cursor: &Cursor) -> Vec<&str> {
    cursor.as_str().split('.').collect()
}

/// The number in a cursor of this server's.
pub fn seq_of(cursor: &Cursor) -> Seq {
    parts(cursor).get(1).and_then(|seq| seq.parse().ok()).unwrap_or(0)
}
