//! What the engine promises, on the real parts: a database in a file, the real server, HTTP between them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/proxy.rs"]
mod proxy;
#[path = "../common/stack.rs"]
mod stack;

mod clocks;
mod doctor;
mod engine;
mod events;
mod flood;
mod hostile_server;
mod hostile_values;
mod injection;
mod local_columns;
mod logout;
mod lost_replies;
mod offline;
mod ordering;
mod other_programs;
mod panics;
mod record_states;
mod refused_edits;
mod resources;
mod restore;
mod schema;
mod sensitive;
mod snapshots;
mod strategies;
mod transactions;
mod typed_conflicts;
mod unpolled;
