//! Why a record has not synced, and how the database is. Nothing here waits for the network, or changes anything.

use dynos_sync_core::{
    RecordKey, ReplicaError, Value,
    doctor::{self, Bundled, Depth, Explanation, Inspection, Names},
};

use crate::{driver::Driver, error::SyncError};

impl Driver {
    /// Explains why a record is as it is.
    ///
    /// # Errors
    /// See [`SyncEngine::explain`](crate::SyncEngine::explain).
    pub async fn explain(&self, table: &str, id: &str) -> Result<Explanation, SyncError> {
        let key = RecordKey::new(table, id)?;
        let state = self.state().await?;
        let account = match self.replica.account(&key).await {
            Ok(account) => Some(account),
            Err(ReplicaError::UnknownTable(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let recent = self.observed.recent(&key);
        Ok(Explanation::new(key, &state, account, recent, self.clock.now()))
    }

    /// Looks through the database.
    ///
    /// # Errors
    /// See [`SyncEngine::inspect`](crate::SyncEngine::inspect).
    pub async fn inspect(&self, depth: Depth) -> Result<Inspection, SyncError> {
        let mut inspection = self.replica.inspect(depth).await?;
        // A database that cannot say how it stands has said why.
        if let Ok(state) = self.state().await {
            inspection.findings.extend(doctor::standing(&state, self.clock.now()));
        }
        Ok(inspection)
    }

    /// Says how everything stands, for somebody who is not to see the user's data.
    ///
    /// # Errors
    /// See [`SyncEngine::support_bundle`](crate::SyncEngine::support_bundle).
    pub async fn support_bundle(&self, depth: Depth, names: Names) -> Result<Value, SyncError> {
        let inspection = self.inspect(depth).await?;
        let state = self.state().await.ok();
        let bundled = Bundled {
            now: self.clock.now(),
            state: state.as_ref(),
            inspection: Some(&inspection),
            failures: self.observed.failures(),
            metrics: self.metrics().iter().collect(),
        };
        Ok(doctor::support_bundle(&bundled, names))
    }
}
