//! Time that passes only when nobody has anything to do, and the devices' clocks, which tell it wrong.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use dynos_sync_core::{Clock, Millis};
use futures_util::future::BoxFuture;

/// The true time, and who waits for it.
#[derive(Clone, Debug, Default)]
pub struct Timeline(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    now: Millis,
    last: u64,
    sleepers: BTreeMap<(Millis, u64), Option<Waker>>,
}

impl Timeline {
    /// A timeline that begins at a time.
    pub fn new(now: Millis) -> Self {
        let timeline = Self::default();
        timeline.lock().now = now;
        timeline
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The true time.
    pub fn now(&self) -> Millis {
        self.lock().now
    }

    /// Ends after a pause.
    pub fn sleep(&self, pause: Millis) -> Sleep {
        let mut inner = self.lock();
        inner.last += 1;
        let key = (inner.now.saturating_add(pause.max(0)), inner.last);
        inner.sleepers.insert(key, None);
        Sleep { timeline: self.clone(), key }
    }

    /// Goes on to the next time at which somebody wakes, or to `limit`. Answers whether anybody has woken.
    pub fn advance(&self, limit: Millis) -> bool {
        let mut inner = self.lock();
        let Some((&(at, n), _)) = inner.sleepers.first_key_value() else {
            inner.now = limit.max(inner.now);
            return false;
        };
        if at > limit {
            inner.now = limit.max(inner.now);
            return false;
        }
        inner.now = at.max(inner.now);
        let waker = inner.sleepers.remove(&(at, n)).flatten();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

/// A pause.
#[derive(Debug)]
pub struct Sleep {
    timeline: Timeline,
    key: (Millis, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.timeline.lock();
        match inner.sleepers.get_mut(&self.key) {
            None => Poll::Ready(()),
            Some(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.timeline.lock().sleepers.remove(&self.key);
    }
}

/// A device's clock: ahead of the true time, or behind it.
#[derive(Clone, Debug)]
pub struct DeviceClock {
    timeline: Timeline,
    ahead: Arc<AtomicI64>,
}

impl DeviceClock {
    /// A clock that is right.
    pub fn new(timeline: Timeline) -> Self {
        Self { timeline, ahead: Arc::default() }
    }

    /// Sets by how much it is ahead.
    pub fn set_ahead(&self, by: Millis) {
        self.ahead.store(by, Ordering::Relaxed);
    }
}

impl Clock for DeviceClock {
    fn now(&self) -> Millis {
        self.timeline.now() + self.ahead.load(Ordering::Relaxed)
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.timeline.sleep(Millis::try_from(pause.as_millis()).unwrap_or(Millis::MAX)))
    }
}
