//! Connections that read beside the writer, each request in one snapshot.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::Connection;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::schema;
use crate::{config::Threads, store::StoreError};

/// How many requests are read for at once.
const CONNECTIONS: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    free: Arc<Semaphore>,
    connections: usize,
    threads: Threads,
}

impl Readers {
    pub(super) fn open(path: &Path, threads: Threads) -> Result<Self, StoreError> {
        let connections = match threads {
            Threads::Own => CONNECTIONS,
            Threads::Caller => 1,
        };
        let idle: Result<Vec<_>, _> = (0..connections).map(|_| schema::open_reader(path)).collect();
        let idle = Arc::new(Mutex::new(idle?));
        Ok(Self { idle, free: Arc::new(Semaphore::new(connections)), connections, threads })
    }

    /// Does `work` in a snapshot.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = self.free.clone().acquire_owned().await.map_err(|_| StoreError::Unavailable)?;
        let idle = self.idle.clone();
        let read = move || {
            // Held until the connection is back, also where whoever asked has gone.
            let _permit = permit;
            let mut conn =
                idle.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or(StoreError::Unavailable)?;
            let result = snapshot(&mut conn, work);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            result
        };
        match self.threads {
            Threads::Own => spawn_blocking(read).await.map_err(|_| StoreError::Unavailable)?,
            Threads::Caller => read(),
        }
    }

    /// Waits for those who read, and closes the connections.
    pub(super) async fn close(&self) {
        let all = u32::try_from(self.connections).unwrap_or(u32::MAX);
        if let Ok(_all) = self.free.acquire_many(all).await {
            self.free.close();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

fn snapshot<T>(
    conn: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let tx = conn.transaction()?;
    let value = work(&tx)?;
    tx.finish()?;
    Ok(value)
}
