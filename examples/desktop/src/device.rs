//! This device: its file, and the server that it syncs with.

use std::{error::Error, path::Path, time::Duration};

use dynos_sync::{Strategy, SyncEngine, blocking, remote::HttpRemote};

use crate::task::Task;

/// Opens the file, which is made where it is missing. The engine syncs it with the server from now on.
///
/// # Errors
/// Where that is no address, or the file cannot be opened.
pub fn open(file: &Path, server: &str, token: &str) -> Result<blocking::SyncEngine, Box<dyn Error>> {
    let server = HttpRemote::builder(server).token(token).build()?;
    let engine = SyncEngine::open(file, server)?.record::<Task>().configure(|config| {
        config.conflict_strategy = Strategy::Merge;
        // Somebody is looking: a server that is back should be seen soon.
        config.max_backoff = Duration::from_secs(2);
    });
    Ok(engine.start_blocking()?)
}
