//! Time as the engine sees it: handed in, never read.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;

use crate::error::Limits;

/// Milliseconds since 1970-01-01 UTC.
pub type Millis = i64;

/// Where the engine gets the time and its pauses from. Tests and simulations inject their own.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The wall clock. It may step in either direction.
    fn now(&self) -> Millis;

    /// Ends after `pause`.
    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()>;
}

/// A clock for the times of edits: it never goes backwards, and never falls behind the newest time it has
/// observed from others; nor does it go past [`Limits::LATEST`], the last time that a server takes. (A hybrid logical clock, Kulkarni et al. 2014, its counter folded into the
/// milliseconds: of two edits in one millisecond the second is stamped one later.)
///
/// ```
/// use dynos_sync_core::HybridClock;
/// let clock = HybridClock::new(0);
/// assert_eq!(clock.tick(1000), 1000);
/// assert_eq!(clock.tick(990), 1001); // the wall clock stepped back
/// clock.observe(5000);               // another device is ahead
/// assert_eq!(clock.tick(1002), 5001);
/// ```
#[derive(Debug)]
pub struct HybridClock(AtomicI64);

impl HybridClock {
    /// A clock that has seen `newest`.
    pub fn new(newest: Millis) -> Self {
        Self(AtomicI64::new(newest))
    }

    /// The time for a new edit, `now` being the wall clock's.
    pub fn tick(&self, now: Millis) -> Millis {
        let next = |newest: Millis| newest.saturating_add(1).max(now).min(Limits::LATEST);
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |newest| Some(next(newest)));
        next(before.unwrap_or_else(|newest| newest))
    }

    /// Takes note of a time that another device stamped.
    pub fn observe(&self, at: Millis) {
        self.0.fetch_max(at, Ordering::AcqRel);
    }

    /// The newest time seen or given.
    pub fn newest(&self) -> Millis {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_rise_and_follow_what_was_seen_up_to_the_last_time() {
        let clock = HybridClock::new(0);
        assert_eq!([clock.tick(1000), clock.tick(990), clock.newest()], [1000, 1001, 1001]);
        clock.observe(5000);
        clock.observe(4000);
        assert_eq!([clock.newest(), clock.tick(1002)], [5000, 5001]);
        clock.observe(Limits::LATEST);
        assert_eq!(clock.tick(0), Limits::LATEST);
    }
}
