//! What threads share. Compiled with `cfg(shuttle)`, a test decides which of them goes on (docs/testing.md).

#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{Mutex, PoisonError, mpsc},
    thread,
};
#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Mutex, PoisonError, mpsc},
    thread,
};
