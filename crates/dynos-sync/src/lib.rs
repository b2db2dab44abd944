//! Offline-first sync: write to a local database, never wait for the network, converge everywhere.

mod clock;
mod config;
mod driver;
mod engine;
mod error;
mod event;
mod job;
mod report;
mod worker;

pub use clock::SystemClock;
pub use config::{SyncConfig, TransientHook};
pub use driver::Driver;
pub use engine::{Builder, Status, SyncEngine};
pub use error::SyncError;
pub use event::{EventStream, SyncEvent, TimedEvent};
pub use report::{DrainReport, PullReport, SyncReport, TableReport};

pub use dynos_sync_core as core;
#[cfg(feature = "http")]
pub use dynos_sync_remote as remote;
#[cfg(feature = "sqlite")]
pub use dynos_sync_sqlite as sqlite;

pub use dynos_sync_core::{Edit, Fields, Operation, conflict::Strategy, fields, json};
