//! [`Desk`]: where work for a connection is handed in.

use std::fmt;

use dynos_sync_core::ReplicaError;

use crate::{
    error::Result,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
        thread,
    },
};

/// Who does jobs, one at a time.
pub(crate) trait Clerk {
    type Job;

    fn work(&mut self, job: Self::Job);

    /// Does a job that takes no time worth speaking of; gives back any other.
    fn work_at_once(&mut self, job: Self::Job) -> Option<Self::Job> {
        Some(job)
    }
}

/// Where work is handed in, until it is closed.
pub(crate) struct Desk<C: Clerk>(Mutex<Option<Place<C>>>);

enum Place<C: Clerk> {
    /// The clerks sit on threads of their own.
    Elsewhere(Sender<C::Job>, Option<Arc<Seat<C>>>),
    /// Whoever hands something in waits until it is done.
    Here(C),
}

/// A clerk on a thread of its own, with whom others may do small jobs at once while nothing waits: waking a thread, and being woken
/// by it, takes longer than they do.
pub(crate) struct Seat<C> {
    clerk: Mutex<Option<C>>,
    /// Jobs that were handed in and not begun.
    waiting: AtomicUsize,
    /// Whether the last jobs came together: then the next will, and are done together if nobody does one at once in between.
    crowded: AtomicBool,
}

impl<C> Seat<C> {
    pub(crate) fn new(clerk: C) -> Self {
        Self { clerk: Mutex::new(Some(clerk)), waiting: AtomicUsize::new(0), crowded: AtomicBool::new(false) }
    }

    /// The clerk, until he has gone.
    pub(crate) fn clerk(&self) -> MutexGuard<'_, Option<C>> {
        self.clerk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job that was handed in is begun. The clerk is held.
    pub(crate) fn begun(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many jobs came together. The clerk is held.
    pub(crate) fn came(&self, together: usize) {
        self.crowded.store(together > 1, Ordering::Release);
    }

    /// Lets those go first that are about to hand something in, where others did so together.
    pub(crate) fn invite(&self) {
        if self.crowded.load(Ordering::Acquire) {
            thread::yield_now();
        }
    }

    /// Does the job, if that is a matter of a moment now.
    fn try_at_once(&self, job: C::Job) -> Option<C::Job>
    where
        C: Clerk,
    {
        if self.waiting.load(Ordering::Acquire) > 0 || self.crowded.load(Ordering::Acquire) {
            return Some(job);
        }
        match self.clerk.try_lock() {
            Ok(mut clerk) => match clerk.as_mut() {
                Some(clerk) => clerk.work_at_once(job),
                None => Some(job),
            },
            Err(_) => Some(job),
        }
    }
}

impl<C: Clerk> Desk<C> {
    /// A desk whose jobs arrive at the receiver.
    pub(crate) fn elsewhere() -> (Self, Receiver<C::Job>) {
        let (sender, receiver) = mpsc::channel();
        (Self(Mutex::new(Some(Place::Elsewhere(sender, None)))), receiver)
    }

    /// As [`elsewhere`](Self::elsewhere), with a clerk who may be found at his seat.
    pub(crate) fn beside(seat: &Arc<Seat<C>>) -> (Self, Receiver<C::Job>) {
        let (sender, receiver) = mpsc::channel();
        (Self(Mutex::new(Some(Place::Elsewhere(sender, Some(Arc::clone(seat)))))), receiver)
    }

    /// A desk that does its jobs itself.
    pub(crate) fn here(clerk: C) -> Self {
        Self(Mutex::new(Some(Place::Here(clerk))))
    }

    pub(crate) fn hand_in(&self, mut job: C::Job) -> Result<()> {
        if let Some(seat) = self.seat() {
            // Not with the desk held: others would wait for it, and not with each other.
            match seat.try_at_once(job) {
                None => return Ok(()),
                Some(left) => job = left,
            }
        }
        match self.place().as_mut() {
            Some(Place::Elsewhere(jobs, seat)) => {
                if let Some(seat) = seat {
                    seat.waiting.fetch_add(1, Ordering::AcqRel);
                }
                jobs.send(job).map_err(|_| ReplicaError::Closed)
            }
            Some(Place::Here(clerk)) => {
                clerk.work(job);
                Ok(())
            }
            None => Err(ReplicaError::Closed),
        }
    }

    fn seat(&self) -> Option<Arc<Seat<C>>> {
        match self.place().as_ref()? {
            Place::Elsewhere(_, seat) => seat.clone(),
            Place::Here(_) => None,
        }
    }

    fn place(&self) -> MutexGuard<'_, Option<Place<C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in nothing more. Answers the way to the threads, which end when it is dropped, after what was handed in.
    pub(crate) fn close(&self) -> Option<Sender<C::Job>> {
        match self.place().take()? {
            Place::Elsewhere(jobs, _) => Some(jobs),
            Place::Here(_) => None,
        }
    }
}

impl<C: Clerk> fmt::Debug for Desk<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Desk")
    }
}
