//! The sync server: the protocol of `docs/protocol.md` over HTTP, on a store that is one SQLite file or, with feature
//! `postgres`, a Postgres database that several servers may share (`docs/postgres.md`).
//!
//! [`Config`] says where the data is and who may sign tokens; [`Server`] opens it and serves. Callers show a
//! JSON Web Token, whose `sub` is the user: each user has tables of their own, and all users share the tables
//! that [`Config::shared_tables`] names.
//!
//! ```
//! use dynos_sync_server::{Config, Server, config::{Auth, Secret}};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let dir = tempfile::tempdir()?;
//! let secret = Secret::new("at least thirty-two bytes of secret");
//! let server = Server::open(Config::new(dir.path().join("sync.db"), Auth::Secret(secret)))?;
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! println!("listening on {}", listener.local_addr()?);
//! let shutdown = async { /* wait for a signal */ };
//! server.serve(listener, shutdown).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Tokens
//!
//! A token is signed with a shared secret (HS256) or with a key of a JSON Web Key Set (RS256, ES256, EdDSA), see
//! [`config::Auth`]. It must have `exp` and `sub`; `nbf` is obeyed, and `aud` checked where one is configured.
//! [`mint`] makes one for trying things out. The server speaks plain HTTP: put TLS in front of it.
//!
//! # In an application
//!
//! An axum application can serve the protocol itself: [`Server::router`] is put into its router,
//! [`Server::tend`] runs beside it, and [`Server::close`] ends it.
//!
//! # Operation
//!
//! * `/healthz` answers 200 as long as the store answers, its writer and its readers. `/metrics` has numbers in the OpenMetrics
//!   format. Neither needs a token nor names a user: keep them from the outside all the same.
//! * Every request is a `tracing` span with method, route, status and duration; the user appears as a hash.
//! * With SQLite, a backup is a copy of the file made while the server is stopped, or with SQLite's own backup. After a
//!   restore, start the server as usual: devices notice, and offer again what the copy lacks. The machine's clock
//!   must not be behind the time at which the lost data was written.
//! * One process has the SQLite file open at a time; a second one is refused.
//!
//! # Limits
//!
//! Everything that a caller can make large has a bound, see [`config::Limits`]. Nothing that a caller sends is
//! written to the log or quoted in an error, but for names of tables, fields and columns in refusals, which go to
//! the caller alone.

pub mod auth;
pub mod config;
mod http;
mod metrics;
mod patient;
mod server;
mod snapshots;
pub mod store;

pub use self::{
    auth::mint,
    config::Config,
    server::{OpenError, Server},
};
