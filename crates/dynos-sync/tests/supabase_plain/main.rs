//! Devices that sync a Supabase project's tables as they are, through real PostgREST.
#![cfg(feature = "supabase")]
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod converging;
mod device;
mod random;
mod repeating;
