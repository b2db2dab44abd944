//! What the tests of the engine share: a clock that is set, and a network that loses, repeats and delays.
#![allow(dead_code, reason = "each test file uses its part of it")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use dynos_sync::core::{
    Clock, Millis, Remote, RemoteError, TableSpec,
    wire::{Heads, HeadsRequest, Page, PullRequest, PushAnswer, PushRequest},
};
use futures_util::future::BoxFuture;

/// A clock that stands until it is set. Nobody sleeps on it.
#[derive(Debug, Default)]
pub(crate) struct TestClock(pub(crate) AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Millis {
        self.0.load(Ordering::Relaxed)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// A small generator (xorshift64*, Vigna 2014): the same seed gives the same schedule.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What goes wrong on the wire, in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) lost_request: u64,
    pub(crate) lost_reply: u64,
    pub(crate) delayed: u64,
    pub(crate) repeated: u64,
}

/// A remote behind a bad network.
#[derive(Debug)]
pub(crate) struct BadNetwork {
    pub(crate) inner: Arc<dyn Remote>,
    pub(crate) state: Arc<Mutex<NetworkState>>,
}

#[derive(Debug)]
pub(crate) struct NetworkState {
    pub(crate) faults: Faults,
    pub(crate) random: Random,
    /// Pushes that are still on the wire.
    pub(crate) limbo: Vec<(Arc<dyn Remote>, PushRequest)>,
}

enum Fate {
    Through,
    LostRequest,
    LostReply,
}

impl BadNetwork {
    fn fate(&self) -> Fate {
        let mut state = self.state.lock().unwrap();
        let Faults { lost_request, lost_reply, .. } = state.faults;
        if state.random.chance(lost_request) {
            Fate::LostRequest
        } else if state.random.chance(lost_reply) {
            Fate::LostReply
        } else {
            Fate::Through
        }
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
        match self.fate() {
            Fate::Through => call.await,
            Fate::LostRequest => Err(RemoteError::transient("lost request")),
            Fate::LostReply => call.await.and(Err(RemoteError::transient("lost reply"))),
        }
    }
}

#[async_trait::async_trait]
impl Remote for BadNetwork {
    async fn declare(&self, tables: &[TableSpec]) -> Result<(), RemoteError> {
        self.call(self.inner.declare(tables)).await
    }

    async fn tables(&self) -> Result<Vec<TableSpec>, RemoteError> {
        self.call(self.inner.tables()).await
    }

    async fn heads(&self, request: HeadsRequest) -> Result<Heads, RemoteError> {
        self.call(self.inner.heads(request)).await
    }

    async fn push(&self, request: &PushRequest) -> Result<PushAnswer, RemoteError> {
        {
            let mut state = self.state.lock().unwrap();
            let Faults { delayed, repeated, .. } = state.faults;
            if state.random.chance(delayed) {
                state.limbo.push((Arc::clone(&self.inner), request.clone()));
                return Err(RemoteError::transient("timeout"));
            }
            if state.random.chance(repeated) {
                state.limbo.push((Arc::clone(&self.inner), request.clone()));
            }
        }
        self.call(self.inner.push(request)).await
    }

    async fn pull(&self, request: PullRequest) -> Result<Page, RemoteError> {
        self.call(self.inner.pull(request)).await
    }
}
