//! dynos-sync on SQLite: the application's own tables, and the queue, in one file.
//!
//! [`SqliteReplica`] keeps a device's rows where the application has them already: in its own tables, with their real
//! columns and keys. Any program may go on writing them with plain SQL. Triggers note what was touched, in that program's
//! own transaction; nothing has to be loaded or linked.
//!
//! ```
//! use dynos_sync_core::{Replica, replica::TableOptions};
//! use dynos_sync_sqlite::{SqliteOptions, SqliteReplica};
//! # use futures_executor::block_on;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("app.sqlite");
//! // A program that knows nothing of syncing.
//! let program = rusqlite::Connection::open(&path)?;
//! program.execute_batch("CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT)")?;
//!
//! let replica = SqliteReplica::open(&path, &SqliteOptions::default())?;
//! block_on(replica.add_table(TableOptions::new("notes".parse()?)))?;
//!
//! program.execute_batch("INSERT INTO notes VALUES (1, 'milk')")?;
//! assert_eq!(block_on(replica.state())?.pending, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Tables
//!
//! A table is synced with all columns that hold data (generated ones are computed on every device). It needs a primary
//! key, of any name, type and number of columns. Views, virtual tables and tables without a key are refused with the
//! reason. A table that does not exist is made: as the server's declaration says, or as a document table
//! (`id`, `data`), which takes any JSON object.
//!
//! # Ids
//!
//! | key | id of the record |
//! |---|---|
//! | one column with text affinity | the text itself |
//! | one column of another type | the value as compact JSON: `17`, `0.5`; a text is itself, unless that would read as one of these, then it is a JSON string |
//! | several columns | a JSON array of their values: `[1,5]` |
//!
//! The mapping is one to one. A row whose key has a NULL in it cannot be synced and is passed over.
//!
//! # Values
//!
//! | SQLite | JSON |
//! |---|---|
//! | NULL | `null` |
//! | INTEGER | an integer; `true` and `false` for 1 and 0 in a column whose declared type contains `BOOL` |
//! | REAL | a number with a fraction or exponent; an infinity is `{"$real": "Infinity"}` or `"-Infinity"` |
//! | TEXT | a string; in a column whose declared type contains `JSON`, a compactly written object or array is that object or array; text that is not UTF-8 is `{"$text": base64}` |
//! | BLOB | `{"$blob": base64}` |
//!
//! Every SQLite value arrives in the same column of another device as the same value of the same type. The other way
//! round, an object or array for any other column is stored as compact JSON text; integers beyond 64 bits, which SQLite
//! cannot keep, are refused by name, and so is a negative zero where the column's type would lose its sign.
//!
//! # Other programs
//!
//! They may insert, update, delete, replace, cascade and change keys, in transactions of any size. Two things are theirs
//! to know: a program that drops or renames a *column* has to `untrack` the table first, since SQLite refuses to drop what a trigger
//! names; and a row that `REPLACE` deletes because of a unique index *on an expression* is not noticed.
//!
//! While changes from the server are applied, the application's own triggers run (a full-text index stays up to date), but what
//! they change is not queued: every device's triggers do it for themselves.
//!
//! # Durability
//!
//! The journal is WAL. [`Synchronous`] says when a commit is on the disk.

mod admin;
mod capture;
mod checkpoint;
mod collect;
mod columns;
mod commit;
#[cfg(test)]
mod cost;
mod create;
mod crew;
mod dart;
mod describe;
mod desk;
pub mod doctor;
mod error;
mod file;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod hub;
mod id;
mod letters;
mod listing;
mod mend;
mod pace;
mod query;
mod queue;
mod random;
mod raw;
mod reading;
mod replica;
mod rows;
mod schema;
mod session;
pub mod snapshot;
mod sql;
mod sum;
mod sync;
mod table;
mod tag;
mod transaction;
mod value;
mod watch;
mod writer;

pub use dart::{Left, TakenOver};
pub use random::Random;
pub use replica::{Candidates, SqliteOptions, SqliteReplica, Synchronous, Threads};
