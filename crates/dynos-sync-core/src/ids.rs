//! Names and numbers: what identifies a table, a record, a replica, an entry, a change.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::{Invalid, Limits};

/// A table's name: 1 to [`Limits::TABLE_NAME_BYTES`] bytes, no NUL, not starting with `dynos_` or `sqlite_`
/// (in any case), which are the engine's and SQLite's own.
///
/// ```
/// use dynos_sync_core::TableName;
/// assert!("tasks".parse::<TableName>().is_ok());
/// assert!("dynos_queue".parse::<TableName>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName(String);

impl TableName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TableName {
    type Err = Invalid;

    fn from_str(name: &str) -> Result<Self, Invalid> {
        name.to_owned().try_into()
    }
}

impl TryFrom<String> for TableName {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        let reserved =
            |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if name.is_empty() {
            return Err(Invalid::new("table", "the name is empty").remedy("name the table"));
        }
        if name.len() > Limits::TABLE_NAME_BYTES {
            return Err(Invalid::too_long("table", name.len(), Limits::TABLE_NAME_BYTES));
        }
        if name.contains('\0') {
            return Err(Invalid::new("table", "the name contains a NUL").remedy("remove the NUL character"));
        }
        if reserved("dynos_") || reserved("sqlite_") {
            return Err(Invalid::new("table", "names that start with dynos_ or sqlite_ are reserved")
                .remedy("choose another name"));
        }
        Ok(Self(name))
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> String {
        name.0
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A record's id within its table: 1 to [`Limits::RECORD_ID_BYTES`] bytes of any Unicode.
///
/// For a table with a single text key it is the key; other keys are written as JSON (`17`, `[1,5]`), see the
/// SQLite adapter's documentation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RecordId(String);

impl RecordId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RecordId {
    type Err = Invalid;

    fn from_str(id: &str) -> Result<Self, Invalid> {
        id.to_owned().try_into()
    }
}

impl TryFrom<String> for RecordId {
    type Error = Invalid;

    fn try_from(id: String) -> Result<Self, Invalid> {
        if id.is_empty() {
            return Err(Invalid::new("id", "the record's id is empty").remedy("give the record an id"));
        }
        if id.len() > Limits::RECORD_ID_BYTES {
            return Err(Invalid::too_long("id", id.len(), Limits::RECORD_ID_BYTES));
        }
        Ok(Self(id))
    }
}

impl From<RecordId> for String {
    fn from(id: RecordId) -> String {
        id.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What names a record: its table and its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    /// The record's table.
    pub table: TableName,
    /// The record's id in that table.
    pub id: RecordId,
}

impl RecordKey {
    /// Names a record, checking both parts.
    ///
    /// # Errors
    /// [`Invalid`] where the table's name or the id is not allowed.
    pub fn new(table: &str, id: &str) -> Result<Self, Invalid> {
        Ok(Self { table: table.parse()?, id: id.parse()? })
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.table, self.id)
    }
}

/// One device's local database, as the server knows it. Made at first open, replaced at logout and wherever
/// the file turns out to be a copy of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(uuid::Uuid);

impl ReplicaId {
    /// Makes an id from 16 random bytes, which the caller draws.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ReplicaId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse().map(Self).map_err(|_| Invalid::new("replica", "not a UUID").remedy("send a UUID"))
    }
}

/// The number of a queued entry: strictly increasing per [`ReplicaId`], from 1.
pub type Counter = u64;

/// The number of a committed change inside its scope: strictly increasing in commit order.
pub type Seq = u64;

/// The number of a device's session: raised by logout, so that work begun before it can no longer write.
pub type Generation = u64;

#[cfg(test)]
mod tests;
