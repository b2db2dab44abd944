//! The engine's jobs: each looks, plans, and commits or sends.

mod doctor;
mod drain;
mod pull;
mod review;
pub(crate) mod snapshot;
mod write;
