//! The local edits, and the records that they are about.

use dynos_sync_core::{Edit, Fields, RecordId, RecordKey, ReplicaId, TableName, fields};

/// The table.
pub const TABLE: &str = "t";
/// The records: the first exists from the beginning.
pub const RECORDS: [&str; 2] = ["x", "y"];
/// How the devices are called.
pub const DEVICES: [&str; 2] = ["A", "B"];

/// A local edit: who, what, how. The values that it writes are its place in the order of all edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Written {
    /// Which device.
    pub device: u8,
    /// Which record.
    pub record: u8,
    /// What is done.
    pub kind: Kind,
}

/// What an edit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Sets both fields.
    Upsert,
    /// Sets one field, another one on each device.
    Patch,
    /// Deletes the record.
    Delete,
    /// Sets both fields of both records, in one transaction.
    Both,
}

impl Kind {
    /// Those of one record.
    pub const ALONE: [Self; 3] = [Self::Upsert, Self::Patch, Self::Delete];
}

impl Written {
    /// Whether it edits a record.
    pub fn is_about(self, record: usize) -> bool {
        self.kind == Kind::Both || usize::from(self.record) == record
    }

    /// The edit of each of its records, if it is the `number`th.
    pub fn edit(self, number: usize) -> Edit {
        match self.kind {
            Kind::Upsert | Kind::Both => Edit::Upsert(record(number)),
            Kind::Patch => Edit::Patch(fields([(["a", "b"][usize::from(self.device)], number.into())])),
            Kind::Delete => Edit::Delete,
        }
    }
}

/// A record with both fields.
pub fn record(number: usize) -> Fields {
    fields([("a", number.into()), ("b", number.into())])
}

/// The name of the table.
pub fn table() -> TableName {
    TABLE.parse().expect("a table's name")
}

/// The id of a record.
pub fn id(record: usize) -> RecordId {
    RECORDS[record].parse().expect("a record's id")
}

/// The key of a record.
pub fn key(record: usize) -> RecordKey {
    RecordKey { table: table(), id: id(record) }
}

/// Which record an id names.
pub fn place(id: &RecordId) -> usize {
    RECORDS.iter().position(|name| *name == id.as_str()).expect("a record of the model")
}

/// The seed of a device's identity; the third is of whoever made the first record.
pub fn seed(writer: usize) -> [u8; 16] {
    [u8::try_from(writer).unwrap_or(0) + 1; 16]
}

/// Which device a replica is.
pub fn writer(replica: ReplicaId) -> usize {
    (0..3).find(|n| ReplicaId::from_random(seed(*n)) == replica).expect("a device of the model")
}
