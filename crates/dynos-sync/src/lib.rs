//! Offline-first sync: write to a local database, never wait for the network, converge everywhere.
//!
//! An application holds a [`SyncEngine`]. Every write goes to the local database, together with its place in the queue, in
//! one transaction. A thread of the engine's own pushes what is queued and pulls what others changed. Conflicts are
//! decided by one [`Strategy`], with the same outcome on every device.
//!
//! ```
//! # use futures_executor::block_on;
//! # use dynos_sync::core::memory::MemoryServer;
//! use dynos_sync::{Record, SyncEngine, new_id};
//!
//! #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
//! struct Task {
//!     id: String,
//!     title: String,
//!     done: bool,
//! }
//!
//! impl Record for Task {
//!     const TABLE: &'static str = "tasks";
//! }
//!
//! # let server = MemoryServer::new();
//! # let dir = tempfile::tempdir()?;
//! # let (phone, laptop) = (dir.path().join("phone.sqlite"), dir.path().join("laptop.sqlite"));
//! # block_on(async {
//! // Any backend will do: `HttpRemote` (feature `http`), or a server in memory, as here.
//! let phone = SyncEngine::open(phone, server.remote("ada"))?.record::<Task>().start().await?;
//! let laptop = SyncEngine::open(laptop, server.remote("ada"))?.record::<Task>().start().await?;
//!
//! let milk = Task { id: new_id(), title: "milk".to_owned(), done: false };
//! phone.table().put(&milk).await?;
//! phone.sync_all().await?; // or leave it to the engine
//!
//! laptop.sync_all().await?;
//! laptop.table().update(&milk.id, |task: &mut Task| task.done = true).await?;
//! laptop.sync_all().await?;
//!
//! phone.sync_all().await?;
//! assert_eq!(phone.table::<Task>().all().await?, [Task { done: true, ..milk }]);
//!
//! phone.close().await;
//! laptop.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guide
//!
//! | to | see | and the manual's page |
//! |---|---|---|
//! | begin | [`SyncEngine::open`], [`SyncEngine::builder`], [`Builder`], [`SyncConfig`] | `docs/quick-start.md`, `docs/concepts.md` |
//! | read and change records of a type | [`Record`], [`Table`], [`new_id`] | |
//! | do so without a type | [`SyncEngine::write`], [`patch`](SyncEngine::patch), [`get`](SyncEngine::get), [`query`](SyncEngine::query), [`Fields`] | |
//! | show what changes | [`Table::watch`], [`SyncEngine::watch`], [`LiveQuery`] | |
//! | show how the sync stands | [`SyncEngine::watch_status`], [`Status`], [`ConnectionState`], [`SyncEngine::events`], [`SyncEvent`] | |
//! | show how a record stands | [`SyncEngine::record_state`], [`RecordState`] | |
//! | do without async | [`blocking`] | |
//! | decide conflicts, and undo it | [`Strategy`], [`Versions`], [`Resolver`](core::conflict::Resolver), [`Table::conflicts`], [`SyncEngine::watch_conflicts`] | `docs/conflicts.md` |
//! | see what was refused | [`SyncEngine::dead_letters`], [`SyncEngine::watch_dead_letters`] | `docs/concepts.md` |
//! | choose or write a backend | `remote`, [`core::Remote`], [`core::split`] | `docs/backends.md` |
//! | sign in and out | `remote::TokenProvider`, [`SyncError::AuthExpired`], [`SyncEngine::logout`] | `SECURITY.md` |
//! | test an application | [`core::memory`], [`core::Clock`], [`Builder::prepare`] | `docs/testing-your-app.md` |
//! | come from the Dart package | `sqlite::SqliteReplica::take_over_from_dart` | `docs/from-dart.md` |
//!
//! The pages are in the repository, and a book: `scripts/book --open`.
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
mod builder;
mod clock;
#[cfg(feature = "sqlite")]
mod clone;
mod config;
mod conflict;
mod driver;
mod engine;
mod error;
mod event;
mod follow;
mod job;
mod metrics;
mod observe;
mod query;
mod record_state;
mod report;
mod session;
mod status;
mod table;
mod trace;
mod transaction;
mod worker;

pub use builder::Builder;
pub use clock::SystemClock;
#[cfg(feature = "sqlite")]
pub use clone::clone_database;
pub use config::{SyncConfig, TransientHook};
pub use conflict::{Decided, Versions};
pub use driver::Driver;
pub use engine::SyncEngine;
pub use error::SyncError;
pub use event::{EventStream, SyncEvent, TimedEvent};
pub use metrics::Metrics;
pub use query::{LiveQuery, Params};
pub use record_state::RecordState;
pub use report::{DrainReport, PullReport, SyncReport, TableReport};
pub use status::{ConnectionState, Progress, Status, StatusStream};
pub use table::{Record, Table, new_id};
pub use transaction::Transaction;

pub use dynos_sync_core as core;
#[cfg(any(feature = "http", feature = "supabase"))]
pub use dynos_sync_remote as remote;
#[cfg(feature = "sqlite")]
pub use dynos_sync_sqlite as sqlite;

pub use dynos_sync_core::{Edit, Fields, Operation, Part, Schema, conflict::Strategy, fields, json};

/// The manual's programs compile, and do what they say.
#[cfg(all(doctest, feature = "http", feature = "sqlite", feature = "supabase"))]
mod manual {
    macro_rules! page {
        ($name:ident, $file:literal) => {
            #[doc = include_str!(concat!("../../../", $file))]
            struct $name;
        };
    }

    page!(Readme, "README.md");
    page!(QuickStart, "docs/quick-start.md");
    page!(Schema, "docs/schema.md");
    page!(Conflicts, "docs/conflicts.md");
    page!(Backends, "docs/backends.md");
    page!(Supabase, "docs/supabase.md");
    page!(TestingYourApp, "docs/testing-your-app.md");
    page!(FromDart, "docs/from-dart.md");
}
