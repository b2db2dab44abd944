//! Bringing the database's functions up to date.

use std::{collections::BTreeSet, error::Error};

use dynos_sync_core::TableName;
use dynos_sync_sql::{INSTALL, VERSION};
use tokio_postgres::Transaction;

use super::{ConnectError, error::describe, names, pool::Pool};

/// Installs the functions where they are missing or old, and tells them what the configuration says. Several servers
/// may start at once: one installs at a time.
pub(super) async fn install(
    pool: &Pool,
    role: Option<&str>,
    shared: &BTreeSet<TableName>,
) -> Result<(), ConnectError> {
    let unreachable = |error: &dyn Error| ConnectError::Unreachable(describe(error));
    let failed = |error: tokio_postgres::Error| ConnectError::Install(describe(&error));
    // The pool's own message would say no more than that there is no connection.
    let direct = pool.direct();
    drop(direct.config.connect(direct.tls).await.map_err(|error| unreachable(&error))?);

    let mut client = pool.get().await.map_err(|error| unreachable(&error))?;
    let tx = client.transaction().await.map_err(failed)?;
    prepare(&tx, role, shared).await.map_err(failed)?;
    tx.commit().await.map_err(failed)
}

async fn prepare(
    tx: &Transaction<'_>,
    role: Option<&str>,
    shared: &BTreeSet<TableName>,
) -> Result<(), tokio_postgres::Error> {
    // Large databases may take longer than a request may. The lock is the script's own.
    tx.batch_execute("SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock(hashtext('dynos-sync'))")
        .await?;
    if version(tx).await? != Some(VERSION) {
        tx.batch_execute(INSTALL).await?;
    }
    tx.execute("UPDATE dynos.meta SET notify = true WHERE notify IS NULL", &[]).await?;
    tx.execute("SELECT dynos_share(VARIADIC $1::text[])", &[&names(shared)]).await?;
    if let Some(role) = role {
        tx.execute("SELECT dynos_grant(quote_ident($1::text)::regrole)", &[&role]).await?;
    }
    Ok(())
}

/// The installed version.
async fn version(tx: &Transaction<'_>) -> Result<Option<i32>, tokio_postgres::Error> {
    let installed = "SELECT to_regclass('dynos.meta') IS NOT NULL";
    if !tx.query_one(installed, &[]).await?.try_get(0)? {
        return Ok(None);
    }
    tx.query_one("SELECT version FROM dynos.meta", &[]).await?.try_get(0).map(Some)
}
