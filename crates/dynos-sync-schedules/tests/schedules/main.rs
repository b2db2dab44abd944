//! What threads and tasks share, in every order that is drawn.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;
mod engine;
mod file;
mod replica;
mod resolver;
mod seams;
mod sessions;
mod world;
