//! What threads and tasks share, in every order that is drawn.

mod ends;
mod engine;
mod file;
mod replica;
mod resolver;
mod seams;
mod sessions;
mod world;
