//! The planners: plain functions from what was seen to what to do.

pub mod admit;
pub mod backoff;
pub mod pull;
pub mod push;
pub mod write;
