//! The HTTP remote against servers that misbehave, over real sockets.
#![cfg(feature = "http")]
// Clippy knows the test functions as tests, but not their helpers.
#![allow(clippy::unwrap_used)]

mod answers;
mod auth;
mod hints;
mod limits;
mod redirects;
mod requests;
mod secrecy;
mod server;
mod status;
mod tls;
