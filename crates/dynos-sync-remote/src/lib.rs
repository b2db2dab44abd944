//! Backends that a replica can sync with.
//!
//! [`HttpRemote`] is the client of dynos-sync's own protocol over HTTP (`docs/protocol.md`): a [`Remote`] that is
//! handed to the engine. It is cheap to clone, works in any tokio runtime (a current-thread one too) and
//! promises that
//!
//! * every call ends, within [`timeout`](HttpRemoteBuilder::timeout);
//! * memory is bounded by [`max_response_bytes`](HttpRemoteBuilder::max_response_bytes), whatever the server
//!   sends, compressed or not;
//! * the token goes to the configured origin alone, over TLS unless that is this very machine, and appears in no
//!   error, log line or `Debug` output; neither do the contents of records;
//! * a token that expired is refreshed once, however many calls find out at the same time.
//!
//! [`SupabaseRemote`] (feature `supabase`) does the same with a Supabase project in place of a server, and
//! [`GoTrueSession`] keeps its users signed in; see `docs/supabase.md`.
//!
//! Where the token comes from is the application's: a fixed one ([`StaticToken`], or
//! [`token`](HttpRemoteBuilder::token)) or a [`TokenProvider`] that can renew it.
//!
//! # Example
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use dynos_sync_core::Remote;
//! use dynos_sync_remote::HttpRemote;
//!
//! let remote = HttpRemote::builder("https://sync.example.com").token("eyJhbGciOi…").build()?;
//! for table in remote.tables().await? {
//!     println!("{}", table.name);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A token that is renewed through the application's own account service:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use dynos_sync_remote::{HttpRemote, Secret, TokenError, TokenProvider};
//!
//! struct Session {
//!     access: Mutex<Secret>,
//! }
//!
//! #[async_trait::async_trait]
//! impl TokenProvider for Session {
//!     async fn token(&self) -> Result<Secret, TokenError> {
//!         Ok(self.access.lock().unwrap().clone())
//!     }
//!
//!     async fn refresh(&self, _stale: &Secret) -> Result<Option<Secret>, TokenError> {
//!         let fresh = Secret::new("asked from the account service here");
//!         *self.access.lock().unwrap() = fresh.clone();
//!         Ok(Some(fresh))
//!     }
//! }
//!
//! let session = Session { access: Mutex::new("eyJhbGciOi…".into()) };
//! let remote = HttpRemote::builder("https://sync.example.com/base").token_provider(Arc::new(session)).build();
//! assert!(remote.is_ok());
//! ```
//!
//! On Android the platform's certificate verifier must be initialised before a TLS client is built; see the crate
//! `rustls-platform-verifier`. A [`root_certificate`](HttpRemoteBuilder::root_certificate) avoids it.
//!
//! [`Remote`]: dynos_sync_core::Remote

#[cfg(feature = "transport")]
mod checks;
#[cfg(feature = "transport")]
#[macro_use]
mod connection;
#[cfg(feature = "transport")]
mod error;
#[cfg(all(fuzzing, feature = "http", feature = "supabase"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "supabase")]
mod supabase;
mod token;
// Each backend uses a part of it.
#[cfg(feature = "transport")]
#[allow(dead_code, unused_imports)]
mod transport;

#[cfg(feature = "transport")]
pub use error::BuildError;
#[cfg(feature = "http")]
pub use http::{HttpRemote, HttpRemoteBuilder};
#[cfg(feature = "supabase")]
pub use supabase::{GoTrueBuilder, GoTrueSession, SignInError, SupabaseRemote, SupabaseRemoteBuilder};
pub use token::{Secret, StaticToken, TokenError, TokenProvider};
