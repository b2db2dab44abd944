//! dynos-sync on SQLite: the application's own tables, and the queue, in one file.
//!
//! [`SqliteReplica`] keeps a device's rows where the application has them already: in its own tables, with their real
//! columns and keys. Any program may go on writing them with plain SQL. Triggers note what was touched, in that program's
//! own transaction; nothing has to be loaded or linked.

mod admin;
mod capture;
mod collect;
mod commit;
#[cfg(test)]
mod cost;
mod create;
mod describe;
mod error;
mod header;
mod id;
mod letters;
mod queue;
mod reading;
mod replica;
mod rows;
mod session;
mod sql;
mod table;
mod value;
mod writer;

pub use replica::{Candidates, SqliteOptions, SqliteReplica, Synchronous};
