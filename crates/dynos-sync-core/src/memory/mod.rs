//! A replica and a server in memory, for tests of applications and for the simulator.
//!
//! They keep every promise of the seams but durability, and pass the same conformance suites as the real ones.

pub(crate) mod replica;
mod server;

pub use replica::MemoryReplica;
pub use server::{MemoryRemote, MemoryServer};
