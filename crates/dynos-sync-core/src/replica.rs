//! The seam to a device's database.
//!
//! A [`Batch`] is plain data: what a planner decided, to be done whole or not at all. There is one door for all
//! changes, [`Replica::commit`], and so one crash matrix: killed at any point, either all of a batch is there
//! afterwards or none of it.

use std::{collections::BTreeSet, fmt::Debug};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    clock::Millis,
    conflict::StrategyName,
    cursor::Cursor,
    doctor::{self, Account, Depth, Inspection},
    entry::{Edit, Entry},
    error::Invalid,
    ids::{Counter, Generation, RecordId, RecordKey, ReplicaId, Seq, TableName},
    query::Queries,
    record::Fields,
    schema::Schema,
    snapshot::SnapshotStore,
    table::TableSpec,
    wire::Expired,
};

/// A device's rows, queue and cursors. Every method is one whole transaction.
///
/// A call never waits for one that has begun and that nobody polls: `select!` leaves such futures, and the task that would poll it may be
/// the one that waits. So an implementation holds no lock of futures (as `tokio::sync::Mutex` is) while it waits for something else.
#[async_trait]
pub trait Replica: Debug + Send + Sync + 'static {
    /// The replica as a whole. Costs the same however long the queue is.
    async fn state(&self) -> Result<State, ReplicaError>;

    /// One record, as the application sees it.
    async fn get(&self, key: &RecordKey) -> Result<Option<Fields>, ReplicaError>;

    /// The records among `ids` that a planner has to look at: all of them with `rows`, else those with pending
    /// entries. At most a page's.
    async fn records(
        &self,
        table: &TableName,
        ids: &[RecordId],
        rows: bool,
    ) -> Result<Vec<Seen>, ReplicaError>;

    /// What can be sent now: entries that were sent before and never answered, or else the pending entries of
    /// the records that wait for nothing, in the order of their oldest entries. The entries of one record are
    /// one group. Costs O(batch · log n), never O(queue).
    async fn due(&self, limits: &DueLimits) -> Result<Due, ReplicaError>;

    /// Entries of a table that were sent and never answered, oldest first.
    async fn unsettled(&self, table: &TableName, limit: usize) -> Result<Vec<Entry>, ReplicaError>;

    /// Carries out a batch, whole or not at all.
    async fn commit(&self, batch: Batch) -> Result<Outcome, ReplicaError>;

    /// Brings what is kept of an earlier version of the application's schema up to this one: queued edits and what their records were before
    /// them, dead letters, the conflict journal. What was sent and never answered stays [due](Self::due) as it was sent. Answers whether there
    /// was anything to do.
    ///
    /// # Errors
    /// [`ReplicaError::NewerSchema`]; then nothing was done.
    async fn adopt(&self, schema: &Schema) -> Result<bool, ReplicaError>;

    /// Begins to sync a table, or changes how. Answers whether anything changed.
    async fn add_table(&self, options: TableOptions) -> Result<bool, ReplicaError>;

    /// Ends the syncing of a table; its rows stay, its pending entries and cursor go. Answers whether it was synced.
    async fn remove_table(&self, table: &TableName) -> Result<bool, ReplicaError>;

    /// Forgets the user: rows of the synced tables, queue, dead letters, conflicts, cursors, identity. Where
    /// something is unsynced and `discard` is not set, nothing is done.
    async fn logout(&self, discard: bool) -> Result<Logout, ReplicaError>;

    /// The queue, oldest first, from after `after`, for people to read.
    async fn queue(&self, after: Counter, limit: usize) -> Result<Vec<Entry>, ReplicaError>;

    /// The dead letters, oldest first.
    async fn dead_letters(&self, after: i64, limit: usize) -> Result<Vec<DeadLetter>, ReplicaError>;

    /// The conflict journal, newest first.
    async fn conflicts(&self, before: i64, limit: usize) -> Result<Vec<Journaled>, ReplicaError>;

    /// What is kept of one record, as it stands, for people to read. Where the replica can answer it without changing anything, it does.
    ///
    /// # Errors
    /// [`ReplicaError::UnknownTable`] where its table is not synced.
    async fn account(&self, key: &RecordKey) -> Result<Account, ReplicaError> {
        doctor::of_record(self, key).await
    }

    /// Looks through what is kept, for people to read: what is wrong with it, and what there is. Where the replica can answer it without
    /// changing anything, it does.
    async fn inspect(&self, depth: Depth) -> Result<Inspection, ReplicaError> {
        // What has no storage of its own to look through is counted.
        let _ = depth;
        doctor::of_replica(self).await
    }

    /// What takes snapshots for first pulls, where the replica can.
    fn snapshots(&self) -> Option<&dyn SnapshotStore> {
        None
    }

    /// What answers queries, where the database takes any.
    fn queries(&self) -> Option<&dyn Queries> {
        None
    }

    /// An item after commits by other programs, until the replica is closed; items that nobody has taken are one. `None` where the
    /// replica is not told of them: whoever wants to know has to look.
    fn foreign_commits(&self) -> Option<BoxStream<'static, ()>> {
        None
    }

    /// Ends the replica's threads once what was handed in is done. Later calls answer [`ReplicaError::Closed`].
    async fn close(&self);
}

/// The replica as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Its identity on the server.
    pub replica: ReplicaId,
    /// The session.
    pub generation: Generation,
    /// The server that it belongs to, once it has met one.
    pub server: Option<String>,
    /// The newest edit time given or seen.
    pub clock: Millis,
    /// The highest counter given so far.
    pub last_counter: Counter,
    /// The highest counter that was marked as sent: a server that knows a higher one of this replica has met a newer copy of it.
    pub last_sent: Counter,
    /// The version of the application's schema; 0 where it has not named one.
    pub schema: u32,
    /// The synced tables, in the order in which they were added.
    pub tables: Vec<TableState>,
    /// Changes that the server has not acknowledged. Changes by other programs count one each until they are
    /// collected, then one a record.
    pub pending: u64,
    /// Refused edits that wait for a decision.
    pub dead_letters: u64,
    /// Entries of the conflict journal.
    pub conflicts: u64,
    /// Records that the server sent and the local table refuses to take.
    pub quarantined: u64,
}

impl State {
    /// The state of a table, if it is synced.
    pub fn table(&self, name: &TableName) -> Option<&TableState> {
        self.tables.iter().find(|table| table.spec.name == *name)
    }
}

/// A synced table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableState {
    /// What it looks like.
    pub spec: TableSpec,
    /// How it is synced.
    pub policy: TablePolicy,
    /// Up to where its changes were pulled.
    pub cursor: Option<Cursor>,
    /// A later place in the history that the server has shown: the end of the replica's own last push, where others had
    /// changed the table in between, or where the table is pulled from the beginning again, what had been pulled before. A
    /// server that no longer knows it has lost something.
    pub ahead: Option<Cursor>,
    /// What pulling it means now.
    pub phase: Phase,
    /// Whether the server has been told what it looks like now.
    pub declared: bool,
    /// When a pull of it last reached the end.
    pub synced_at: Option<Millis>,
    /// Columns that it has gained, of which the server had values that were left out before: it is walked again for them, and this is empty
    /// at the end.
    pub gained: BTreeSet<String>,
}

/// What pulling a table means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The first pull has not reached the end yet.
    First,
    /// Following the server's changes.
    Following,
    /// Pulling everything again, since tombstones were purged: at the end, rows that were not seen are deleted.
    Resync,
    /// Pulling everything again, since the server was restored: what it lost is offered to it again.
    Restore {
        /// Up to here both have the same history, and the device has seen all of it.
        common: Seq,
        /// As far as the device's own changes are concerned, where that is more.
        #[serde(default)]
        own: Option<Seq>,
    },
}

impl Phase {
    /// Whether a record that the server changed last at `seq` is one of which this device may know something newer.
    pub fn may_have_lost(self, seq: Seq, own: bool) -> bool {
        match self {
            Self::Restore { common, own: further } => seq <= further.filter(|_| own).unwrap_or(common),
            _ => false,
        }
    }

    /// The walk from the beginning that follows where a cursor has expired in this phase. What a walk that is under way was to
    /// find out, the next one has to: what is unsure stays so.
    #[must_use]
    pub fn after(self, expired: &Expired) -> Self {
        match (self, expired) {
            (Self::Restore { .. }, Expired::Purged) => self,
            (_, Expired::Purged) => Self::Resync,
            (Self::Restore { common: before, own: own_before }, Expired::RolledBack { common, own }) => {
                let further = own_before.unwrap_or(before).min(own.unwrap_or(*common));
                let common = before.min(*common);
                Self::Restore { common, own: (further > common).then_some(further) }
            }
            (_, Expired::RolledBack { common, own }) => Self::Restore { common: *common, own: *own },
        }
    }

    /// Whether changes made by this replica itself are wanted from the server too.
    pub fn wants_all(self) -> bool {
        self != Self::Following
    }
}

/// How a table is synced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePolicy {
    /// Whether others' changes are pulled. Without, the device only sends.
    pub pull: bool,
    /// Sensitive fields, see [`Redactor`](crate::Redactor).
    #[serde(default)]
    pub sensitive_fields: Vec<String>,
    /// Owner columns, see [`Ownership`](crate::Ownership).
    #[serde(default)]
    pub owner_columns: Vec<String>,
    /// The device's user, for the owner columns.
    #[serde(default)]
    pub user: Option<String>,
}

impl Default for TablePolicy {
    fn default() -> Self {
        Self {
            pull: true,
            sensitive_fields: Vec::new(),
            owner_columns: crate::Ownership::DEFAULT_COLUMNS.map(str::to_owned).to_vec(),
            user: None,
        }
    }
}

/// A table to sync.
#[derive(Clone, Debug, PartialEq)]
pub struct TableOptions {
    /// Its name.
    pub name: TableName,
    /// What to make where the database has no such table; a document table unless said otherwise.
    pub create: Option<TableSpec>,
    /// How it is synced.
    pub policy: TablePolicy,
    /// What becomes of the rows that are already there.
    pub existing: Existing,
}

impl TableOptions {
    /// The table as it is, its rows adopted, with the default policy.
    pub fn new(name: TableName) -> Self {
        Self { name, create: None, policy: TablePolicy::default(), existing: Existing::Push }
    }
}

/// What becomes of the rows that a table has when it is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// They are queued, as edits older than any other: where the server has the record too, its version wins
    /// unless the strategy says otherwise.
    #[default]
    Push,
    /// They stay on the device until they are changed.
    Ignore,
}

/// A record as a planner sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its id.
    pub id: RecordId,
    /// The local row.
    pub row: Option<Fields>,
    /// The row before the first pending entry. Only meaningful where there are entries.
    pub base: Option<Fields>,
    /// The pending entries, oldest first.
    pub entries: Vec<Entry>,
}

/// Bounds of a batch to push.
#[derive(Clone, Copy, Debug)]
pub struct DueLimits {
    /// The time: entries whose retry lies later are left out.
    pub now: Millis,
    /// The longest that an entry waits, in milliseconds: what would wait for longer was told so by a clock that has been set
    /// back since, and waits no more.
    pub longest_wait: Millis,
    /// The most records.
    pub records: usize,
    /// The most bytes of fields; one record may exceed them alone.
    pub bytes: usize,
    /// How many entries were sent and are under way. Where there are some, what was never sent is due, of other records; but nothing
    /// while more than these were sent: they go first.
    pub under_way: usize,
}

impl DueLimits {
    /// When an entry may be sent again that has to wait.
    pub fn retry_of(&self, entry: &Entry) -> Option<Millis> {
        let waits = |at: &Millis| *at > self.now && at.saturating_sub(self.now) <= self.longest_wait;
        entry.retry_at.filter(waits)
    }
}

/// What can be sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Due {
    /// A group a record, its entries oldest first. A sent entry is a group of its own. The groups of a transaction follow one another,
    /// and are all there are.
    pub groups: Vec<Vec<Entry>>,
    /// The earliest time at which a waiting record may be sent.
    pub next_retry: Option<Millis>,
}

/// What to do, and what it was planned from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// What must still be so.
    pub expected: Expected,
    /// What to do, in order.
    pub ops: Vec<Op>,
    /// Whether its edits are one transaction on the server too: all of them take effect there at the same time, or none.
    pub transaction: bool,
}

/// What a batch was planned from. Where it is no longer so, the commit does nothing and answers
/// [`Outcome::Stale`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// The session, for work that must not outlive it.
    pub generation: Option<Generation>,
    /// For each record that the plan read: its newest pending entry.
    pub newest: Vec<(RecordKey, Option<Counter>)>,
    /// For a table that is being pulled: the cursor that the page continues from.
    pub cursor: Option<(TableName, Option<Cursor>)>,
}

/// One step of a batch. A record's row, its queue and its base image always move together.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A local edit: changes the row and queues the edit. A delete of a record that does not exist does nothing. A row that names
    /// another owner is not edited ([`guard`](crate::plan::write::guard)).
    Write {
        /// The record.
        key: RecordKey,
        /// The edit.
        edit: Edit,
        /// Its time. The replica raises it above the newest time it has seen.
        at: Millis,
    },
    /// Queues an edit whose row the application has written itself.
    Enqueue {
        /// The record.
        key: RecordKey,
        /// The edit.
        edit: Edit,
        /// Its time.
        at: Millis,
    },
    /// Replaces whatever is pending of a record by an edit that leads from the server's version to the row as it is. The edit takes the place of
    /// the old ones in their transactions, which become one.
    Offer {
        /// The record.
        key: RecordKey,
        /// The server's version.
        base: Option<Fields>,
        /// The edit.
        edit: Edit,
        /// Its time.
        at: Millis,
    },
    /// Puts the server's version into the row. Only the fields given are touched in a table with columns.
    Store {
        /// The record.
        key: RecordKey,
        /// The server's version.
        record: Option<Fields>,
    },
    /// Replaces a record's unsent entries up to this one's counter by this one, which is about to be sent.
    Freeze(Entry),
    /// An entry was not applied: it may be sent again, with a later base.
    Thaw {
        /// The record.
        key: RecordKey,
        /// The entry.
        counter: Counter,
    },
    /// An entry has taken effect on the server: it leaves the queue.
    Settle {
        /// The record.
        key: RecordKey,
        /// The entry.
        counter: Counter,
        /// The server's form of the record, where it differs: it goes to the row, or to the base image where
        /// newer entries are pending.
        record: Option<Fields>,
    },
    /// Replaces all pending entries of a record by the outcome of a conflict, which takes their place in their transactions: these become one.
    Resolve {
        /// What happened, for the journal.
        conflict: Box<Resolved>,
        /// What is to be sent, where the outcome is not the server's version.
        edit: Option<Edit>,
    },
    /// The record was refused: its entries take fresh counters and wait.
    Postpone {
        /// The record.
        key: RecordKey,
        /// The entry that was refused.
        counter: Counter,
        /// Not to be sent before.
        retry_at: Millis,
    },
    /// The record was refused for good: its pending entries become one dead letter, up to the first that belongs to another transaction.
    /// Where the record goes with them, the letter takes in what was set aside of it.
    /// What stays is made again on top of the row as it then is.
    Bury {
        /// The record.
        key: RecordKey,
        /// The entry that was refused.
        counter: Counter,
        /// Why, as a word.
        code: String,
        /// Why, in words.
        message: String,
        /// When.
        at: Millis,
        /// What becomes of the row.
        revert: Revert,
    },
    /// The server's table has no column for some fields: a record's pending entries leave them to a [dead letter](DeadLetter::SET_ASIDE),
    /// and the row keeps them, as does the base of a row with columns. What is left of the entries takes fresh counters, and goes at once.
    /// Without fields only that.
    SetAside {
        /// The record.
        key: RecordKey,
        /// The entry that was refused.
        counter: Counter,
        /// The fields.
        fields: BTreeSet<String>,
        /// Why, in words.
        message: String,
        /// When.
        at: Millis,
    },
    /// Takes up a dead letter, and the others of its transaction with it: their edits are written and queued again.
    Revive {
        /// The letter.
        letter: i64,
        /// The time of the edits.
        at: Millis,
    },
    /// Drops a dead letter, and the others of its transaction with it.
    Discard {
        /// The letter.
        letter: i64,
    },
    /// Drops an entry of the conflict journal.
    Forget {
        /// The entry.
        conflict: i64,
    },
    /// Drops what the conflict journal holds from before a time.
    Prune {
        /// The time, see [`Resolved::decided_at`].
        before: Millis,
    },
    /// A page was applied.
    Advance {
        /// The table.
        table: TableName,
        /// Where the next page starts.
        cursor: Cursor,
        /// Ids of the page, kept until the end in a resync or restore.
        seen: Vec<RecordId>,
    },
    /// The last page was applied. Ends a first pull, a resync or a restore. At the end of a resync rows that were not seen
    /// are deleted; those with a pending edit are queued again whole, since that edit is later than a deletion so old
    /// that its tombstone is gone. Rows that never were on the server stay. At the end of a restore all rows that were not
    /// seen are queued again.
    Complete {
        /// The table.
        table: TableName,
        /// When.
        at: Millis,
        /// The place [`ahead`](TableState::ahead) that the server still knew when it gave the page: the pull has passed it.
        passed: Option<Cursor>,
    },
    /// The server has fields that the table has no columns for. Should it gain them, it is pulled from the beginning again.
    LeaveOut {
        /// The table.
        table: TableName,
        /// The fields.
        fields: BTreeSet<String>,
    },
    /// Puts the server's values of columns that the table has gained into a record with pending entries, none of which sets them.
    Fill {
        /// The record.
        key: RecordKey,
        /// What goes into the base image, if there is one.
        base: Fields,
        /// What goes into the row, if there is one.
        row: Fields,
    },
    /// The replica moved past its own push: from one cursor to another, if it still stands there. Where it does not, the
    /// place is kept as [`TableState::ahead`].
    Skip {
        /// The table.
        table: TableName,
        /// Where it must stand.
        from: Cursor,
        /// Where it goes.
        to: Cursor,
    },
    /// Pull a table from the beginning again.
    Restart {
        /// The table.
        table: TableName,
        /// [`Phase::Resync`] or [`Phase::Restore`].
        phase: Phase,
        /// What becomes [`TableState::ahead`].
        ahead: Option<Cursor>,
    },
    /// The server knows what the table looks like.
    Declared {
        /// The table.
        table: TableName,
    },
    /// The server turns out not to know the table: a copy without it was put in place.
    Undeclared {
        /// The table.
        table: TableName,
    },
    /// The replica belongs to this server.
    Bind {
        /// The server's identity.
        server: String,
    },
    /// The replica takes a new identity: its file is a copy of another one. Sent entries may be sent again.
    Rename,
    /// A time that another device stamped.
    Observe {
        /// The time.
        at: Millis,
    },
}

/// What becomes of the local row when its edit is refused for good.
#[derive(Clone, Debug, PartialEq)]
pub enum Revert {
    /// The row takes the server's version.
    To(Option<Fields>),
    /// The row takes its version from before the first pending entry: the server did not say what it has.
    ToBase,
    /// The row stays as the user left it.
    Keep,
}

/// A decided conflict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    /// The record.
    pub key: RecordKey,
    /// What both sides started from.
    pub base: Option<Fields>,
    /// This device's version.
    pub mine: Option<Fields>,
    /// The server's version.
    pub theirs: Option<Fields>,
    /// What it ended with.
    pub outcome: Option<Fields>,
    /// Who decided.
    pub strategy: StrategyName,
    /// The edit time of the outcome.
    pub at: Millis,
    /// When it was decided.
    pub decided_at: Millis,
}

/// An entry of the conflict journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Journaled {
    /// Its number.
    pub id: i64,
    /// What happened; none where it cannot be read any more. Such an entry can only be dropped.
    pub resolved: Option<Resolved>,
}

/// An edit that the server refused for good, with the later edits of its record.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The record.
    pub key: RecordKey,
    /// The edits, oldest first. None where nothing of them can be read any more: such a letter can only be discarded.
    pub edits: Vec<(Edit, Millis)>,
    /// Why, as a word: a code of the server's, or `damaged`.
    pub code: String,
    /// Why, in words.
    pub message: String,
    /// When.
    pub at: Millis,
    /// The transaction that the edits were a part of: its letters are retried and discarded together.
    pub transaction: Option<Counter>,
}

impl DeadLetter {
    /// The code of a letter with fields that the server's table has no column for. The row has kept them.
    pub const SET_ASIDE: &'static str = "set_aside";

    /// Whether it holds fields that were set aside.
    pub fn is_set_aside(&self) -> bool {
        self.code == Self::SET_ASIDE
    }

    /// What a retry writes, to the row as it is now. Of fields that were set aside it is what the row has in them: they may have been written
    /// again. Nothing, where the record was deleted since.
    pub fn into_edits(self, row: Option<&Fields>) -> Vec<Edit> {
        if !self.is_set_aside() {
            return self.edits.into_iter().map(|(edit, _)| edit).collect();
        }
        let Some(row) = row else { return Vec::new() };
        let now = |(name, value): (String, Value)| {
            let value = row.get(&name).cloned().unwrap_or(value);
            (name, value)
        };
        vec![Edit::Patch(Self::fields_of([self]).into_iter().map(now).collect())]
    }

    /// Has edits that are given up say what was set aside of their record before: as its first edit set it.
    pub fn take_in(aside: Vec<Self>, edits: &mut [(Edit, Millis)]) {
        if let Some(first) = edits.first_mut().and_then(|(edit, _)| edit.fields_mut()) {
            for (name, value) in Self::fields_of(aside) {
                first.entry(name).or_insert(value);
            }
        }
    }

    fn fields_of(letters: impl IntoIterator<Item = Self>) -> Fields {
        let edits = letters.into_iter().flat_map(|letter| letter.edits);
        edits.flat_map(|(edit, _)| edit.into_fields()).collect()
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done.
    Committed(Receipt),
    /// Nothing was done: what the plan was made from has changed. Plan again.
    Stale,
}

/// What a batch did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Receipt {
    /// For each `Write` and `Enqueue`: the entry's number, or none where nothing was to do.
    pub written: Vec<Option<Counter>>,
    /// Records that the local table refuses to take, and why. They are kept aside and tried again.
    pub quarantined: Vec<(RecordKey, String)>,
    /// The dead letters made.
    pub buried: Vec<i64>,
}

/// What became of a logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logout {
    /// Done: this many unsynced changes were discarded.
    Done {
        /// Pending changes and dead letters.
        discarded: u64,
    },
    /// Nothing was done: this many changes are not synced.
    Unsynced {
        /// Pending changes and dead letters.
        changes: u64,
    },
}

/// Why a replica could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// The input is at fault.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A patch, or an undo, of a record that is not there.
    #[error("{0} does not exist on this device")]
    NotFound(RecordKey),
    /// The table is not synced.
    #[error("table {0} is not synced (add it first)")]
    UnknownTable(TableName),
    /// The application's table refuses the row.
    #[error("the table refuses {key}: {message}")]
    Constraint {
        /// The record.
        key: RecordKey,
        /// The database's reason.
        message: String,
    },
    /// The row names another owner than the device's user: it is not to be edited here.
    #[error("{key} belongs to another user")]
    Foreign {
        /// The record.
        key: RecordKey,
        /// The owner that it names.
        row_owner: String,
    },
    /// Another program holds the database for longer than the busy timeout.
    #[error("the database is in use by another program (try again)")]
    Busy,
    /// The disk is full. Nothing was changed.
    #[error("the disk is full (free some space; nothing was changed)")]
    Full,
    /// The file cannot be written.
    #[error("the database cannot be written: {0} (look at the rights of the file and of its directory)")]
    ReadOnly(String),
    /// The file is damaged, or is no database.
    #[error("the database is damaged: {0} (put back a copy of it, or begin anew from the server)")]
    Corrupt(String),
    /// The file was made by a newer version.
    #[error(
        "the database was made by a newer version of dynos-sync (schema {found}, this one knows {known})"
    )]
    TooNew {
        /// The file's schema version.
        found: i64,
        /// The newest that this version knows.
        known: i64,
    },
    /// The database was used by a newer version of the application.
    #[error(
        "the database was used by a newer version of this application (schema {found}, this one is {known}): update the application"
    )]
    NewerSchema {
        /// The schema's version in the database.
        found: u32,
        /// The version of this application.
        known: u32,
    },
    /// The replica was closed.
    #[error("the database was closed")]
    Closed,
    /// Anything else that the storage reports.
    #[error("storage: {message}")]
    Storage {
        /// What happened.
        message: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl ReplicaError {
    /// Whether the same call may work later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_busy_database_is_tried_again_by_itself() {
        assert!(ReplicaError::Busy.is_transient());
        assert!(!ReplicaError::Closed.is_transient() && !ReplicaError::Full.is_transient());
    }

    #[test]
    fn a_walk_that_begins_again_forgets_nothing_of_what_the_last_one_was_for() {
        let restore = |common, own| Phase::Restore { common, own };
        let lost = |common, own| Expired::RolledBack { common, own };
        for phase in [Phase::First, Phase::Following, Phase::Resync] {
            assert_eq!(phase.after(&Expired::Purged), Phase::Resync);
            assert_eq!(phase.after(&lost(3, Some(5))), restore(3, Some(5)));
        }
        assert_eq!(
            restore(3, Some(5)).after(&Expired::Purged),
            restore(3, Some(5)),
            "what was lost is offered still"
        );
        for (before, again, then) in [
            (restore(3, None), lost(7, None), restore(3, None)),
            (restore(7, None), lost(3, None), restore(3, None)),
            (restore(3, Some(6)), lost(7, None), restore(3, Some(6))),
            (restore(3, None), lost(2, Some(9)), restore(2, Some(3))),
            (restore(3, Some(6)), lost(4, Some(5)), restore(3, Some(5))),
        ] {
            assert_eq!(before.after(&again), then, "{before:?} {again:?}");
        }
    }

    #[test]
    fn a_walk_from_the_beginning_asks_for_the_devices_own_changes_too() {
        let restore = Phase::Restore { common: 1, own: None };
        for (phase, all) in
            [(Phase::First, true), (Phase::Following, false), (Phase::Resync, true), (restore, true)]
        {
            assert_eq!(phase.wants_all(), all, "{phase:?}");
        }
    }
}
