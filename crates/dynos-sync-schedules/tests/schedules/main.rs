//! What threads and tasks share, in every order that is drawn.

mod file;
mod replica;
