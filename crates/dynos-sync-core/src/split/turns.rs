//! [`Turns`]: one thing after the other, done by whoever waits.
//!
//! A lock that is held while its holder waits for a store is not enough: the holder may be a future that nobody polls any more, or not
//! before something else is done, and what waits for it would wait for ever. Here, whoever waits for his turn does what comes before it.

use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{AbortHandle, Abortable, BoxFuture, Shared},
};

/// What is to be done, in the order in which it was asked for.
#[derive(Default)]
pub(super) struct Turns(Mutex<Line>);

#[derive(Default)]
struct Line {
    /// The number of the first that is not done.
    first: u64,
    waiting: VecDeque<Shared<BoxFuture<'static, ()>>>,
}

type Outcome<T> = Arc<Mutex<Option<Result<T, Box<dyn Any + Send>>>>>;

struct GivesUp(AbortHandle);

impl Drop for GivesUp {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Turns {
    /// Does this after all that was asked for before. Dropped, it is given up wherever it is.
    pub(super) async fn take<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (outcome, (giving_up, given_up)) = (Outcome::default(), AbortHandle::new_pair());
        let _given_up_when_dropped = GivesUp(giving_up);
        // A panic is the matter of whoever asked for this, not of who happens to do it.
        let work = Abortable::new(AssertUnwindSafe(work).catch_unwind(), given_up);
        let place = self.queue({
            let outcome = Arc::clone(&outcome);
            async move { *lock(&outcome) = work.await.ok() }
        });
        while let Some((number, turn)) = self.first_up_to(place) {
            turn.await;
            self.done(number);
        }
        match lock(&outcome).take() {
            Some(Ok(value)) => value,
            Some(Err(panic)) => resume_unwind(panic),
            None => unreachable!("BUG: what was done, and not given up, has an outcome"),
        }
    }

    fn queue(&self, turn: impl Future<Output = ()> + Send + 'static) -> u64 {
        let mut line = lock(&self.0);
        line.waiting.push_back(turn.boxed().shared());
        line.first + line.waiting.len() as u64 - 1
    }

    fn first_up_to(&self, place: u64) -> Option<(u64, Shared<BoxFuture<'static, ()>>)> {
        let line = lock(&self.0);
        (line.first <= place).then(|| (line.first, line.waiting[0].clone()))
    }

    fn done(&self, number: u64) {
        let mut line = lock(&self.0);
        if line.first == number {
            line.first += 1;
            // What it holds is dropped after the lock.
            let done = line.waiting.pop_front();
            drop(line);
            drop(done);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turns")
    }
}

#[cfg(test)]
mod tests {
    use std::{panic::catch_unwind, pin::pin};

    use futures_executor::block_on;
    use futures_util::future;

    use super::*;

    /// Waits once, as for a disk.
    async fn pause() {
        let mut polled = false;
        future::poll_fn(|context| match std::mem::replace(&mut polled, true) {
            true => std::task::Poll::Ready(()),
            false => {
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }
        })
        .await;
    }

    #[test]
    fn whoever_waits_does_what_comes_before_but_for_what_was_given_up() {
        let (turns, log) = (Turns::default(), Arc::new(Mutex::new(Vec::new())));
        let note = |n: u8| {
            let log = Arc::clone(&log);
            async move {
                pause().await;
                lock(&log).push(n);
                pause().await;
                lock(&log).push(n);
            }
        };
        let mut begun = pin!(turns.take(note(1)));
        assert!((&mut begun).now_or_never().is_none());
        assert!(turns.take(note(2)).now_or_never().is_none());
        block_on(turns.take(note(3)));
        assert_eq!(*lock(&log), [1, 1, 3, 3]);
        block_on(begun);
    }

    #[test]
    fn a_panic_is_of_who_asked() {
        let turns = Turns::default();
        let mut bad = pin!(turns.take(async {
            pause().await;
            panic!("bad");
        }));
        assert!((&mut bad).now_or_never().is_none());
        assert_eq!(block_on(turns.take(async { 1 })), 1);
        assert!(catch_unwind(AssertUnwindSafe(|| block_on(bad))).is_err());
        assert_eq!(block_on(turns.take(async { 2 })), 2);
    }
}
