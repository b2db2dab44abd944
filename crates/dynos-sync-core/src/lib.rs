//! What an offline-first sync engine knows and decides.
//!
//! This crate does no I/O. It opens no file and no socket, runs no task, reads no clock and draws no random
//! number; whatever it needs of those is handed to it. It holds
//!
//! * the vocabulary: [`RecordKey`], [`Edit`], [`Entry`], [`Change`], [`Cursor`], [`TableSpec`];
//! * the planners of [`plan`]: plain functions from *what was seen* to *what to do*;
//! * why a record has not synced, and whether a database is sound: [`doctor`];
//! * the conflict strategies of [`conflict`], the privacy gate [`Redactor`] and the row gate [`Ownership`];
//! * the seams that adapters implement: [`Replica`] (a device's database), [`Remote`] (a backend), [`Clock`];
//! * the small store roles of [`split`], for those who bring their own storage, and what lifts them to the seams;
//! * an in-memory replica and an in-memory server ([`memory`]), held to the same conformance suites as the real
//!   ones (`conformance`, behind the feature `testing`).
//!
//! Applications use the crate `dynos-sync`, which drives these parts. Use this one to write an adapter.
//!
//! # Example
//!
//! Two edits of one record that were never sent travel as one:
//!
//! ```
//! use dynos_sync_core::{Edit, fields};
//!
//! let created = Edit::Upsert(fields([("title", "milk".into()), ("done", false.into())]));
//! let ticked = Edit::Patch(fields([("done", true.into())]));
//! assert_eq!(
//!     created.then(ticked),
//!     Edit::Upsert(fields([("title", "milk".into()), ("done", true.into())]))
//! );
//! ```

pub mod clock;
pub mod conflict;
#[cfg(feature = "testing")]
pub mod conformance;
mod cursor;
pub mod doctor;
mod entry;
mod error;
mod ids;
pub mod memory;
mod ownership;
pub mod plan;
pub mod query;
mod record;
mod redact;
pub mod remote;
pub mod replica;
#[doc(hidden)]
pub mod sabotage;
mod schema;
pub mod snapshot;
pub mod split;
mod table;
pub mod wire;

pub use clock::{Clock, HybridClock, Millis};
pub use cursor::Cursor;
pub use entry::{Edit, Entry, Operation, Sent};
pub use error::{Invalid, Limits};
pub use ids::{Counter, Generation, RecordId, RecordKey, ReplicaId, Seq, TableName};
pub use ownership::{Ownership, Violation};
pub use query::{Queries, Rows};
pub use record::{Change, Fields, alike, fields, measure};
pub use redact::{REDACTED, Redactor};
pub use remote::{Remote, RemoteError};
pub use replica::{Replica, ReplicaError};
pub use schema::{Part, Schema};
pub use table::{Column, ForeignKey, Index, Shape, TableSpec};

pub use serde_json::{Value, json};
