//! The store in a Postgres database: the functions of `dynos-sync-sql`, called for the users whose tokens the server
//! has checked. It keeps no state of its own; any number of servers may use one database.

mod error;
mod install;
mod listen;
mod options;
mod pool;

use async_trait::async_trait;
use dynos_sync_core::{
    Cursor, Millis, TableName, TableSpec,
    wire::{Heads, HeadsRequest, PullRequest, PushAnswer, PushRequest, PushResult, Tables},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::broadcast;

use self::{listen::Listener, pool::Pool};
use super::{Caller, Health, Moved, Page, Purged, Store, StoreError, before};
use crate::config::{Config, Limits, Retention};

pub use self::{error::ConnectError, options::PostgresOptions};

/// A [`Store`] in a Postgres database.
///
/// Tables that the database has and that its operator tracks (`select dynos_track('tasks', 'user_id')`) are synced as
/// they are; any other one that a device declares is kept as documents.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
    role: Option<String>,
    limits: Limits,
    retention: Retention,
    listener: Listener,
}

impl PostgresStore {
    /// Connects, and installs or updates the functions where that is needed. Must be called in a tokio runtime.
    ///
    /// Of the configuration, its limits, its retention and its shared tables matter here; where the database is, is
    /// said by the options.
    ///
    /// # Errors
    /// [`ConnectError`], where the options make no sense, the database cannot be reached, or the role may not install.
    pub async fn connect(options: &PostgresOptions, config: &Config) -> Result<Self, ConnectError> {
        let pool = Pool::new(options)?;
        install::install(&pool, options.role.as_deref(), &config.shared_tables).await?;
        let listener = Listener::start(pool.direct());
        Ok(Self {
            pool,
            role: options.role.clone(),
            limits: config.limits.clone(),
            retention: config.retention.clone(),
            listener,
        })
    }

    /// Calls a function of the protocol for a user. One statement is one transaction: neither the user nor the role
    /// outlives it.
    async fn call<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        verb: &str,
        request: &(impl Serialize + Sync),
    ) -> Result<T, StoreError> {
        let request = serde_json::to_string(request)
            .map_err(|_| StoreError::Invalid("the request cannot be written as JSON".to_owned()))?;
        let sql = "SELECT dynos.call($1, $2, $3, $4::text::json)::text";
        let answer: String =
            self.pool.one(sql, &[&caller.subject, &self.role, &verb, &request]).await?.try_get(0)?;
        serde_json::from_str(&answer).map_err(|_| StoreError::Corrupt(format!("the answer to a {verb}")))
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn declare(&self, caller: &Caller, specs: Vec<TableSpec>) -> Result<Vec<TableSpec>, StoreError> {
        specs.iter().try_for_each(TableSpec::validate)?;
        Ok(self.call::<Tables>(caller, "declare", &Tables { tables: specs }).await?.tables)
    }

    async fn tables(&self, caller: &Caller) -> Result<Vec<TableSpec>, StoreError> {
        Ok(self.call::<Tables>(caller, "tables", &()).await?.tables)
    }

    async fn heads(&self, caller: &Caller, request: HeadsRequest) -> Result<Heads, StoreError> {
        self.call(caller, "heads", &request).await
    }

    async fn push(&self, caller: &Caller, request: PushRequest) -> Result<PushAnswer, StoreError> {
        let (sent, limit) = (request.entries.len(), self.limits.push_entries);
        if sent > limit {
            return Err(StoreError::TooLarge(format!("{sent} entries, the limit is {limit}")));
        }
        request.seen.values().try_for_each(readable)?;
        let (request, kept) = request.without_nul();
        match self.call::<PushAnswer>(caller, "push", &request).await {
            // Half as much may be done in time.
            Err(StoreError::TimedOut) if sent > 1 => {
                Err(StoreError::TooLarge("the database took too long for so many entries".to_owned()))
            }
            answer => Ok(answer?.filled(&kept, PushResult::holds_nul)),
        }
    }

    async fn pull(&self, caller: &Caller, mut request: PullRequest) -> Result<Page, StoreError> {
        request.cursor.iter().try_for_each(readable)?;
        request.limit = request.limit.clamp(1, self.limits.page_changes.max(1));
        self.call(caller, "pull", &request).await
    }

    async fn purge(&self, now: Millis) -> Result<Purged, StoreError> {
        let cutoffs = (before(now, self.retention.tombstones), before(now, self.retention.outcomes));
        let sql = "SELECT dynos_purge($1, $2)::text";
        let done: String = self.pool.one(sql, &[&cutoffs.0, &cutoffs.1]).await?.try_get(0)?;
        serde_json::from_str(&done).map_err(|_| StoreError::Corrupt("the answer to a purge".to_owned()))
    }

    fn moves(&self) -> broadcast::Receiver<Moved> {
        self.listener.moves()
    }

    async fn health(&self) -> Result<Health, StoreError> {
        let size = self.pool.one("SELECT pg_database_size(current_database())", &[]).await?;
        Ok(Health { bytes: u64::try_from(size.try_get::<_, i64>(0)?).unwrap_or(0) })
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.listener.stop();
        self.pool.close();
        Ok(())
    }
}

/// Postgres has no text with a NUL.
fn readable(cursor: &Cursor) -> Result<(), StoreError> {
    match cursor.as_str().contains('\0') {
        true => Err(StoreError::Invalid("the cursor is not one of this server's".to_owned())),
        false => Ok(()),
    }
}

/// The table names of a configuration, as the functions take them.
fn names(tables: &std::collections::BTreeSet<TableName>) -> Vec<&str> {
    tables.iter().map(TableName::as_str).collect()
}
