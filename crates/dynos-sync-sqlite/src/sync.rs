//! What threads share. Compiled with `cfg(shuttle)`, a test decides which of them goes on (docs/testing.md).

#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic, mpsc},
    thread,
};
#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic, mpsc},
    thread,
};
