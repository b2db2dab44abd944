//! [`Turns`]: one thing after the other, done by whoever waits.
//!
//! A lock that is held while its holder waits for a store is not enough: the holder may be a future that nobody polls any more, or not
//! before something else is done, and what waits for it would wait for ever. Here, whoever waits for his turn does what comes before it.

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    fmt, mem,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, poll_fn},
};

/// What is to be done, in the order in which it was asked for.
#[derive(Default)]
pub(super) struct Turns(Arc<Mutex<Line>>);

#[derive(Default)]
struct Line {
    /// The number of the first that is not done.
    first: u64,
    turns: VecDeque<Turn>,
    /// Who waits, by the number of what they asked for. Each is woken whenever the first can go on: nobody knows who of them will be polled.
    waiting: BTreeMap<u64, Waker>,
    /// Whether somebody came while another was at work with the first: its next wake-up may have gone by unheard.
    missed: bool,
}

enum Turn {
    Waiting(BoxFuture<'static, ()>),
    /// Somebody is at work with it at this moment, and takes it away where it was given up meanwhile.
    UnderWay {
        given_up: bool,
    },
    GivenUp,
}

type Outcome<T> = Arc<Mutex<Option<Result<T, Box<dyn Any + Send>>>>>;

impl Turns {
    /// Does this after all that was asked for before. Dropped, it is given up wherever it is.
    pub(super) async fn take<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let outcome = Outcome::default();
        // A panic is the matter of whoever asked for this, not of who happens to do it.
        let work = AssertUnwindSafe(work).catch_unwind();
        let place = self.queue({
            let outcome = Arc::clone(&outcome);
            async move {
                let done = work.await;
                *lock(&outcome) = Some(done);
            }
        });
        let _given_up_when_dropped = GivesUp { turns: self, place };
        poll_fn(|context| self.poll(place, context)).await;
        match lock(&outcome).take() {
            Some(Ok(value)) => value,
            Some(Err(panic)) => resume_unwind(panic),
            None => unreachable!("BUG: what was done, and not given up, has an outcome"),
        }
    }

    fn queue(&self, turn: impl Future<Output = ()> + Send + 'static) -> u64 {
        let mut line = lock(&self.0);
        line.turns.push_back(Turn::Waiting(turn.boxed()));
        line.first + line.turns.len() as u64 - 1
    }

    /// Goes on with whatever is first, until `place` is done.
    fn poll(&self, place: u64, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut line = lock(&self.0);
            if line.first > place {
                return Poll::Ready(());
            }
            line.waiting.insert(place, context.waker().clone());
            let mut work = match mem::replace(&mut line.turns[0], Turn::UnderWay { given_up: false }) {
                Turn::Waiting(work) => work,
                under_way @ Turn::UnderWay { .. } => {
                    line.turns[0] = under_way;
                    line.missed = true;
                    return Poll::Pending;
                }
                Turn::GivenUp => {
                    wake(line.pop());
                    continue;
                }
            };
            drop(line);
            let waker = Waker::from(Arc::new(Bell(Arc::downgrade(&self.0))));
            let polled = work.as_mut().poll(&mut Context::from_waker(&waker));

            let mut line = lock(&self.0);
            if polled.is_pending() && matches!(line.turns[0], Turn::UnderWay { given_up: false }) {
                line.turns[0] = Turn::Waiting(work);
                let missed = mem::take(&mut line.missed);
                let unheard = if missed { mem::take(&mut line.waiting) } else { BTreeMap::new() };
                drop(line);
                wake(unheard);
                return Poll::Pending;
            }
            let waiting = line.pop();
            drop(line);
            wake(waiting);
            // It may hold anything: not with the line locked.
            drop(work);
        }
    }

    fn give_up(&self, place: u64) {
        let mut line = lock(&self.0);
        line.waiting.remove(&place);
        let Some(ahead) = place.checked_sub(line.first) else { return };
        let turn = &mut line.turns[ahead as usize];
        if let Turn::UnderWay { given_up } = turn {
            *given_up = true;
            return;
        }
        let given_up = mem::replace(turn, Turn::GivenUp);
        // The others go on without it.
        let waiting = if ahead == 0 { mem::take(&mut line.waiting) } else { BTreeMap::new() };
        drop(line);
        wake(waiting);
        drop(given_up);
    }
}

impl Line {
    /// The first is done. Answers who is to be told: whoever asked for it, and those who can go on with the next.
    fn pop(&mut self) -> BTreeMap<u64, Waker> {
        self.turns.pop_front();
        self.first += 1;
        self.missed = false;
        mem::take(&mut self.waiting)
    }
}

/// What the first is woken by: it wakes all who wait.
struct Bell(Weak<Mutex<Line>>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if let Some(line) = self.0.upgrade() {
            let waiting = mem::take(&mut lock(&line).waiting);
            wake(waiting);
        }
    }
}

struct GivesUp<'a> {
    turns: &'a Turns,
    place: u64,
}

impl Drop for GivesUp<'_> {
    fn drop(&mut self) {
        self.turns.give_up(self.place);
    }
}

/// Not with the line locked: who is woken may be polled at once.
fn wake(waiting: BTreeMap<u64, Waker>) {
    waiting.into_values().for_each(Waker::wake);
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
    use std::{panic::catch_unwind, pin::pin, sync::mpsc, thread};

    use futures_executor::block_on;

    use super::*;

    /// Waits once, as for a disk.
    async fn pause() {
        let mut polled = false;
        poll_fn(|context| match mem::replace(&mut polled, true) {
            true => Poll::Ready(()),
            false => {
                context.waker().wake_by_ref();
                Poll::Pending
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
    fn what_is_given_up_is_dropped_at_once() {
        let turns = Turns::default();
        for first in [false, true] {
            let mut before = pin!(turns.take(pause()));
            if !first {
                assert!((&mut before).now_or_never().is_none());
            }
            let (held, end) = mpsc::channel::<()>();
            let given_up = turns.take(async move {
                pause().await;
                drop(held);
            });
            assert!(given_up.now_or_never().is_none());
            assert!(end.try_recv().is_err_and(|error| error == mpsc::TryRecvError::Disconnected), "{first}");
        }
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

    /// Waits for another thread, as for a store of its own.
    async fn elsewhere(threads: mpsc::Sender<Waker>) {
        let mut asked = false;
        poll_fn(|context| match mem::replace(&mut asked, true) {
            true => Poll::Ready(()),
            false => {
                threads.send(context.waker().clone()).unwrap();
                Poll::Pending
            }
        })
        .await;
    }

    /// Each poll of one who gives up may be the one that a wake-up was for.
    #[test]
    fn no_wake_up_is_lost_to_those_who_give_up() {
        let turns = Arc::new(Turns::default());
        let (asked, wakers) = mpsc::channel::<Waker>();
        let store = thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
        let callers: Vec<_> = (0..4)
            .map(|n| {
                let (turns, asked) = (Arc::clone(&turns), asked.clone());
                thread::spawn(move || {
                    for round in 0..5000 {
                        let work = turns.take(elsewhere(asked.clone()));
                        match (round + n) % 3 {
                            0 => drop(work.now_or_never()),
                            _ => block_on(work),
                        }
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        drop(asked);
        store.join().unwrap();
    }
}
