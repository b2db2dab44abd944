//! The services that tests run beside. For tests only: what goes wrong here panics, and says what to do.
//!
//! * [`Database`]: an empty database of one's own on the PostgreSQL that all tests share. Takes a tenth of a second.
//! * [`Postgres`]: a PostgreSQL of one's own, which may be stopped and restarted. Takes half a second.
//! * [`Project`]: PostgREST before a database of one's own. Takes half a second.
//! * [`Supabase`]: the shared stack of authentication and PostgREST, and the database behind it.
//!
//! The shared ones are started by `scripts/test`, or kept running by hand with `scripts/testbed/up`. A test without
//! them fails; nothing is skipped.
//!
//! Calls block the thread, for as long as they take: none needs a runtime, and `Drop` works in any.

mod database;
mod postgres;
mod project;
mod shared;
mod supabase;

pub use database::Database;
pub use postgres::Postgres;
pub use project::Project;
pub use supabase::Supabase;
