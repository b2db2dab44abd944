//! Time, of which days can be skipped.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    thread,
    time::Duration,
};

use dynos_sync::{
    SystemClock,
    core::{Clock, Millis},
};
use futures_util::future::BoxFuture;

/// The machine's clock, that may begin some time ago: until it has come to the present, waiting takes no time.
#[derive(Debug)]
pub(crate) struct LateClock {
    now: AtomicI64,
    present: Millis,
}

impl LateClock {
    pub(crate) fn new(late_by: Duration) -> Self {
        let present = SystemClock.now();
        Self { now: AtomicI64::new(present.saturating_sub(millis(late_by))), present }
    }

    pub(crate) fn is_late(&self) -> bool {
        self.now.load(Ordering::Acquire) < self.present
    }

    pub(crate) fn wait(&self, pause: Duration) {
        if self.is_late() {
            self.now.fetch_add(millis(pause), Ordering::AcqRel);
        } else {
            thread::sleep(pause);
        }
    }
}

impl Clock for LateClock {
    fn now(&self) -> Millis {
        let now = self.now.load(Ordering::Acquire);
        if now < self.present { now } else { SystemClock.now() }
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        SystemClock.sleep(pause)
    }
}

fn millis(pause: Duration) -> Millis {
    Millis::try_from(pause.as_millis()).unwrap_or(Millis::MAX)
}
