//! Which tables mark deleted rows.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dynos_sync_core::{RemoteError, TableName, Value};

use super::{Plain, query, row::DELETED_AT};
use crate::supabase::error::{Failure, Missing};

/// What was found out about tables, for as long as it holds.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    soft_delete: Mutex<HashMap<TableName, bool>>,
}

impl Shapes {
    /// A column is missing that was there, or was thought to be.
    pub(super) fn forget(&self, table: &TableName) {
        self.known().remove(table);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<TableName, bool>> {
        self.soft_delete.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plain {
    /// Whether rows of a table are deleted by setting `deleted_at`.
    ///
    /// # Errors
    /// `Ok(Err)` where the project refuses to tell, for example because there is no such table.
    pub(super) async fn soft_delete(&self, table: &TableName) -> Result<Result<bool, Failure>, RemoteError> {
        let known = self.shapes.known().get(table).copied();
        if let Some(known) = known {
            return Ok(Ok(known));
        }
        let request = query::select(table.as_str()).query("select", DELETED_AT).query("limit", "0");
        let found = match self.client.exchange::<Vec<Value>>(&request).await? {
            Ok(_) => true,
            Err(Failure::Missing(Missing::Column, _)) => false,
            Err(failure) => return Ok(Err(failure)),
        };
        self.shapes.known().insert(table.clone(), found);
        Ok(Ok(found))
    }
}
