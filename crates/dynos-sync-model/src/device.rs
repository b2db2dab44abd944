//! A device: its database, which is the real one in memory, and what its worker is in the midst of.

use dynos_sync_core::{
    Cursor, Entry, Fields, Millis, RecordId, Replica,
    memory::MemoryReplica,
    replica::{Batch, Op, Outcome, Phase, Receipt, Seen, State, TableOptions, TableState},
    wire::{Expired, Page, PullRequest, PushAnswer},
};
use futures_executor::block_on;

use crate::{
    edit::{self, Kind, Written},
    intern::Id,
};

/// A device. All but the job survives a crash.
#[derive(Debug)]
pub struct Device {
    /// Its database.
    pub replica: MemoryReplica,
    /// What its worker waits for.
    pub job: Job,
}

/// What a worker is in the midst of: in memory only.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// Nothing.
    Idle,
    /// A push was sent; the answer is on its way once there is one.
    Push {
        /// The request.
        request: Id,
        /// The entries as they were sent.
        sent: Vec<Entry>,
        /// The answer.
        answer: Option<PushAnswer>,
    },
    /// A page is on its way.
    Page {
        /// What was asked.
        request: PullRequest,
        /// The entries that were asked about.
        unsettled: Vec<Entry>,
        /// The page.
        page: Page,
    },
    /// The news that the cursor has expired is on its way.
    Expired {
        /// Why.
        expired: Expired,
        /// Where the history ends now.
        head: Cursor,
    },
    /// The second of what should be one transaction.
    Half(Batch),
}

impl Job {
    /// What it is, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Push { answer: None, .. } => "waits for an answer",
            Self::Push { .. } => "is being answered",
            Self::Page { .. } => "is sent a page",
            Self::Expired { .. } => "is told that the cursor has expired",
            Self::Half(_) => "has done half of a page",
        }
    }
}

impl Device {
    /// A device that syncs the table with the server, and has pulled nothing.
    pub fn new(place: usize) -> Self {
        let replica = MemoryReplica::new(edit::seed(place));
        let added = block_on(replica.add_table(TableOptions::new(edit::table())));
        added.expect("a table can be added");
        let device = Self { replica, job: Job::Idle };
        device.commit(Batch {
            ops: vec![Op::Bind { server: "memory-1".into() }, Op::Declared { table: edit::table() }],
            ..Batch::default()
        });
        device
    }

    /// A copy, to go on from.
    pub fn fork(&self, job: Job) -> Self {
        Self { replica: self.replica.fork(), job }
    }

    /// A copy after a local edit; none where the application is told that it cannot be made, or that nothing is to do.
    pub fn write(&self, written: Written, number: usize, at: Millis) -> Option<Self> {
        let next = self.fork(self.job.clone());
        let records = (0..edit::RECORDS.len()).filter(|record| written.is_about(*record));
        let write = |record| Op::Write { key: edit::key(record), edit: written.edit(number), at };
        let transaction = written.kind == Kind::Both;
        let batch = Batch { ops: records.map(write).collect(), transaction, ..Batch::default() };
        match block_on(next.replica.commit(batch)) {
            Ok(Outcome::Committed(Receipt { written, .. })) if written[0].is_some() => Some(next),
            _ => None,
        }
    }

    /// Commits a plan that cannot be stale: it was made from what is there.
    pub fn commit(&self, batch: Batch) {
        let outcome = block_on(self.replica.commit(batch));
        assert!(matches!(outcome, Ok(Outcome::Committed(_))), "{outcome:?}");
    }

    /// The replica as a whole.
    pub fn state(&self) -> State {
        block_on(self.replica.state()).expect("it is open")
    }

    /// The synced table.
    pub fn table(&self) -> TableState {
        self.state().tables.remove(0)
    }

    /// Records with their rows and pending entries.
    pub fn records(&self, ids: &[RecordId], rows: bool) -> Vec<Seen> {
        block_on(self.replica.records(&edit::table(), ids, rows)).expect("it is open")
    }

    /// Entries that were sent and not answered.
    pub fn unsettled(&self, limit: usize) -> Vec<Entry> {
        block_on(self.replica.unsettled(&edit::table(), limit)).expect("it is open")
    }

    /// All pending entries.
    pub fn queue(&self) -> Vec<Entry> {
        block_on(self.replica.queue(0, usize::MAX)).expect("it is open")
    }

    /// A row.
    pub fn row(&self, record: usize) -> Option<Fields> {
        block_on(self.replica.get(&edit::key(record))).expect("it is open")
    }

    /// Whether nothing is left to do where the table ends at `head`.
    pub fn is_done(&self, head: &Cursor) -> bool {
        let (state, table) = (self.state(), self.table());
        let follows = table.phase == Phase::Following && table.ahead.is_none();
        self.job == Job::Idle && state.pending == 0 && follows && table.cursor.as_ref() == Some(head)
    }

    /// The request whose answer is awaited, and whether that is on its way.
    pub fn awaits(&self) -> Option<(Id, bool)> {
        match &self.job {
            Job::Push { request, answer, .. } => Some((*request, answer.is_some())),
            _ => None,
        }
    }
}
