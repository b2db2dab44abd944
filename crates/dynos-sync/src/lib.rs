//! Offline-first sync: write to a local database, never wait for the network, converge everywhere.
//!
//! An application holds a [`SyncEngine`]. Every write goes to the local database, together with its place in the queue, in
//! one transaction. A thread of the engine's own pushes what is queued and pulls what others changed. Conflicts are
//! decided by one [`Strategy`], with the same outcome on every device.
//!
//! ```
//! # use futures_executor::block_on;
//! use dynos_sync::{SyncEngine, fields, sqlite::{SqliteOptions, SqliteReplica}};
//! # use dynos_sync::core::memory::MemoryServer;
//! # let server = MemoryServer::new();
//! # let dir = tempfile::tempdir()?;
//! # let (phone, laptop) = (dir.path().join("phone.sqlite"), dir.path().join("laptop.sqlite"));
//! # block_on(async {
//!
//! // Any backend will do: `HttpRemote` (feature `http`), or a server in memory, as here.
//! let phone = SqliteReplica::open(phone, &SqliteOptions::default())?;
//! let phone = SyncEngine::builder(phone, server.remote("ada")).table("tasks").start().await?;
//! let laptop = SqliteReplica::open(laptop, &SqliteOptions::default())?;
//! let laptop = SyncEngine::builder(laptop, server.remote("ada")).table("tasks").start().await?;
//!
//! phone.write("tasks", "t1", fields([("title", "milk".into()), ("done", false.into())])).await?;
//! phone.sync_all().await?; // or leave it to the engine
//!
//! laptop.sync_all().await?;
//! laptop.patch("tasks", "t1", fields([("done", true.into())])).await?;
//! laptop.sync_all().await?;
//!
//! phone.sync_all().await?;
//! let task = phone.get("tasks", "t1").await?.expect("it was written");
//! assert_eq!((&task["title"], &task["done"]), (&"milk".into(), &true.into()));
//!
//! phone.close().await;
//! laptop.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! * An acknowledged write survives a crash of the program, and reaches the server or the dead letters, never nowhere.
//! * Edits of a record take effect in the order in which they were made, each at most once, whatever is lost, repeated or
//!   delayed on the wire.
//! * When writing stops and every device has synced, all are equal.
//! * Being offline, for however long, loses nothing and counts against nothing.
//!
//! The whole contract is in the repository's `docs/protocol.md`.
//!
//! # Why has this not synced?
//!
//! [`SyncEngine::explain`] says it of a record, in a sentence with a remedy. [`SyncEngine::inspect`] looks through the database,
//! [`SyncEngine::support_bundle`] writes down how everything stands without anything of the user's, [`SyncEngine::metrics`] counts. Spans
//! are made with `tracing`. The names are listed in the repository's `docs/observability.md`.
//!
//! # Without async
//!
//! [`blocking`] is the same engine for code that waits and calls back, a GUI's say. The futures need no runtime either: what does,
//! runs on the engine's thread, and any executor will do.
//!
//! # Features
//!
//! * `sqlite` (default): [`sqlite::SqliteReplica`], the application's own tables in an SQLite file.
//! * `http`: `remote::HttpRemote`, the client of dynos-sync's own server.
//! * `supabase`: `remote::SupabaseRemote`, a Supabase project in place of a server, and `remote::GoTrueSession`.

pub mod blocking;
mod clock;
#[cfg(feature = "sqlite")]
mod clone;
mod config;
mod driver;
mod engine;
mod error;
mod event;
mod job;
mod metrics;
mod observe;
mod query;
mod report;
mod status;
mod table;
mod trace;
mod worker;

pub use clock::SystemClock;
#[cfg(feature = "sqlite")]
pub use clone::clone_database;
pub use config::{SyncConfig, TransientHook};
pub use driver::Driver;
pub use engine::{Builder, SyncEngine};
pub use error::SyncError;
pub use event::{EventStream, SyncEvent, TimedEvent};
pub use metrics::Metrics;
pub use query::{LiveQuery, Params};
pub use report::{DrainReport, PullReport, SyncReport, TableReport};
pub use status::{Status, StatusStream};
pub use table::{Record, Table, new_id};

pub use dynos_sync_core as core;
#[cfg(any(feature = "http", feature = "supabase"))]
pub use dynos_sync_remote as remote;
#[cfg(feature = "sqlite")]
pub use dynos_sync_sqlite as sqlite;

pub use dynos_sync_core::{Edit, Fields, Operation, conflict::Strategy, fields, json};

/// The README's program compiles.
#[cfg(all(doctest, feature = "http", feature = "sqlite"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
