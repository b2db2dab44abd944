//! First pulls in one piece: an SQLite file that the server has prepared, in place of pages.
//!
//! It is an optional ability of both seams ([`Remote::snapshots`](crate::Remote::snapshots),
//! [`Replica::snapshots`](crate::Replica::snapshots)). What a snapshot leads to is what the pages of a walk from the beginning
//! lead to: the rows as they were at a cursor, with which the table is then followed. Where one is not to be had, or turns out
//! not to be good, the pages are pulled.
//!
//! The file holds the tables that were asked for, made from their declarations, and nothing else. It travels as one zstd frame.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Millis,
    cursor::Cursor,
    error::Limits,
    ids::{Generation, ReplicaId, TableName},
    remote::RemoteError,
    replica::ReplicaError,
    table::TableSpec,
};

/// Asks for a snapshot of tables, as they are declared on the device that asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotRequest {
    /// Who asks.
    pub replica: ReplicaId,
    /// The tables, at most [`HeadsRequest::MAX_TABLES`](crate::wire::HeadsRequest::MAX_TABLES).
    pub tables: Vec<TableSpec>,
}

/// A snapshot that can be fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name on the server.
    pub id: String,
    /// The SHA-256 of its bytes as they travel, in hexadecimal.
    pub digest: String,
    /// How many bytes travel.
    pub bytes: u64,
    /// How many bytes the file has.
    pub size: u64,
    /// The newest edit time in it.
    pub at: Millis,
    /// What it holds. A table that was asked for and is not named here has to be pulled by pages.
    pub tables: BTreeMap<TableName, Held>,
}

/// A table in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Where its history is pulled from afterwards.
    pub cursor: Cursor,
    /// How many rows it has.
    pub rows: u64,
}

impl Snapshot {
    /// The characters of a digest.
    pub const DIGEST_CHARS: usize = 64;

    /// Checks an offer against what was asked for. `most` is the largest file that is taken, in bytes.
    ///
    /// # Errors
    /// A sentence, where the offer does not follow the protocol, or is larger than that.
    pub fn check(&self, request: &SnapshotRequest, most: u64) -> Result<(), String> {
        let hexadecimal = self.digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if self.digest.len() != Self::DIGEST_CHARS || !hexadecimal {
            return Err("its digest is none".to_owned());
        }
        if self.id.is_empty() || !self.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err("its name is none".to_owned());
        }
        if self.size.max(self.bytes) > most {
            return Err(format!("it has {} bytes, the limit is {most}", self.size.max(self.bytes)));
        }
        if !(0..=Limits::LATEST).contains(&self.at) {
            return Err(format!("an edit time of {} ms", self.at));
        }
        let asked = |name: &TableName| request.tables.iter().any(|spec| spec.name == *name);
        if let Some(name) = self.tables.keys().find(|name| !asked(name)) {
            return Err(format!("nobody asked for table {name}"));
        }
        match self.tables.values().any(|held| held.cursor.as_str().len() > Cursor::MAX_BYTES) {
            true => Err(format!("a cursor is longer than {} bytes", Cursor::MAX_BYTES)),
            false => Ok(()),
        }
    }
}

/// A backend that prepares snapshots.
#[async_trait]
pub trait SnapshotSource: Send + Sync {
    /// A snapshot of these tables; none where they are better pulled by pages, because they are small, for instance. The same
    /// snapshot may be offered again for a while, so that fetching it can go on where it broke off.
    async fn offer(&self, request: &SnapshotRequest) -> Result<Option<Snapshot>, RemoteError>;

    /// Its bytes from an offset on, as many as the backend likes to send at once.
    async fn fetch(&self, snapshot: &Snapshot, from: u64) -> Result<Vec<u8>, RemoteError>;
}

/// A replica that takes snapshots.
#[async_trait]
pub trait SnapshotStore: Send + Sync {
    /// Those of the tables that may come as a snapshot, as they are declared here: tables of which nothing was pulled, that are
    /// empty, and that take whatever the server has as it is.
    async fn takes(&self, tables: &[TableName]) -> Result<Vec<TableSpec>, ReplicaError>;

    /// How many of a snapshot's bytes are here already, from an attempt that broke off.
    async fn staged(&self, snapshot: &Snapshot) -> Result<u64, ReplicaError>;

    /// Keeps bytes of a snapshot. `from` is how many were kept before.
    async fn stage(&self, snapshot: &Snapshot, from: u64, bytes: Vec<u8>) -> Result<(), ReplicaError>;

    /// Checks a snapshot that has arrived whole, and puts its tables in place: the rows of each and its cursor in one transaction.
    /// A table that is no longer empty, or that refuses a row, is left as it is. Answers how many rows each of the others has got.
    async fn install(
        &self,
        snapshot: &Snapshot,
        generation: Generation,
    ) -> Result<BTreeMap<TableName, u64>, SnapshotError>;

    /// Drops whatever was staged.
    async fn unstage(&self) -> Result<(), ReplicaError>;
}

/// Why a snapshot was not put in place. Nothing of it was used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is not what the server announced, or not what was asked for.
    #[error("the snapshot is refused: {0}")]
    Refused(String),
    /// The replica could not do it.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> SnapshotRequest {
        let table = TableSpec::document("t".parse().unwrap());
        SnapshotRequest { replica: ReplicaId::from_random([1; 16]), tables: vec![table] }
    }

    fn offer() -> Snapshot {
        let held = Held { cursor: Cursor::new("c"), rows: 1 };
        let tables = BTreeMap::from([("t".parse().unwrap(), held)]);
        Snapshot { id: "a-1".to_owned(), digest: "0a".repeat(32), bytes: 10, size: 100, at: 5, tables }
    }

    #[test]
    fn an_offer_is_what_was_asked_for_and_no_larger_than_is_taken() {
        assert_eq!(offer().check(&request(), 100), Ok(()));
        type Spoil = fn(&mut Snapshot);
        let spoils: [(Spoil, &str); 8] = [
            (|offer| offer.size = 101, "limit"),
            (|offer| offer.bytes = 101, "limit"),
            (|offer| offer.digest.truncate(63), "digest"),
            (|offer| offer.digest = "0A".repeat(32), "digest"),
            (|offer| offer.id = "../etc".to_owned(), "name"),
            (|offer| offer.at = -1, "time"),
            (
                |offer| {
                    offer.tables =
                        [("u".parse().unwrap(), offer.tables.values().next().unwrap().clone())].into();
                },
                "asked",
            ),
            (
                |offer| offer.tables.values_mut().for_each(|held| held.cursor = Cursor::new("c".repeat(513))),
                "cursor",
            ),
        ];
        for (spoil, word) in spoils {
            let mut offer = offer();
            spoil(&mut offer);
            let problem = offer.check(&request(), 100).unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
    }
}
