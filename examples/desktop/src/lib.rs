//! A window with a list of tasks that is edited offline, on any number of devices.
//!
//! It is drawn from three things: what the engine has told last (`news`), how the records in sight stand, and what is being typed (`app`).
//! What a click asks for is an `action`. Its effect comes back as news: nothing that is shown is changed by hand.

mod action;
mod app;
mod device;
mod indicator;
mod list;
mod mark;
mod news;
mod refused;
mod task;

pub use app::App;
pub use device::open;
