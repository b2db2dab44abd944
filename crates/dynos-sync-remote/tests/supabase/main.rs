//! The Supabase remote against real PostgREST and PostgreSQL, and what stands for the authentication.
#![cfg(feature = "supabase")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod conformance;
mod failures;
mod pages;
mod plain;
mod sessions;
mod support;
mod tables;
