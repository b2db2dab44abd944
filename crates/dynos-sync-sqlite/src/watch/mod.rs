//! Hearing of commits by other programs, on a thread that sleeps in between.
//!
//! Whoever commits writes to the log. Where the platform says when a file is written to, `start` begins to tell of it, and nobody has
//! to look; on others it answers `None`.

#[cfg_attr(all(any(target_os = "linux", target_os = "android"), not(shuttle)), path = "inotify.rs")]
#[cfg_attr(not(all(any(target_os = "linux", target_os = "android"), not(shuttle))), path = "nothing.rs")]
mod platform;

pub(crate) use platform::{Watch, start};
