//! Explores every state that two devices, a server and a bad network between them can get into, and checks the
//! invariants of `docs/protocol.md` in each. What is modelled, and what is not: `docs/model.md`.

#![allow(clippy::expect_used, reason = "the parts in memory fail only by a mistake of the model's")]

pub mod device;
pub mod edit;
pub mod explore;
pub mod fault;
pub mod intern;
pub mod job;
pub mod model;
pub mod properties;
pub mod rules;
pub mod server;
pub mod settle;
pub mod variant;
pub mod words;
pub mod world;
