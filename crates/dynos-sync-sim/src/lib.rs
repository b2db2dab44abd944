//! Devices, server, network, disks and clocks from one seed, and the checkers that watch them.

mod check;
pub mod device;
pub mod disk;
pub mod executor;
pub mod history;
pub mod mirror;
pub mod network;
pub mod replica;
pub mod server;
mod step;
pub mod swarm;
pub mod tally;
pub mod time;
pub mod world;
