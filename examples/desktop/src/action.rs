//! What can be done. All of it is local and takes microseconds, so that the thread that draws does it.

use dynos_sync::{Record, SyncError, Transaction, blocking::SyncEngine, fields, new_id};

use crate::task::Task;

pub(crate) enum Action {
    Add {
        title: String,
    },
    Tick {
        id: String,
        done: bool,
    },
    Rename {
        id: String,
        title: String,
    },
    Delete {
        id: String,
    },
    /// Ticks these, all or none of them.
    TickAll(Vec<Task>),
    /// Deletes these, all or none of them.
    Clear(Vec<Task>),
    /// Takes the version that has lost a conflict.
    Undo {
        conflict: i64,
    },
    /// Leaves a conflict as it was decided.
    Accept {
        conflict: i64,
    },
    /// Offers a refused edit to the server again.
    Retry {
        letter: i64,
    },
    /// Gives a refused edit up.
    Discard {
        letter: i64,
    },
}

impl Action {
    pub(crate) fn perform(self, engine: &SyncEngine) -> Result<(), SyncError> {
        let table = engine.table::<Task>();
        match self {
            Self::Add { title } => table.put(&Task { id: new_id(), title, done: false }),
            Self::Tick { id, done } => table.update(id, |task| task.done = done).map(drop),
            Self::Rename { id, title } => table.update(id, |task| task.title.clone_from(&title)).map(drop),
            Self::Delete { id } => table.remove(id).map(drop),
            Self::TickAll(tasks) => engine.transaction(|edits| tasks.iter().fold(edits, tick)),
            Self::Clear(tasks) => engine.transaction(|edits| tasks.iter().fold(edits, remove)),
            Self::Undo { conflict } => engine.undo_conflict(conflict),
            Self::Accept { conflict } => engine.discard_conflict(conflict),
            Self::Retry { letter } => engine.retry_dead_letter(letter),
            Self::Discard { letter } => engine.discard_dead_letter(letter),
        }
    }
}

fn tick(edits: Transaction, task: &Task) -> Transaction {
    edits.patch(Task::TABLE, &task.id, fields([("done", true.into())]))
}

fn remove(edits: Transaction, task: &Task) -> Transaction {
    edits.remove(Task::TABLE, &task.id)
}
