//! Bringing the database's functions up to date.

use std::{collections::BTreeSet, error::Error};

use dynos_sync_core::TableName;
use dynos_sync_sql::{INSTALL, VERSION};

use super::{ConnectError, error::describe, names, pool::Pool};

/// Installs the functions where they are missing or old, and tells them what the configuration says. Several servers
/// may start at once: the script lets one install at a time.
pub(super) async fn install(pool: &Pool, shared: &BTreeSet<TableName>) -> Result<(), ConnectError> {
    let unreachable = |error: &dyn Error| ConnectError::Unreachable(describe(error));
    let failed = |error: tokio_postgres::Error| ConnectError::Install(describe(&error));
    // The pool's own message would say no more than that there is no connection.
    let direct = pool.direct();
    drop(direct.config.connect(direct.tls).await.map_err(|error| unreachable(&error))?);

    let mut client = pool.get().await.map_err(|error| unreachable(&error))?;
    let sql = "SELECT to_regclass('dynos.meta') IS NOT NULL";
    let exists: bool = client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(failed)?;
    let version: i32 = match exists {
        true => {
            let sql = "SELECT version FROM dynos.meta";
            client.query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(failed)?
        }
        false => 0,
    };
    // Large databases may take longer than a request may.
    let tx = client.transaction().await.map_err(failed)?;
    tx.batch_execute("SET LOCAL statement_timeout = 0").await.map_err(failed)?;
    if version != VERSION {
        tx.batch_execute(INSTALL).await.map_err(failed)?;
    }
    tx.execute("UPDATE dynos.meta SET notify = true WHERE NOT notify", &[]).await.map_err(failed)?;
    tx.execute("SELECT dynos_share(VARIADIC $1::text[])", &[&names(shared)]).await.map_err(failed)?;
    tx.commit().await.map_err(failed)
}
