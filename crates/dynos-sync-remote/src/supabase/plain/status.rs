//! The table `sync_status`, by which a project may say which tables have changed: one row a user, and a column
//! `<table>_at` for each table, kept by triggers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use dynos_sync_core::{Cursor, Fields, RemoteError, ReplicaId, TableName, wire::RejectCode};

use super::{
    Plain,
    place::{Place, Walk},
    query,
    time::{self, Micros},
};
use crate::supabase::error::{Failure, Missing};

const TABLE: &str = "sync_status";

/// What the project said, and where walks have ended.
#[derive(Debug, Default)]
pub(super) struct Status {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// There is no such table, or the user may not read it.
    absent: bool,
    /// The marks of the tables, as they were read last.
    marks: Fields,
    /// The marks when walks began that are under way.
    walks: HashMap<(ReplicaId, TableName), String>,
    /// Where a walk ended, and the mark when it began.
    ends: HashMap<TableName, (String, Cursor)>,
}

impl Known {
    fn mark(&self, table: &TableName) -> Option<&str> {
        self.marks.get(&format!("{table}_at"))?.as_str()
    }
}

impl Status {
    /// A walk through a table begins.
    pub(super) fn begin(&self, replica: ReplicaId, table: &TableName) {
        let mut known = self.known();
        if let Some(mark) = known.mark(table).map(str::to_owned) {
            known.walks.insert((replica, table.clone()), mark);
        }
    }

    /// It has ended. Where nothing of before can still be committed late, the table needs no pull until its mark changes.
    pub(super) fn end(
        &self,
        replica: ReplicaId,
        table: &TableName,
        end: &Place,
        walk: &Walk,
        window: Micros,
    ) {
        let mut known = self.known();
        let Some(mark) = known.walks.remove(&(replica, table.clone())) else { return };
        let is_old = time::parse(&mark).is_some_and(|at| at <= walk.began.saturating_sub(window));
        if is_old && end.is_settled(walk.began, window) {
            known.ends.insert(table.clone(), (mark, end.cursor()));
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plain {
    /// Where tables end, as far as that is known: a table whose mark has not changed since it was pulled ends there.
    pub(super) async fn heads_of(
        &self,
        tables: Vec<TableName>,
    ) -> Result<BTreeMap<TableName, Cursor>, RemoteError> {
        if !tables.is_empty() {
            self.read_status().await?;
        }
        let known = self.status.known();
        let head = |table: &TableName| {
            let (mark, end) = known.ends.get(table)?;
            (known.mark(table) == Some(mark)).then(|| end.clone())
        };
        // No replica ever stands at the other cursor: it pulls.
        Ok(tables
            .into_iter()
            .map(|table| (head(&table), table))
            .map(|(head, table)| (table, head.unwrap_or_else(|| Cursor::new("?"))))
            .collect())
    }

    async fn read_status(&self) -> Result<(), RemoteError> {
        if self.status.known().absent {
            return Ok(());
        }
        let rows = self.client.exchange::<Vec<Fields>>(&query::select(TABLE).query("limit", "2")).await?;
        let mut known = self.status.known();
        match rows {
            Ok(mut rows) => {
                // Of several rows it is not known which is the user's.
                known.marks = if rows.len() == 1 { rows.remove(0) } else { Fields::new() };
            }
            Err(Failure::Missing(Missing::Table, _) | Failure::Entry { code: RejectCode::Forbidden, .. }) => {
                known.absent = true;
            }
            Err(failure) => return Err(failure.into()),
        }
        Ok(())
    }
}
