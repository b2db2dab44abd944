//! Plain mode: tables as they are.

mod conformance;
mod deleting;
mod drift;
mod keys;
mod late;
mod limits;
mod pages;
mod refusals;
mod status;
mod table;
mod users;
mod writing;
