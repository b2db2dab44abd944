//! The store on a real Postgres: each test has a database of its own, on the server that `scripts/test` starts.

#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

#[path = "../support/mod.rs"]
mod support;

mod blocks;
mod caller;
mod conformance;
mod database;
mod order;
mod servers;
mod strangers;
mod tables;
