//! Entries that cannot even be read are refused one by one, like any others: they must not block the rest.

use std::collections::BTreeMap;

use dynos_sync_core::{
    Cursor, ReplicaId, TableName, Value,
    wire::{PushAnswer, PushEntry, PushRequest, PushResult, RejectCode},
};
use serde::Deserialize;

/// A push whose entries have not been looked at.
#[derive(Debug, Deserialize)]
pub(super) struct LoosePush {
    replica: ReplicaId,
    entries: Vec<Value>,
    #[serde(default)]
    seen: BTreeMap<TableName, Cursor>,
}

impl LoosePush {
    /// The entries that make sense, and which of all they are.
    pub(super) fn sort(self) -> (PushRequest, Vec<bool>) {
        let read: Vec<_> = self.entries.into_iter().map(|entry| PushEntry::deserialize(entry).ok()).collect();
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

/// Puts a refusal in the place of each entry that was left out. It is not remembered: no entry that cannot be
/// read will ever be applied, under its number or any other.
pub(super) fn fill(answer: PushAnswer, sound: &[bool]) -> PushAnswer {
    answer.filled(sound, || PushResult::Rejected {
        code: RejectCode::Invalid,
        message: "the entry is malformed: a field is missing, unknown or not allowed".to_owned(),
        current: None,
    })
}
