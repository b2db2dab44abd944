//! What threads and tasks share, in every order that is drawn.

mod engine;
mod file;
mod replica;
mod resolver;
mod seams;
mod world;
