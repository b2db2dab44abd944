//! What people decide afterwards: dead letters and conflicts. The state is looked at first: what is decided about is of that session,
//! and nothing of it is done in a later one.

use dynos_sync_core::{
    Edit,
    replica::{DeadLetter, Journaled, Op},
};

use super::write::no_such;
use crate::{driver::Driver, error::SyncError};

impl Driver {
    /// Takes up a dead letter: its edits are written and queued again.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] where there is no such letter, or where nothing of it can be read any more; [`SyncError::SessionEnded`]
    /// where a logout came in between.
    pub async fn retry_dead_letter(&self, letter: i64) -> Result<(), SyncError> {
        let session = self.editing()?;
        self.dead_letter(letter).await?;
        self.commit_in(session, vec![Op::Revive { letter, at: self.stamp() }]).await.map(drop)
    }

    /// Drops a dead letter.
    ///
    /// # Errors
    /// As [`retry_dead_letter`](Self::retry_dead_letter).
    pub async fn discard_dead_letter(&self, letter: i64) -> Result<(), SyncError> {
        let session = self.editing()?;
        self.dead_letter(letter).await?;
        self.commit_in(session, vec![Op::Discard { letter }]).await.map(drop)
    }

    async fn dead_letter(&self, letter: i64) -> Result<DeadLetter, SyncError> {
        let found = self.replica.dead_letters(letter.saturating_sub(1), 1).await?;
        found.into_iter().find(|found| found.id == letter).ok_or_else(|| {
            no_such("letter", format!("there is no dead letter {letter}"), "list the dead letters")
        })
    }

    /// One entry of the conflict journal.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] where there is no such entry.
    pub async fn conflict(&self, id: i64) -> Result<Journaled, SyncError> {
        let found = self.replica.conflicts(id.saturating_add(1), 1).await?;
        found
            .into_iter()
            .find(|found| found.id == id)
            .ok_or_else(|| no_such("conflict", format!("there is no conflict {id}"), "list the conflicts"))
    }

    /// Brings back the version that lost a conflict, as a new edit, and takes the conflict out of the journal.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] where there is no such entry, or where it cannot be read any more; [`SyncError::SessionEnded`] where a
    /// logout came in between.
    pub async fn undo_conflict(&self, id: i64) -> Result<(), SyncError> {
        let session = self.editing()?;
        let Some(resolved) = self.conflict(id).await?.resolved else {
            let problem = format!("conflict {id} cannot be read any more");
            return Err(no_such("conflict", problem, "discard it"));
        };
        let lost = if resolved.outcome == resolved.mine { resolved.theirs } else { resolved.mine };
        let edit = lost.map_or(Edit::Delete, Edit::Replace);
        let write = Op::Write { key: resolved.key, edit, at: self.stamp() };
        self.commit_in(session, vec![write, Op::Forget { conflict: id }]).await.map(drop)
    }

    /// Drops an entry of the conflict journal.
    ///
    /// # Errors
    /// [`SyncError::Invalid`] where there is no such entry.
    pub async fn discard_conflict(&self, id: i64) -> Result<(), SyncError> {
        let session = self.editing()?;
        self.conflict(id).await?;
        self.commit_in(session, vec![Op::Forget { conflict: id }]).await.map(drop)
    }
}
