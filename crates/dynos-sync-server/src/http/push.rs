//! Entries that cannot even be read are refused one by one, like any others: they must not block the rest.

use std::collections::{BTreeMap, BTreeSet};

use dynos_sync_core::{
    Counter, Cursor, ReplicaId, TableName,
    wire::{PushAnswer, PushEntry, PushRequest, PushResult, RejectCode},
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A push whose entries have not been looked at.
#[derive(Debug, Deserialize)]
pub(super) struct LoosePush {
    replica: ReplicaId,
    entries: Vec<Box<RawValue>>,
    #[serde(default)]
    seen: BTreeMap<TableName, Cursor>,
}

impl LoosePush {
    /// The entries that make sense, and which of all they are. None of a transaction does of which one does not.
    pub(super) fn sort(self) -> (PushRequest, Vec<bool>) {
        let read = self.entries.iter().map(|entry| serde_json::from_str::<PushEntry>(entry.get()).ok());
        let mut read: Vec<Option<PushEntry>> = read.collect();
        let unread = self.entries.iter().zip(&read).filter(|(_, read)| read.is_none());
        let torn: BTreeSet<Counter> = unread.filter_map(|(entry, _)| transaction(entry)).collect();
        for entry in &mut read {
            entry.take_if(|entry| entry.transaction.is_some_and(|transaction| torn.contains(&transaction)));
        }
        let sound = read.iter().map(Option::is_some).collect();
        (
            PushRequest {
                replica: self.replica,
                entries: read.into_iter().flatten().collect(),
                seen: self.seen,
            },
            sound,
        )
    }
}

/// The transaction of an entry of which not all can be read.
fn transaction(entry: &RawValue) -> Option<Counter> {
    #[derive(Deserialize)]
    struct Part {
        transaction: Option<Counter>,
    }
    serde_json::from_str::<Part>(entry.get()).ok()?.transaction
}

/// Puts a refusal in the place of each entry that was left out. It is not remembered: no entry that cannot be
/// read will ever be applied, under its number or any other.
pub(super) fn fill(answer: PushAnswer, sound: &[bool]) -> PushAnswer {
    answer.filled(sound, || {
        PushResult::rejected(
            RejectCode::Invalid,
            "the entry, or another of its transaction, is malformed: a field is missing, unknown or not allowed",
        )
    })
}
