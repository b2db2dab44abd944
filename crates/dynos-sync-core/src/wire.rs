//! What travels between a replica and a backend. The HTTP protocol sends these types as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    clock::Millis,
    cursor::Cursor,
    entry::{Edit, Operation},
    ids::{Counter, RecordId, ReplicaId, Seq, TableName},
    record::{Change, Fields},
    table::TableSpec,
};

/// Asks where the tables' histories end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadsRequest {
    /// Who asks.
    pub replica: ReplicaId,
    /// The tables, at most [`HeadsRequest::MAX_TABLES`].
    pub tables: Vec<TableName>,
}

impl HeadsRequest {
    /// The most tables that one request may name.
    pub const MAX_TABLES: usize = 1000;
}

/// Where the tables' histories end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heads {
    /// The server's identity, the same for all of its life. A replica belongs to one server.
    pub server: String,
    /// The highest counter of the asking replica that the server has seen: a device whose own counter is lower
    /// was itself restored from an older copy.
    pub last_counter: Counter,
    /// One cursor for every table asked for.
    pub heads: BTreeMap<TableName, Cursor>,
}

/// An entry on its way to the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PushEntry {
    /// The entry's number.
    pub counter: Counter,
    /// The record's table.
    pub table: TableName,
    /// The record's id.
    pub id: RecordId,
    /// What to do.
    pub op: Operation,
    /// The table's cursor when the entry was first sent; absent where nothing had been pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Cursor>,
    /// The edit's time.
    pub at: Millis,
    /// The fields that it sets; absent for a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Fields>,
    /// Entries of a request with the same number follow one another, name each record once, and take effect together or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Counter>,
}

impl PushEntry {
    /// Whether a NUL occurs in it. Postgres cannot keep one, not even in JSON.
    pub fn has_nul(&self) -> bool {
        fn occurs(value: &Value) -> bool {
            match value {
                Value::String(text) => text.contains('\0'),
                Value::Array(items) => items.iter().any(occurs),
                Value::Object(fields) => within(fields),
                _ => false,
            }
        }
        fn within(fields: &Fields) -> bool {
            fields.iter().any(|(name, value)| name.contains('\0') || occurs(value))
        }
        let base = self.base.as_ref().is_some_and(|base| base.as_str().contains('\0'));
        base || self.id.as_str().contains('\0') || self.data.as_ref().is_some_and(within)
    }

    /// The edit that the entry carries.
    pub fn edit(&self) -> Edit {
        Edit::new(self.op, self.data.clone().unwrap_or_default())
    }
}

/// Offers entries to the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PushRequest {
    /// Whose entries.
    pub replica: ReplicaId,
    /// The entries, those of one record in the order in which they were made.
    pub entries: Vec<PushEntry>,
    /// How far the replica has seen the histories of the entries' tables, its own pushes included, when it sends this. An
    /// entry may have an older base: where the server no longer has what was seen since, it answers `Conflict`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<TableName, Cursor>,
}

impl PushRequest {
    /// A request of a replica that has seen no more than its entries' bases say.
    pub fn new(replica: ReplicaId, entries: Vec<PushEntry>) -> Self {
        Self { replica, entries, seen: BTreeMap::new() }
    }

    /// The entries in the units in which they take effect: one by one, and those of a transaction together.
    ///
    /// # Errors
    /// A sentence, where a transaction is not in one piece, or names a record twice.
    pub fn units(&self) -> Result<Vec<&[PushEntry]>, String> {
        let is_one = |a: &PushEntry, b: &PushEntry| a.transaction.is_some() && a.transaction == b.transaction;
        let units: Vec<&[PushEntry]> = self.entries.chunk_by(is_one).collect();
        let mut transactions = BTreeSet::new();
        for unit in &units {
            let Some(transaction) = unit.first().and_then(|entry| entry.transaction) else { continue };
            if !transactions.insert(transaction) {
                return Err(format!("transaction {transaction} is not in one piece"));
            }
            let records: BTreeSet<_> = unit.iter().map(|entry| (&entry.table, &entry.id)).collect();
            if records.len() < unit.len() {
                return Err(format!("transaction {transaction} names a record twice"));
            }
        }
        Ok(units)
    }

    /// What Postgres can read of it, and which of the entries that is. The others are not remembered by the server:
    /// they will never be applied, and get [`PushResult::holds_nul`] for an answer.
    pub fn without_nul(self) -> (Self, Vec<bool>) {
        let with_nul = self.entries.iter().filter(|entry| entry.has_nul());
        let torn: BTreeSet<Counter> = with_nul.filter_map(|entry| entry.transaction).collect();
        let is_kept = |entry: &PushEntry| {
            !entry.has_nul() && entry.transaction.is_none_or(|transaction| !torn.contains(&transaction))
        };
        let kept = self.entries.iter().map(is_kept).collect();
        let entries = self.entries.into_iter().filter(is_kept).collect();
        (Self { entries, ..self }, kept)
    }
}

/// The server's answer to a push.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PushAnswer {
    /// One result an entry, in the order of the request.
    pub results: Vec<PushResult>,
    /// How the heads of the tables touched moved in this push's transaction.
    pub heads: BTreeMap<TableName, HeadMove>,
}

impl PushAnswer {
    /// The answer to a request from which some entries were left out, each of which gets a refusal in its place.
    /// `sent` says of every entry whether it was in the request.
    #[must_use]
    pub fn filled(self, sent: &[bool], refused: impl Fn() -> PushResult) -> Self {
        let mut results = self.results.into_iter();
        let mut result = |sent: &bool| if *sent { results.next() } else { None }.unwrap_or_else(&refused);
        Self { results: sent.iter().map(&mut result).collect(), heads: self.heads }
    }
}

/// How a table's head moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadMove {
    /// The head before the push.
    pub before: Cursor,
    /// The head after it.
    pub after: Cursor,
}

/// What became of one entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum PushResult {
    /// Committed now.
    Applied {
        /// The change's number.
        seq: Seq,
        /// The record as the server keeps it, where that differs from what was sent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        record: Option<Fields>,
    },
    /// Was committed earlier, or a newer entry of this replica for the record was. No effect now.
    Duplicate {
        /// The earlier change's number.
        seq: Seq,
        /// As in `Applied`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        record: Option<Fields>,
    },
    /// Somebody else changed the record first. No effect: pull, reconcile, push again.
    Conflict {
        /// The number of the change that was in the way.
        seq: Seq,
    },
    /// The entry cannot be applied as it is.
    Rejected {
        /// Why.
        code: RejectCode,
        /// Why, in words.
        message: String,
        /// The record as the server has it, where the caller may see it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Current>,
        /// With `unknown_column`: the fields that the server's own table has no column for, which no declaration adds.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unknown_fields: Vec<String>,
    },
}

impl PushResult {
    /// A refusal that says nothing of the record.
    pub fn rejected(code: RejectCode, message: impl Into<String>) -> Self {
        Self::Rejected { code, message: message.into(), current: None, unknown_fields: Vec::new() }
    }

    /// The refusal with what it says of the record.
    #[must_use]
    pub fn showing(mut self, shown: Current) -> Self {
        if let Self::Rejected { current, .. } = &mut self {
            *current = Some(shown);
        }
        self
    }

    /// The refusal, for fields that the server's own table has no column for.
    #[must_use]
    pub fn naming(mut self, unknown: Vec<String>) -> Self {
        if let Self::Rejected { unknown_fields, .. } = &mut self {
            *unknown_fields = unknown;
        }
        self
    }

    /// Whether the entry has taken effect.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Applied { .. } | Self::Duplicate { .. })
    }

    /// What becomes of an entry with a NUL where the server's database is Postgres.
    pub fn holds_nul() -> Self {
        Self::rejected(
            RejectCode::Invalid,
            "it, or another edit of its transaction, holds a NUL, which the server's database cannot keep",
        )
    }
}

/// A record as the server has it now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Current {
    /// Its fields; absent where it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Fields>,
}

/// Why an entry was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RejectCode {
    /// A constraint of the server's table.
    Constraint,
    /// The caller may not write this record.
    Forbidden,
    /// A patch of a record that never existed.
    NotFound,
    /// The server has no such table.
    UnknownTable,
    /// The server's table has no such column.
    UnknownColumn,
    /// Malformed: a value of the wrong type, a name that is not allowed.
    Invalid,
    /// The record is larger than the server takes.
    TooLarge,
    /// Another entry of its transaction was refused, or the transaction is none.
    Transaction,
    /// A reason that this version does not know.
    #[serde(other)]
    Other,
}

impl RejectCode {
    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Constraint => "constraint",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::UnknownTable => "unknown_table",
            Self::UnknownColumn => "unknown_column",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Transaction => "transaction",
            Self::Other => "other",
        }
    }
}

/// Asks for a page of a table's changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PullRequest {
    /// Who asks.
    pub replica: ReplicaId,
    /// The table.
    pub table: TableName,
    /// From where on; absent for the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// A later place that the replica has seen. Where this is no longer part of the history, the answer is that the cursor has
    /// expired, whatever the cursor: a page from a history that has lost something must not go over what was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Cursor>,
    /// The most changes wanted. A server may send fewer.
    pub limit: usize,
    /// Counters of entries of this table that were sent and never answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsettled: Vec<Counter>,
    /// Whether changes that the asking replica made itself are wanted too: in a first pull and in a resync.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// A page of a table's changes, ordered by seq.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The newest change of every record that changed after the cursor.
    pub changes: Vec<Change>,
    /// Which of the unsettled entries the server has applied, read in the same snapshot as the changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<Counter>,
    /// Where the next page starts.
    pub next: Cursor,
    /// Whether there is one.
    pub has_more: bool,
    /// How many changes a walk from the beginning lists in all: with its first page, where the server counts them and there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// Why a cursor can no longer be continued from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Expired {
    /// Tombstones newer than it were purged.
    Purged,
    /// The server lost changes that the replica has seen: it was restored from a backup.
    RolledBack {
        /// Up to here the histories are the same, and the replica has seen everything; 0 where that is nothing.
        common: Seq,
        /// As far as the replica's own changes are concerned, where that is more: it has pushed further than it has pulled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        own: Option<Seq>,
    },
}

/// Declares tables, or lists them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tables {
    /// The tables.
    pub tables: Vec<TableSpec>,
}

/// A live hint: these tables have changed. It carries no data; the change comes with the pull that follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// The tables; empty where the server cannot tell.
    pub tables: Vec<TableName>,
}

/// The body of every HTTP answer that is not a success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// A word to act on: `invalid`, `unauthorized`, `forbidden`, `not_found`, `too_large`, `cursor_expired`,
    /// `replica_forked`, `rate_limited`, `unavailable`, `internal`.
    pub code: String,
    /// A sentence to read.
    pub message: String,
    /// With `cursor_expired`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<Expired>,
}

#[cfg(test)]
mod tests;
