//! Devices, server, network, disks and clocks from one seed, and the checkers that watch them.

pub mod campaign;
mod check;
pub mod data;
pub mod device;
pub mod disk;
pub mod executor;
pub mod history;
pub mod mirror;
pub mod network;
pub mod replica;
pub mod server;
pub mod shrink;
mod step;
pub mod swarm;
pub mod table;
pub mod tally;
pub mod time;
pub mod world;
